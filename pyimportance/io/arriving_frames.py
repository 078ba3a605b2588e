"""ArrivingFrames: compressed frames behind a URL as the loader reads them.

Frames are small, and requests are not: those that lie side by side come in one, of `PIECE` bytes at most, and
only those come in which wanted bytes lie. They are fetched ahead, and kept in the node's cache, as plain tars
are (arriving.py), and decompressed by the threads that read them. Without a cache a piece is fetched when its
first frame is needed, and let go of with its last.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pyimportance.errors import DataError
from pyimportance.io.arriving import PIECE, Arriving, Handle, Origin, Request, Spans
from pyimportance.io.downloads import Downloads
from pyimportance.io.frames import SUFFIX, Framed
from pyimportance.io.meter import Meter

_TAIL: Final = 16 << 10  # read at once for the seek table: that of 2000 frames


class ArrivingFrames(Framed):
    """The contents of a file that arrives, which counts by itself what was fetched or found of it.

    Opening it reads its seek table. Raises as `Framed` and `Arriving` do.
    """

    def __init__(self, file: Arriving) -> None:
        super().__init__(file, _TAIL)
        self._arriving = file

    def request(self, spans: Spans, then: Callable[[Any], object]) -> Request:
        """`Arriving.request` for these bytes of the contents: what has to come are the frames they lie in."""
        wanted = self._lacking(spans)
        edges = np.flatnonzero(np.diff(wanted, prepend=False, append=False)).reshape(-1, 2)
        stored = self.stored
        pieces = [piece for first, end in edges.tolist() for piece in _pieces(stored, first, end)]
        runs = [(int(stored[first]), int(stored[end])) for first, end in edges.tolist()]
        return self._arriving.request(runs, lambda handle: then(_Frames(self, handle, pieces)))

    def _lacking(self, spans: Spans) -> NDArray[np.bool_]:
        """bool [F]: the frames in which these bytes lie, but those that are kept, or being decompressed."""
        begin, end = np.array(spans, np.int64).reshape(-1, 2).T
        change = np.zeros(len(self.stored), np.int64)
        np.add.at(change, self.frame_of(begin), 1)
        np.add.at(change, self.frame_of(end - 1) + 1, -1)
        wanted: NDArray[np.bool_] = np.cumsum(change[:-1]) > 0
        for number in np.flatnonzero(wanted).tolist():
            wanted[number] = self.lacking(number)
        return wanted


def arriving(url: str, origin: Origin, downloads: Downloads, meter: Meter) -> Arriving | ArrivingFrames:
    """An object, or the tar in it (as `content_of`), opened. Raises DataError."""
    file = Arriving(url, origin, downloads, meter)
    return ArrivingFrames(file) if file.path.endswith(SUFFIX) else file


def _pieces(stored: NDArray[np.int64], first: int, end: int) -> list[_Piece]:
    """The frames ``first`` to ``end`` - 1 in requests."""
    cuts = [first]
    while cuts[-1] < end:
        most = int(np.searchsorted(stored, stored[cuts[-1]] + PIECE, side="right")) - 1
        cuts.append(min(end, max(most, cuts[-1] + 1)))
    return [_Piece(int(stored[a]), int(stored[b]), b - a) for a, b in pairwise(cuts)]


class _Piece:
    """Bytes that are fetched together, as long as some of their frames are still to come."""

    def __init__(self, begin: int, end: int, frames: int) -> None:
        self.begin, self.end, self._left = begin, end, frames
        self._lock, self._data = threading.Lock(), memoryview(b"")

    def take(self, handle: Handle, offset: int, nbytes: int) -> Any:
        """The bytes of a frame. Raises DataError."""
        with self._lock:
            if self._left and not self._data:
                try:
                    self._data = memoryview(handle.fetch(self.begin, self.end - self.begin))
                except DataError:
                    self._left = 0  # each on its own: what failed is not asked for again
            if self._left:
                self._left -= 1
                data = self._data[offset - self.begin :][:nbytes]
                self._data = self._data if self._left else memoryview(b"")
                return data
        return handle.fetch(offset, nbytes)


class _Frames:
    """What native code reads the contents through, once a request for them has come."""

    def __init__(self, file: ArrivingFrames, handle: int | Handle, pieces: Sequence[_Piece]) -> None:
        self._file, self._handle, self._pieces = file, handle, pieces
        self._begins = [piece.begin for piece in pieces]

    def fetch(self, offset: int, nbytes: int) -> Any:
        """``nbytes`` bytes of the contents, 1 or more, from ``offset``. Raises DataError."""
        return self._file.fetch_from(self._read, offset, nbytes)[0]

    def _read(self, offset: int, nbytes: int) -> Any:
        at = bisect_right(self._begins, offset) - 1
        if at < 0 or offset >= self._pieces[at].end:  # it was kept when this was asked for
            return self._file.read_stored(offset, nbytes)
        if isinstance(self._handle, int):
            return os.pread(self._handle, nbytes, offset), 0, 0
        return self._pieces[at].take(self._handle, offset, nbytes), 0, 0
