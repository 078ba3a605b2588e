"""InfoBatch: leave out a part of what is learned already, and weigh up the rest of it.

Qin et al. 2024, InfoBatch: lossless training speed up by unbiased dynamic data pruning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyimportance.checks import check_fraction, check_integer
from pyimportance.errors import ArgumentError
from pyimportance.order.checks import check_scores
from pyimportance.order.samplers.chance import Chance, total
from pyimportance.order.samplers.draw import Draw
from pyimportance.score.values import Scores


@dataclass(frozen=True)
class InfoBatch:
    """Of the samples less important than the mean, a random share is left out; the others weigh 1 / (1 - r).

    epochs  of the whole training, counted from 0
    r       the share, 0 <= r < 1
    anneal  0..1: the last floor(anneal * epochs) epochs, and any after them, leave nothing out

    Not biased: the expected weighted sum over the draw is the sum over all samples. A share of m samples that
    is no whole number is rounded up or down at random, so that each is left out with probability r exactly
    (the published code rounds down, its weights being off by as much).
    """

    epochs: int
    r: float = 0.5
    anneal: float = 0.125

    def __post_init__(self) -> None:
        check_integer("epochs", self.epochs, 1)
        check_fraction("anneal", self.anneal)
        if check_fraction("r", self.r) == 1:
            raise ArgumentError("r=1: must be below 1; what is always left out cannot be weighed up")

    def count(self, num_samples: int, epoch: int) -> int | None:
        """How many samples an epoch has; None where the scores decide."""
        return num_samples if self._whole(epoch) else None

    def sample(self, scores: Scores, epoch: int, seed: int = 0) -> Draw:
        """The epoch's samples in random order, with their weights.

        scores  the latest losses, say; ``descending`` says which side of the mean is the important one. The
                mean is that of the finite scores. A sample without a score (NaN) is always there, with weight
                1: before the first scores that is everything. So are those at the mean, and constant scores
                leave nothing out
        """
        chance = Chance("InfoBatch", seed, epoch)
        shuffled = chance.permutation(check_scores(scores).num_samples)
        ids = scores.sample_ids()[shuffled]
        if self._whole(epoch):
            return Draw.plain(ids, biased=False)
        low = below_mean(scores)
        share = (1 - self.r) * np.count_nonzero(low)
        keep = math.floor(share)
        keep += int(chance.uniforms(1)[0] < share - keep)
        stays = staying(low, keep, chance)[shuffled]
        weights = np.where(low[shuffled[stays]], 1 / (1 - self.r), 1.0)
        return Draw(ids[stays], weights, biased=False)

    def _whole(self, epoch: int) -> bool:
        return epoch >= self.epochs - math.floor(self.anneal * self.epochs + 1e-9)  # 0.29 * 100 is 28.99...


def staying(low: npt.NDArray[np.bool_], keep: int, chance: Chance) -> npt.NDArray[np.bool_]:
    """bool [N]: those that are not ``low``, and ``keep`` of those that are, drawn."""
    candidates = np.flatnonzero(low)
    stays = np.ones(low.size, np.bool_)
    stays[candidates[chance.permutation(candidates.size)[keep:]]] = False
    return stays


def below_mean(scores: Scores) -> npt.NDArray[np.bool_]:
    """bool [N]: less important than the mean of the finite scores."""
    values = scores.values.astype(np.float64)
    finite = values[np.isfinite(values)]
    # Of equal float32 values this is exact, up to 2**29 of them: none lies below.
    mean = total(finite) / finite.size if finite.size else math.nan
    return values < mean if scores.descending else values > mean
