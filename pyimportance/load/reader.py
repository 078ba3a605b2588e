"""Planned rows -> samples: what a worker holds, and its sequence read window by window (ahead.py)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pyimportance.errors import DataError
from pyimportance.io.meter import Meter
from pyimportance.load.ahead import Columns, ReadAhead, Sample, Window
from pyimportance.load.deal import Share
from pyimportance.load.merge import Ints
from pyimportance.load.plan import EpochPlan, Recipe, Stock, most_important
from pyimportance.load.tars import Tars, narrowed
from pyimportance.shards.shard_set import ShardSet

_AT_ONCE = 256, 2**20  # samples and bytes made in one go: enough to pay for the call, and cache-warm


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
        select_files: Callable[[str], bool] | None = None,
    ) -> None:
        index = shards.index(worker, meter)
        self._worker, self._recipe, self._digest = worker, recipe, shards.digest
        self._rows = most_important(index.score, index.ids, recipe.keep, descending=shards.descending)
        bins = np.zeros(len(index), np.int32) if index.bin is None else index.bin
        self._stock = Stock(
            index.file[self._rows], index.offset[self._rows], index.nbytes[self._rows], bins[self._rows]
        )
        self.index = index if select_files is None else narrowed(index, select_files)
        self.columns = Columns(self.index)

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


class Stream:
    """The samples of ``runs`` (`Holding.runs`) in order, the next run always read ahead.

    Errors are raised where the sample would have been yielded.
    """

    def __init__(
        self, columns: Columns, runs: Iterator[tuple[Ints, NDArray[np.bool_]]], ahead: ReadAhead, tier: str
    ) -> None:
        self._columns, self._runs, self._ahead, self._tier = columns, runs, ahead, tier
        self._begun: deque[Window] = deque()
        self._window: Window | None = None
        self._at = self._step = 0
        self._error: tuple[int, DataError] | None = None

    def take(self) -> list[Sample]:
        """The next samples, as many as are made in one go; none at the end. Raises DataError."""
        if self._window is None or self._at == len(self._window):
            self._advance()
        if self._window is None:
            return []
        end = min(self._at + self._step, len(self._window))
        if self._error is not None:
            if self._at == self._error[0]:
                raise self._error[1]
            end = min(end, self._error[0])
        samples = self._window.native.samples(self._at, end)
        self._at = end
        return samples

    def __iter__(self) -> Iterator[list[Sample]]:
        while samples := self.take():
            yield samples

    def _advance(self) -> None:
        self._window = None  # its memory is read into again
        while len(self._begun) < 2 and (run := next(self._runs, None)) is not None:
            self._begun.append(self._ahead.window(self._columns, *run, self._tier))
        if self._begun:
            self._window = self._begun.popleft()
            self._ahead.ready(self._window)
            self._at, self._error = 0, next(self._window.errors(), None)
            samples, nbytes = _AT_ONCE
            mean = self._window.native.count()[0] // len(self._window)
            self._step = max(1, min(samples, nbytes // max(1, mean)))
