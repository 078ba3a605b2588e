"""What one worker holds of one generation, and its samples by position in an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pyimportance.io.meter import Meter
from pyimportance.load.ahead import Columns
from pyimportance.load.deal import Share
from pyimportance.load.fields import Field
from pyimportance.load.merge import Ints
from pyimportance.load.plan import EpochPlan, Recipe, Stock, most_important
from pyimportance.load.tars import Tars, narrowed
from pyimportance.shards.shard_set import ShardSet


class Holding:
    """What one worker holds of one generation, and its samples by position in an epoch.

    Opening it reads the worker's index. ``keep`` below 1 leaves only the most important samples.
    """

    def __init__(
        self,
        shards: ShardSet | Tars,
        worker: int,
        recipe: Recipe,
        meter: Meter,
        *,
        select_files: Callable[[str], bool] | None = None,
        fields: tuple[Field, ...] = (),
    ) -> None:
        index = shards.index(worker, meter)
        self._worker, self._recipe, self._digest = worker, recipe, shards.digest
        self._rows = most_important(index.score, index.ids, recipe.keep, descending=shards.descending)
        bins = np.zeros(len(index), np.int32) if index.bin is None else index.bin
        self._stock = Stock(
            index.file[self._rows], index.offset[self._rows], index.nbytes[self._rows], bins[self._rows]
        )
        self.index = index if select_files is None else narrowed(index, select_files)
        self.columns = Columns(self.index, fields)

    def plan(self, epoch: int) -> EpochPlan:
        return EpochPlan(self._stock, self._recipe, digest=self._digest, epoch=epoch, worker=self._worker)

    def runs(self, plan: EpochPlan, share: Share, room: int) -> Iterator[tuple[Ints, NDArray[np.bool_]]]:
        """Rows and pads of ``share``, all of them this worker's, in parts to hold at a time.

        Those are the windows of the epoch, cut evenly into parts of about ``room`` bytes where they are
        larger.
        """
        window = plan.window_of(share.position)
        for begin, end in _runs(window):
            k = int(window[begin])
            rows = self._rows[plan.window(k)[share.position[begin:end] - plan.bounds[k]]]
            total = np.cumsum(self.index.nbytes[rows])
            parts = max(1, round(int(total[-1]) / room))
            for a, b in _runs((total - 1) * parts // total[-1]):
                yield rows[a:b], share.pad[begin + a : begin + b]


def _runs(values: Ints) -> Iterator[tuple[int, int]]:
    """(begin, end) of the runs of equal values, none of them negative."""
    return pairwise(np.flatnonzero(np.diff(values, prepend=-1, append=-1)).tolist())
