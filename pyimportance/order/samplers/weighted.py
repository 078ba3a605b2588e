"""Importance sampling by scores, an epoch at a time.

P ~ s + eps, where eps keeps samples in play that score nothing, and a weight that corrects for P. A draw with
replacement gives every draw the weight 1 / (N P) (Katharopoulos and Fleuret 2018, equation 3, with the data
set as the presample). One without replacement takes sample i with the probability pi_i = min(1, c (s + eps)),
c such that they sum to the number wanted, and the weight n / (N pi_i) (Horvitz and Thompson 1952). Which ones
is decided by systematic sampling in a random order (Madow 1949), which takes exactly n.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pyimportance.checks import check_flag, check_fraction, check_nonnegative
from pyimportance.errors import ArgumentError
from pyimportance.order.argsort import argsort
from pyimportance.order.checks import check_scores, part_of
from pyimportance.order.samplers.chance import Chance, Floats, Ints, corrections, raised
from pyimportance.order.samplers.draw import Draw
from pyimportance.score.values import Scores


@dataclass(frozen=True)
class WeightedSampling:
    """floor(fraction * N + 1/2) samples an epoch, drawn in proportion to their scores.

    fraction     0..1
    replacement  True: a sample may be there more than once. False: never, and of those with the highest
                 scores all may be there
    smoothing    >= 0: eps as a multiple of the mean score. 0 never draws what scores 0, which is unbiased
                 only where the gradient of such a sample is 0

    Not biased: the expected weighted sum over the draw is n / N times the sum over all samples.
    """

    fraction: float = 1.0
    replacement: bool = True
    smoothing: float = 1.0
    compares: ClassVar[bool] = True  # eps and N P are of all samples, whoever holds them (load/choosing.py)

    def __post_init__(self) -> None:
        check_fraction("fraction", self.fraction)
        check_flag("replacement", self.replacement)
        check_nonnegative("smoothing", self.smoothing)

    def count(self, num_samples: int, epoch: int) -> int:
        """How many samples an epoch has: a function of N alone."""
        return part_of(self.fraction, num_samples)

    def sample(self, scores: Scores, epoch: int, seed: int = 0) -> Draw:
        """The epoch's samples in random order, with their weights.

        scores  >= 0 and finite, a high one the more important; a sample that has none (NaN) counts as average
        """
        ids, N = check_scores(scores).sample_ids(), scores.num_samples
        count = self.count(N, epoch)
        if not count:
            return Draw.plain(ids[:0], biased=False)
        mass, chance = self._mass(scores), Chance("weighted", seed, epoch)
        if self.replacement:
            drawn = chance.replacing(mass, count)
            weights = corrections(mass, drawn)
        else:
            inclusion = _inclusion(mass, count)
            drawn = _systematic(inclusion, count, chance)
            weights = count / N / inclusion[drawn]
        return Draw(ids[drawn], weights.astype(np.float32), biased=False)

    def _mass(self, scores: Scores) -> Floats:
        """s + eps, float64 [N], largest 1; ones where all of it would be zero."""
        if not scores.descending:
            raise ArgumentError(
                f"scores: of {scores.measure}, where a low one is the more important; WeightedSampling draws "
                "in proportion to the score, so that a high one must be"
            )
        s = scores.values.astype(np.float64)
        if (wrong := (s < 0) | np.isinf(s)).any():
            at = int(wrong.argmax())
            sample = scores.sample_ids()[at]
            raise ArgumentError(f"scores: {s[at]} for sample {sample}; must be finite and >= 0")
        mass = raised(s, self.smoothing)
        largest_1: Floats = mass / mass.max()
        return largest_1


def _inclusion(mass: Floats, count: int) -> Floats:
    """min(1, c * mass) of the sum ``count``, float64 [N]; 0 < count <= N. Where fewer than ``count`` have any
    mass, those without it share the rest."""
    order = argsort(mass)
    falling = mass[order]
    rest = np.cumsum(falling[::-1])[::-1]  # of each and all after it
    left = count - np.arange(mass.size)
    certain = int(np.argmax(left * falling <= rest))  # so many take all they can: a share of more than 1
    inclusion = np.ones(mass.size)
    if rest[certain] > 0:
        inclusion[order[certain:]] = np.minimum(falling[certain:] * (left[certain] / rest[certain]), 1.0)
    else:
        inclusion[order[certain:]] = left[certain] / (mass.size - certain)
    return inclusion


def _systematic(inclusion: Floats, count: int, chance: Chance) -> Ints:
    """int64 [count] positions in random order, each with its probability of inclusion."""
    shuffled = chance.permutation(inclusion.size)
    running = np.cumsum(inclusion[shuffled])
    running *= count / running[-1]
    running[-1] = count
    reached = np.floor(running + chance.uniforms(1)[0]).astype(np.int64)
    reached = np.minimum(reached, count)
    drawn: Ints = shuffled[np.diff(reached, prepend=0) > 0]
    return drawn
