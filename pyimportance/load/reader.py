"""Planned rows -> samples or batches, read window by window (ahead.py)."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from itertools import chain
from operator import length_hint
from typing import Any, NamedTuple

import numpy as np
import torch.utils.data
from numpy.typing import NDArray

from pyimportance.errors import ArgumentError, DataError
from pyimportance.load.ahead import Columns, ReadAhead, Sample, Window
from pyimportance.load.batch import Batch, Batches, Seats
from pyimportance.load.holding import Part
from pyimportance.load.making import Making
from pyimportance.load.merge import Ints
from pyimportance.load.share import Piece

_AT_ONCE = 256, 2**20  # samples and bytes made in one go: enough to pay for the call, and cache-warm
_log = logging.getLogger("pyimportance")


class _Run(NamedTuple):
    """A window that was begun, and what it was begun with."""

    window: Window
    part: Part
    seats: Sequence[Seats]


class Stream:
    """The samples of ``runs`` (what is held at a time) in order, the next run always read ahead.

    An error is raised where the sample would have been yielded. ``may_skip``, asked with row and error of a
    sample, once for each of its places, says whether another one may take it: its neighbour in the
    window, as a pad, so that no batch and no rank gets shorter; one of ``others``, rows of the epoch that may
    be anybody's, where none of its own can be read. ``seats`` says where the fields of the next so many
    samples go, when they begin to be read; None where there are no fields.
    """

    seats: Callable[[int], list[Seats]] | None = None

    def __init__(
        self,
        columns: Columns,
        runs: Iterator[Part],
        ahead: ReadAhead,
        tier: str,
        *,
        may_skip: Callable[[int, DataError], bool] = lambda row, error: False,
        others: Iterable[int] = (),
    ) -> None:
        self.columns, self._runs, self._ahead, self._tier = columns, runs, ahead, tier
        self._may_skip, self._others = may_skip, iter(others)
        self._begun: deque[_Run] = deque()
        self._window: Window | None = None
        self._weight: NDArray[np.float32] | None = None  # of the window's samples; None: all 1
        self._at = self._step = 0
        self._sound: int | None = None  # a row that could be read
        self._error: tuple[int, DataError] | None = None

    def take(self) -> list[Sample]:
        """The next samples, as many as are made in one go; none at the end. Raises DataError."""
        window, end = self._next(self._step)
        if window is None:
            return []
        samples = window.native.samples(self._at, end)
        if self._weight is not None:
            for sample, weight in zip(samples, self._weight[self._at : end].tolist(), strict=True):
                sample["__weight__"] = weight
        self._at = end
        return samples

    def fill(self, batch: Batch, slots: Ints) -> None:
        """The next samples into these places of a batch. Raises DataError."""
        done = 0
        while done < len(slots):
            window, end = self._next(len(slots) - done)
            assert window is not None, "a share is what its streams yield"
            some = slots[done : done + end - self._at]
            window.native.fill(self._at, some, batch.lists, batch.index, batch.pad)
            if self._weight is not None:
                batch.weight[some] = self._weight[self._at : end]
            done, self._at = done + len(some), end

    def __iter__(self) -> Iterator[list[Sample]]:
        while samples := self.take():
            yield samples

    def _next(self, most: int) -> tuple[Window | None, int]:
        """The window in which the next samples are, and the end of those that may be taken of it at once."""
        if self._window is None or self._at == len(self._window):
            self._advance()
            most = most or self._step
        if self._window is None:
            return None, 0
        end = min(self._at + most, len(self._window))
        if self._error is not None:
            if self._at == self._error[0]:
                raise self._error[1]
            end = min(end, self._error[0])
        return self._window, end

    def _advance(self) -> None:
        self._window = None  # its memory is read into again
        while len(self._begun) < 2 and self._begin():
            pass
        if self._begun:
            run = self._begun.popleft()
            self._window, self._weight = run.window, run.part.weight
            self._ahead.ready(self._window)
            self._at, self._error = 0, None
            if errors := list(self._window.errors()):
                self._replace(run, errors)
            elif self._sound is None:
                self._sound = int(run.part.rows[0])
            self._window.native.settle()
            samples, nbytes = _AT_ONCE
            mean = self._window.native.count()[0] // len(self._window)
            self._step = max(1, min(samples, nbytes // max(1, mean)))

    def _begin(self) -> bool:
        """Begins to read the next run, if there is one."""
        part = next(self._runs, None)
        if part is None:
            return False
        seats = [] if self.seats is None else self.seats(len(part.rows))
        window = self._ahead.window(self.columns, part.rows, part.pad, self._tier, seats, later=part.later)
        self._begun.append(_Run(window, part, seats))
        return True

    def _replace(self, run: _Run, errors: list[tuple[int, DataError]]) -> None:
        """Puts sound samples in the places of those that may be skipped; the first that may not is kept."""
        window, rows = run.window, run.part.rows
        sound = _sound(window, errors)
        for position, error in errors:
            if not self._may_skip(int(rows[position]), error):
                self._error = position, error
                return
            _log.warning("skipped: %s", error)
            if len(sound):
                nearest = sound[max(0, int(np.searchsorted(sound, position)) - 1)]
                window.native.replace(position, int(nearest))
        if len(sound):
            self._sound = int(rows[sound[0]])
        elif (row := self._sound_elsewhere(run.seats)) is None:
            position, e = errors[0]
            problem = f"{e.problem}; there is no sample to skip to, as none could be read"
            self._error = position, DataError(problem, path=e.path, member=e.member, offset=e.offset)
        else:  # all of the window is one sample of another
            again, pads = np.full(len(window), row, np.int64), np.ones(len(window), bool)
            self._window = self._ahead.window(self.columns, again, pads, self._tier, run.seats)
            self._ahead.ready(self._window)
            self._error = next(self._window.errors(), None)

    def _sound_elsewhere(self, seats: Sequence[Seats]) -> int | None:
        """A row that an earlier window had, or else a later one, or else one of the epoch's others, however
        many have to be read for it (a job that goes on may have little left, and nothing sound in it)."""
        looked = 0
        while self._sound is None and (looked < len(self._begun) or self._begin()):
            window, part, _ = self._begun[looked]
            self._ahead.ready(window)
            sound = _sound(window, list(window.errors()))
            self._sound = int(part.rows[sound[0]]) if len(sound) else None
            looked += 1
        a_seat = [(batch, slots[:1]) for batch, slots in seats if len(slots)][:1]
        while self._sound is None and (row := next(self._others, None)) is not None:
            one = self._ahead.window(self.columns, np.array([row]), np.ones(1, bool), self._tier, a_seat)
            self._ahead.ready(one)
            self._sound = row if len(_sound(one, list(one.errors()))) else None
        return self._sound


def _sound(window: Window, errors: list[tuple[int, DataError]]) -> Ints:
    """The positions in a window that are not in error."""
    return np.setdiff1d(np.arange(len(window)), [position for position, _ in errors])


class Yielded:
    """How many samples an iteration has yielded: exact whenever it is asked, and nothing is done for each."""

    def __init__(self, before: int = 0) -> None:
        self._begun, self._some = before, iter(list[Sample]())

    @property
    def count(self) -> int:
        return self._begun - length_hint(self._some)

    def add(self, samples: int) -> None:
        self._begun += samples

    def each(self, samples: list[Sample]) -> Iterator[Sample]:
        """These, one by one."""
        self._some = iter(samples)
        self.add(len(samples))
        return self._some

    def __reduce__(self) -> tuple[type[Yielded], tuple[int]]:
        return Yielded, (self.count,)


class Reading:
    """What a process reads in one iteration: its workers' streams, in the order of the ``pieces`` of its
    share."""

    def __init__(self, pieces: Iterator[Piece], streams: dict[int, Stream], ahead: ReadAhead) -> None:
        self._pieces, self._streams, self._ahead = pieces, streams, ahead

    def samples(self) -> Iterator[list[Sample]]:
        """Some at a time. Ends what reads ahead, however it ends itself."""
        try:
            if len(self._streams) == 1:
                self._pieces = iter(())  # which would be kept for us
                yield from next(iter(self._streams.values()))
            else:
                samples = {w: chain.from_iterable(stream) for w, stream in self._streams.items()}
                for piece in self._pieces:
                    for w in piece.worker.tolist():
                        yield [next(samples[w])]
        finally:
            self._ahead.close()

    def batches(self, size: int, making: Making) -> Iterator[dict[str, Any]]:
        """Of ``size`` samples, the last one of what is left. Ends what reads ahead as `samples` does."""
        try:
            if making.pin_memory and torch.utils.data.get_worker_info() is not None:
                raise ArgumentError("pin_memory=True in a loader process: give it to the DataLoader")
            if not self._streams:
                return
            some = next(iter(self._streams.values()))
            batches = Batches(size, making, some.columns.memory)
            for w, stream in self._streams.items() if making.fields else ():
                stream.seats = batches.seats(w, copy(self._pieces))
            for batch, slots in batches.of(self._pieces):
                for w, places in slots.items():
                    self._streams[w].fill(batch, places)
                yield batch.columns()
        finally:
            self._ahead.close()
