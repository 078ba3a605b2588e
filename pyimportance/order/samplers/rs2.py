"""RS2: a fresh random subset every epoch, the baseline that pruning has to beat.

Okanovic et al. 2024, Repeated random sampling for minimizing the time-to-accuracy of learning. The paper has
two versions. "Without replacement", the one its results and published code run: the data set is shuffled,
each epoch takes the next slice, and when it is exhausted it is shuffled anew. "With replacement": every epoch
draws from the whole data set again. In neither is a sample twice in one epoch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyimportance.checks import check_flag, check_fraction, check_integer
from pyimportance.order.checks import check_scores, part_of
from pyimportance.order.samplers.chance import Chance, Ints
from pyimportance.order.samplers.draw import Draw
from pyimportance.score.values import Scores


@dataclass(frozen=True)
class RS2:
    """floor(fraction * N + 1/2) samples an epoch, blind to their scores; weights 1, not biased.

    fraction     0..1
    replacement  False: k samples an epoch out of one permutation, a new one every ceil(N / k) epochs, by when
                 every sample was there. The last of these epochs is topped up from the permutation's start,
                 as in the published code, so that all epochs are equally long. True: epochs are independent
    """

    fraction: float
    replacement: bool = False

    def __post_init__(self) -> None:
        check_fraction("fraction", self.fraction)
        check_flag("replacement", self.replacement)

    def count(self, num_samples: int, epoch: int) -> int:
        """How many samples an epoch has: a function of N alone."""
        return part_of(self.fraction, num_samples)

    def sample(self, scores: Scores, epoch: int, seed: int = 0) -> Draw:
        """The epoch's subset: a function of the ids, ``fraction``, ``seed`` and ``epoch`` alone."""
        N = check_scores(scores).num_samples
        rows = subset(N, self.count(N, epoch), epoch, seed, self.replacement)
        return Draw.plain(scores.sample_ids()[rows], biased=False)


def subset(num_samples: int, count: int, epoch: int, seed: int, replacement: bool) -> Ints:
    """int64 [count]: which of ``num_samples`` an epoch takes."""
    epoch = check_integer("epoch", epoch, 0)
    rounds = 1 if replacement or count == 0 else -(-num_samples // count)
    shuffled = Chance("RS2", seed, epoch // rounds).permutation(num_samples)
    return shuffled[(epoch % rounds * count + np.arange(count, dtype=np.int64)) % max(num_samples, 1)]
