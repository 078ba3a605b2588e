"""Share: what a reader yields in an epoch, worked out piece by piece while it is read.

An epoch may be of hundreds of millions of samples: nothing of its length is written down, and the first
sample of it costs what its piece does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyimportance.load.merge import Ints

PIECE = 1 << 16  # samples of a rank worked out at once: a millisecond or two, a megabyte


@dataclass(frozen=True, eq=False)
class Piece:
    """Samples in order: worker int32 [n], position in its sequence int64 [n], pad bool [n].

    Arrays of one value may be broadcast from it.
    """

    worker: NDArray[np.int32]
    position: Ints
    pad: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.worker)

    @cached_property
    def places(self) -> dict[int, Ints]:
        """Where each worker's samples are, ascending, of those workers that have any."""
        if not len(self):
            return {}
        if self.worker.strides == (0,):  # all are of one, and nobody has written that down
            return {int(self.worker[0]): np.arange(len(self))}
        order = np.argsort(self.worker, kind="stable")
        workers, starts = np.unique(self.worker[order], return_index=True)
        return dict(zip(workers.tolist(), np.split(order, starts[1:]), strict=True))

    def of(self, worker: int) -> Piece:
        """The part of a worker."""
        places = self.places.get(worker, slice(0))
        return self if not isinstance(places, slice) and len(places) == len(self) else self.where(places)

    def where(self, which: NDArray[Any] | slice) -> Piece:
        """The part at these places, or of a mask."""
        position = self.position[which]
        if self.worker.strides == (0,):
            return Piece(np.broadcast_to(self.worker[:1], len(position)), position, self.pad[which])
        return Piece(self.worker[which], position, self.pad[which])


def joined(pieces: Iterable[Piece]) -> Piece:
    """Pieces, one after the other, as one."""
    some = list(pieces)
    if len(some) == 1:
        return some[0]
    empty = Piece(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.bool_))
    columns = zip(*((p.worker, p.position, p.pad) for p in (empty, *some)), strict=True)
    return Piece(*(np.concatenate(column) for column in columns))


@dataclass(frozen=True)
class Share:
    """The samples number ``begin`` to ``end`` - 1 of a rank, those of them that are ``mine``, without the
    first ``skip`` of these.

    make     (begin, end) -> Piece: these samples of the rank
    home     the workers that all of its samples are of, where that is known without working them out
    period   every piece but the last is of a multiple of so many samples of the rank: whole batches
    mine     numbers int64 [n] -> bool [n], the first sample of the rank being number 0; None: all are

    A whole batch is a run of its worker's sequence, which has every bin in proportion (merge.py), in each
    loader process and on each rank that shares the worker. Single samples, of ranks or processes that take
    turns without a batch_size, are like a random draw instead, and so are what batches are made of them.
    """

    make: Callable[[int, int], Piece]
    end: int
    begin: int = 0
    home: tuple[int, ...] | None = None
    period: int = 1
    mine: Callable[[Ints], NDArray[np.bool_]] | None = None
    skip: int = 0

    def pieces(self) -> Iterator[Piece]:
        """All of it, in order; none is empty."""
        for begin, end, places in self._stretches():
            piece = self.make(begin, end)
            yield piece if places is None else piece.where(places)

    def whole(self) -> Piece:
        return joined(self.pieces())

    @property
    def workers(self) -> tuple[int, ...]:
        """Those that its samples are of, ascending; a few more of ``home``, maybe."""
        if self.is_empty:
            return ()
        if self.home is not None:
            return self.home
        return tuple(sorted(set().union(*(piece.places for piece in self.pieces()))))

    @property
    def is_empty(self) -> bool:
        return next(self._stretches(), None) is None

    def __len__(self) -> int:
        if self.mine is None:
            return self.end - self.begin
        return sum(0 if places is None else len(places) for _, _, places in self._stretches())

    def process(self, process: int, processes: int, batch_size: int) -> Share:
        """The part of loader process ``process`` of ``processes``: batches process, process + processes, ...

        A DataLoader takes batches from its processes in turn, so it sees the same batches for any number.
        """
        if processes <= 1:
            return self
        return replace(
            self.where(lambda number: number // batch_size % processes == process),
            period=batch_size * processes,
        )

    def where(self, mine: Callable[[Ints], NDArray[np.bool_]]) -> Share:
        """The part of which ``mine`` is true; it is called with numbers, int64 [n], the first of them 0."""
        begin = self.begin
        return replace(self, mine=lambda number: mine(number - begin))

    def after(self, count: int) -> Share:
        """Without its first ``count``."""
        if self.mine is None:
            return replace(self, begin=min(self.end, self.begin + count))
        return replace(self, skip=self.skip + count)

    def _stretches(self) -> Iterator[tuple[int, int, Ints | None]]:
        """(begin, end, which of these samples it has, None for all of them), a piece each; none has none."""
        skip = self.skip
        step = self.period * max(1, PIECE // self.period)
        for begin in range(self.begin, self.end, step):
            end = min(begin + step, self.end)
            if self.mine is None:
                yield begin, end, None
                continue
            places = np.flatnonzero(self.mine(np.arange(begin, end)))
            if len(places) > skip:
                yield begin, end, places[skip:]
            skip = max(0, skip - len(places))
