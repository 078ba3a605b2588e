"""Importance sampling within a presample, used only where it pays.

Katharopoulos and Fleuret 2018, Not all samples are created equal: deep learning with importance sampling,
algorithm 1 and section 3.3. Uniform batches become batches of b, drawn with replacement out of a presample of
B: P = g, g = G / sum G, weight 1 / (B g), where G bounds the norm of a sample's gradient (el2n, say, for
softmax cross-entropy). Scoring B samples has a price; it pays once the variance falls by more, which
tau = sqrt(B sum g^2) tells: 1 where all are alike, sqrt(B) where one sample has it all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.checks import check_fraction, check_integer
from pyimportance.errors import ArgumentError
from pyimportance.order.samplers.batches import batch, check_state
from pyimportance.order.samplers.chance import Chance, Floats, Ints, total
from pyimportance.order.samplers.draw import Draw

_FIELDS = {"tau": float, "step": int}


class ImportanceSampling:
    """Batch by batch: score ``wanted`` samples, chosen uniformly, and let ``sample`` make a batch of them.

    batch_size  b >= 1
    presample   B >= b
    seed        >= 0; batch number k is a function of the seed, k and what was scored
    momentum    of the running mean of tau, 0..1

    Not biased: the expected weighted sum over a batch is b / B times the sum over the presample.
    Under data parallelism each rank has its own, with its own seed, and ranks must agree on ``active`` where
    their batches are to cost the same.
    """

    def __init__(self, batch_size: int, presample: int, *, seed: int = 0, momentum: float = 0.9) -> None:
        self.batch_size = check_integer("batch_size", batch_size, 1)
        self.presample = check_integer("presample", presample, self.batch_size)
        self._seed = check_integer("seed", seed, 0)
        self._momentum = check_fraction("momentum", momentum)
        self._tau, self._step = 0.0, 0

    @property
    def tau(self) -> float:
        """The running mean, 0 at first."""
        return self._tau

    @property
    def threshold(self) -> float:
        """(B + 3b) / (3b), as a backward pass costs two forward passes."""
        return (self.presample + 3 * self.batch_size) / (3 * self.batch_size)

    @property
    def active(self) -> bool:
        """Whether the next batch is drawn by importance: tau > threshold."""
        return self._tau > self.threshold

    @property
    def wanted(self) -> int:
        """How many samples to score for the next batch: B where active, else b."""
        return self.presample if self.active else self.batch_size

    def sample(self, ids: npt.ArrayLike, scores: npt.ArrayLike) -> Draw:
        """The next batch, out of the samples scored for it.

        ids     int64 [n], n > 0
        scores  floats [n], finite and >= 0; all zero is uniform. A sample that scores 0 beside others is
                never drawn, which is right where its gradient is 0

        Where active, b draws by importance. Else b of them, uniformly and without replacement, of weight 1
        (all, where n <= b). Either way their tau enters the running mean.
        """
        numbers, g = shares(ids, scores)
        chance = Chance("importance", self._seed, self._step)
        if self.active:
            drawn = chance.replacing(g, self.batch_size)
            draw = Draw(numbers[drawn], (1 / (g.size * g[drawn])).astype(np.float32), biased=False)
        else:
            draw = Draw.plain(numbers[chance.permutation(g.size)[: self.batch_size]], biased=False)
        tau = math.sqrt(g.size * total(g * g))
        self._tau = self._momentum * self._tau + (1 - self._momentum) * tau
        self._step += 1
        return draw

    def state_dict(self) -> dict[str, Any]:
        """tau and the number of the batch, as plain values."""
        return {"sampler": "ImportanceSampling", "version": 1, "tau": self._tau, "step": self._step}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken. ArgumentError, changing nothing, where it does not fit."""
        check_state(saved, "ImportanceSampling", _FIELDS)
        if not (math.isfinite(saved["tau"]) and saved["tau"] >= 0 and saved["step"] >= 0):
            raise ArgumentError(f"state: tau={saved['tau']}, step={saved['step']}; must be finite and >= 0")
        self._tau, self._step = saved["tau"], saved["step"]


def shares(ids: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Ints, Floats]:
    """ids int64 [n] and g = G / sum G, float64 [n], uniform where all are zero. Errors as of `sample`."""
    numbers, floats = batch("scores", ids, scores)
    if numbers.size == 0:
        raise ArgumentError("ids: there are none; at least one sample is needed")
    if (floats < 0).any():
        at = int(floats.argmin())
        raise ArgumentError(f"scores: {floats[at]} for sample {numbers[at]}; must be >= 0")
    if not floats.any():
        return numbers, np.full(floats.size, 1 / floats.size)
    scaled = floats / floats.max()  # so that the sum cannot overflow
    return numbers, scaled / total(scaled)
