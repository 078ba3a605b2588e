"""Curriculum: easy samples first, the others as training goes on.

Bengio et al. 2009, Curriculum learning; how many when is Platanios et al. 2019, Competence-based curriculum
learning for neural machine translation, equation 7 with p = 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pyimportance.checks import check_fraction, check_integer
from pyimportance.order.argsort import argsort
from pyimportance.order.checks import check_scores, part_of
from pyimportance.order.samplers.chance import Chance
from pyimportance.order.samplers.draw import Draw
from pyimportance.score.values import Scores


@dataclass(frozen=True)
class Curriculum:
    """Epoch t has the least important share c(t) = sqrt(t (1 - start^2) / (epochs - 1) + start^2).

    epochs  of the whole training, counted from 0: the last one, and any after it, has all samples
    start   0 < start <= 1: the share that epoch 0 has

    Least important is easy where scores say what is hard. Biased until everything is there: that is the
    method. Weights are 1.
    """

    epochs: int
    start: float = 0.25

    def __post_init__(self) -> None:
        check_integer("epochs", self.epochs, 1)
        check_fraction("start", self.start, positive=True)

    def competence(self, epoch: int) -> float:
        """c(t), the share of the samples that an epoch has."""
        done = min(1.0, check_integer("epoch", epoch, 0) / max(self.epochs - 1, 1))
        if self.epochs == 1 or done == 1:
            return 1.0
        return min(1.0, math.sqrt(done * (1 - self.start**2) + self.start**2))

    def count(self, num_samples: int, epoch: int) -> int:
        """How many samples an epoch has: a function of N and the epoch, at least one if there is any."""
        return min(num_samples, max(1, part_of(self.competence(epoch), num_samples)))

    def sample(self, scores: Scores, epoch: int, seed: int = 0) -> Draw:
        """The epoch's samples in random order; those without a score (NaN) come last."""
        count = self.count(check_scores(scores).num_samples, epoch)
        easy = argsort(scores.values, descending=not scores.descending)[:count]
        shuffled = Chance("Curriculum", seed, epoch).permutation(count)
        return Draw.plain(scores.sample_ids()[easy[shuffled]], biased=count < scores.num_samples)
