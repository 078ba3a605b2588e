"""What one worker holds of one generation, and its samples by position in an epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyimportance.io.meter import Meter
from pyimportance.load.ahead import Columns
from pyimportance.load.choosing import Choosing
from pyimportance.load.making import Making
from pyimportance.load.merge import Ints
from pyimportance.load.plan import EpochPlan, Recipe, Stock
from pyimportance.load.share import Piece, joined
from pyimportance.load.tars import Narrowed, Select, Tars, narrowed
from pyimportance.order.samplers.draw import Draw
from pyimportance.shards.shard_set import ShardSet

_PIECES = 16  # a million samples of a rank: more than a window has


class Part(NamedTuple):
    """What is read at a time: rows of the index, pads, and weights where a sampler gives any.

    later: of compressed shards, the rows that come soon after them: in their window, and in the next one.
    """

    rows: Ints
    pad: NDArray[np.bool_]
    weight: NDArray[np.float32] | None
    later: Ints | None = None


@dataclass(frozen=True)
class Planned:
    """An epoch of a worker: its sequence, the rows of the index that this is one of (None: all of them), and
    their weights.
    """

    sequence: EpochPlan
    rows: Ints | None
    weights: NDArray[np.float32] | None

    def after(self, k: int) -> Ints:
        """Rows of the index: those of the window after window ``k``, and of as many as it takes for some of
        every bin, where windows have few.
        """
        bounds, enough = self.sequence.bounds, 4 * self.sequence.bins
        end = int(np.searchsorted(bounds, min(bounds[k + 1] + enough, bounds[-1])))
        windows = [self.sequence.window(i) for i in range(k + 1, max(end, min(k + 2, self.sequence.windows)))]
        return self.rows_at(np.concatenate([np.zeros(0, np.int64), *windows]))

    def each_row(self) -> Iterator[int]:
        """Rows of the index, in the order of the epoch."""
        for k in range(self.sequence.windows):
            yield from self.rows_at(self.sequence.window(k)).tolist()

    def rows_at(self, places: Ints) -> Ints:
        """Rows of the index, of rows of the sequence."""
        return places if self.rows is None else self.rows[places]


class Holding:
    """What one worker holds of one generation, and its samples by position in an epoch.

    Opening it reads the worker's index. ``choosing`` says which samples are left of them, in all epochs.
    """

    def __init__(
        self,
        shards: ShardSet | Tars,
        worker: int,
        recipe: Recipe,
        choosing: Choosing,
        meter: Meter,
        *,
        select_files: Select | None = None,
        making: Making,
    ) -> None:
        index = shards.index(worker, meter)
        self._worker, self._recipe, self._digest = worker, recipe, shards.digest
        self._rows = None if choosing.takes_all else choosing.rows(index, descending=shards.descending)
        bins = np.zeros(len(index), np.int32) if index.bin is None else index.bin
        stock = Stock(index.file, index.offset, index.nbytes, bins, index.frame)
        self._stock = stock if self._rows is None else stock.some(self._rows)
        names, begin = (shards.names, shards.part_begin) if isinstance(shards, Tars) else (None, None)
        narrow = Narrowed(index, begin) if select_files is None else narrowed(index, select_files, begin)
        self.index = narrow.samples
        if names is not None and narrow.parts is not None:
            names = names.take(narrow.parts)
        has_gaps = choosing.has_gaps or narrow.part_begin is not None
        self.columns = Columns(
            self.index,
            making.fields,
            views=making.views,
            part_begin=narrow.part_begin,
            in_part=not choosing.takes_all or choosing.draws or narrow.part_begin is not None,
            has_gaps=has_gaps,
            names=names,
        )

    def plan(self, epoch: int, draw: Draw | None = None) -> Planned:
        """draw: the samples that the epoch has, where it has not all that are left."""
        stock, rows, weights = self._stock, self._rows, None
        if draw is not None:
            ids = self.index.ids if rows is None else self.index.ids[rows]
            order = np.argsort(ids)
            places = order[np.searchsorted(ids, draw.ids, sorter=order)]
            stock, weights = stock.some(places), draw.weights
            rows = places if rows is None else rows[places]
        sequence = EpochPlan(stock, self._recipe, digest=self._digest, epoch=epoch, worker=self._worker)
        return Planned(sequence, rows, weights)

    def runs(self, plan: Planned, pieces: Iterable[Piece], room: int) -> Iterator[Part]:
        """The samples of this worker's in ``pieces``, in parts to hold at a time.

        Those are the windows of the epoch, cut evenly into parts of about ``room`` bytes where they are
        larger.
        """
        for k, some, places in self._places(plan, pieces):
            rows = plan.rows_at(places)
            weights = None if plan.weights is None else plan.weights[places]
            pad = np.ascontiguousarray(some.pad)
            total = np.cumsum(self.index.nbytes[rows])
            parts = max(1, round(int(total[-1]) / room))
            following = None if self.index.frame is None else plan.after(k)
            for a, b in _runs((total - 1) * parts // total[-1]):
                later = None if following is None else np.concatenate([rows[b:], following])
                yield Part(rows[a:b], pad[a:b], None if weights is None else weights[a:b], later)

    def rows(self, plan: Planned, pieces: Iterable[Piece]) -> Ints:
        """Rows of the index: those of all `runs`, of which nothing is to be read."""
        rows = [plan.rows_at(places) for _, _, places in self._places(plan, pieces)]
        return np.concatenate([np.zeros(0, np.int64), *rows])

    def _places(self, plan: Planned, pieces: Iterable[Piece]) -> Iterator[tuple[int, Piece, Ints]]:
        """(window, what is wanted of it, the rows of the sequence that this is)."""
        for k, some in _windows(plan.sequence, (piece.of(self._worker) for piece in pieces)):
            yield k, some, plan.sequence.window(k)[some.position - plan.sequence.bounds[k]]


def _windows(sequence: EpochPlan, pieces: Iterable[Piece]) -> Iterator[tuple[int, Piece]]:
    """(window, samples in it that follow one another), over pieces; over `_PIECES` of them at most, as other
    workers' samples of these are kept until they are read.
    """
    held: list[Piece] = []
    window = -1
    for number, piece in enumerate(pieces):
        windows = sequence.windows_of(piece.position)
        for a, b in _runs(windows):
            if held and windows[a] != window:
                yield window, joined(held)
                held = []
            window = int(windows[a])
            held.append(piece.where(slice(a, b)))
        if held and number % _PIECES == _PIECES - 1:
            yield window, joined(held)
            held = []
    if held:
        yield window, joined(held)


def _runs(values: Ints) -> Iterator[tuple[int, int]]:
    """(begin, end) of the runs of equal values, none of them negative."""
    return pairwise(np.flatnonzero(np.diff(values, prepend=-1, append=-1)).tolist())
