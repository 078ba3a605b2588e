"""Random numbers that are the same on every machine: which ones, and what the samplers make of them.

All are raw words of PCG64, seeded by (seed, epoch or step, the method's name): NumPy keeps a bit generator's
stream for good, which it does not promise of the methods of ``numpy.random.Generator`` (its compatibility
policy, NEP 19). The name keeps methods that are given the same seed from sharing their luck. Sums that decide
about a draw are running sums, whose order of additions NumPy fixes, where ``sum`` leaves it to the machine.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyimportance.checks import check_integer
from pyimportance.order.argsort import argsort

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Chance:
    """One stream: each call goes on where the last one ended."""

    def __init__(self, method: str, seed: int, step: int = 0) -> None:
        """ArgumentError where ``seed`` or ``step`` (an epoch, mostly) is no integer >= 0."""
        entropy = [check_integer("seed", seed, 0), check_integer("epoch", step, 0)]
        entropy.append(int.from_bytes(method.encode(), "big"))
        self._bits = np.random.PCG64(np.random.SeedSequence(entropy))

    def words(self, count: int) -> npt.NDArray[np.uint64]:
        """uint64 [count], independent and uniform."""
        words: npt.NDArray[np.uint64] = self._bits.random_raw(count)
        return words

    def uniforms(self, count: int) -> Floats:
        """float64 [count] in [0, 1), multiples of 2**-53."""
        uniforms: Floats = np.multiply(self.words(count) >> np.uint64(11), 2.0**-53, dtype=np.float64)
        return uniforms

    def permutation(self, count: int) -> Ints:
        """0 .. count - 1 in random order."""
        return argsort(self.words(count), descending=False)

    def replacing(self, mass: Floats, count: int) -> Ints:
        """``count`` independent positions, each drawn with probability proportional to its mass.

        mass: finite, >= 0, not all zero; what has none is never drawn. By inverting the running sum at the
        uniforms in ascending order, three to four times as fast as looking up all over a large array.
        """
        running = np.cumsum(mass / mass.max())
        uniforms = self.uniforms(count)
        order = argsort(uniforms, descending=False)
        drawn = np.empty(count, np.int64)
        drawn[order] = np.searchsorted(running, uniforms[order] * running[-1], side="right")
        return drawn


def raised(scores: Floats, multiple: float = 1.0) -> Floats:
    """s + eps, eps being a multiple of the mean s, float64 [N]: masses that keep samples in play which score
    nothing. One without a score (NaN) counts as average; ones where all would be zero.
    """
    known = scores[~np.isnan(scores)]
    mean = total(known) / max(known.size, 1)
    mass: Floats = np.where(np.isnan(scores), mean, scores) + multiple * mean
    return mass if mass.any() else np.ones_like(mass)


def corrections(mass: Floats, drawn: Ints) -> Floats:
    """1 / (N P) of each position drawn, P = mass / sum of mass: float64, one for each of ``drawn``."""
    weights: Floats = total(mass) / max(mass.size, 1) / mass[drawn]
    return weights


def total(values: Floats) -> float:
    """The sum, added up in order."""
    return float(np.cumsum(values)[-1]) if values.size else 0.0
