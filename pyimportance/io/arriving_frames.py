"""ArrivingFrames: compressed frames behind a URL as the loader reads them.

Frames are small, and requests are not: those that lie side by side come in one, of `PIECE` bytes at most, and
only those come in which wanted bytes lie. They are fetched ahead, and kept in the node's cache, as plain tars
are (arriving.py), and decompressed by the threads that read them. Without a cache a piece is fetched when its
first frame is needed, and let go of with its last.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pyimportance.errors import DataError
from pyimportance.io.arriving import PIECE, Arriving, Handle, Origin, Request, Spans
from pyimportance.io.downloads import Downloads
from pyimportance.io.frames import SUFFIX, Expected, Fetched, Framed
from pyimportance.io.meter import Meter

_TAIL: Final = 16 << 10  # read at once for the seek table: that of 2000 frames


class ArrivingFrames(Framed):
    """The contents of a file that arrives, which counts by itself what was fetched or found of it.

    Opening it reads its seek table. Raises as `Framed` and `Arriving` do.
    """

    def __init__(self, file: Arriving) -> None:
        super().__init__(file, _TAIL)
        self._arriving = file
        self.coming: dict[int, ExpectedFrames] = {}

    def expect(self, spans: Spans) -> ExpectedFrames:
        return ExpectedFrames(self, spans)

    def request(self, expected: ExpectedFrames, then: Callable[[Any], object]) -> Request:
        """`Arriving.request` for bytes of the contents: what has to come are the frames they lie in that are
        not there, and do not come for others.
        """
        lacking, stored = np.array(expected.lacking, np.int64), self.stored
        edges = [
            run[[0, -1]] for run in np.split(lacking, np.flatnonzero(np.diff(lacking) > 1) + 1) if len(run)
        ]
        runs = [(first, last + 1) for first, last in map(np.ndarray.tolist, edges)]
        pieces = {offset: piece for run in runs for offset, piece in _pieces(stored, *run)}
        spans = [(int(stored[first]), int(stored[end])) for first, end in runs]
        return self._arriving.request(spans, lambda handle: then(expected.arrived(handle, pieces)))


def arriving(url: str, origin: Origin, downloads: Downloads, meter: Meter) -> Arriving | ArrivingFrames:
    """An object, or the tar in it (as `content_of`), opened. Raises DataError."""
    file = Arriving(url, origin, downloads, meter)
    return ArrivingFrames(file) if file.path.endswith(SUFFIX) else file


def _pieces(stored: NDArray[np.int64], first: int, end: int) -> Iterator[tuple[int, _Piece]]:
    """(place, piece that it comes with) of each of the frames ``first`` to ``end`` - 1."""
    while first < end:
        most = int(np.searchsorted(stored, stored[first] + PIECE, side="right")) - 1
        last = min(end, max(most, first + 1))
        piece = _Piece(int(stored[first]), int(stored[last]), last - first)
        yield from ((offset, piece) for offset in stored[first:last].tolist())
        first = last


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


class ExpectedFrames(Expected):
    """What native code reads the contents through, once a request for them has come.

    A frame may be needed by those who came later first: without a cache, where nothing else would keep it,
    they have it from the piece that it comes with.
    """

    def __init__(self, file: ArrivingFrames, spans: Spans) -> None:
        super().__init__(file, spans)
        self._coming = file.coming
        self._handle: int | Handle = -1
        self._pieces: dict[int, _Piece] = {}

    def arrived(self, handle: int | Handle, pieces: dict[int, _Piece]) -> ExpectedFrames:
        self._handle, self._pieces = handle, pieces
        if isinstance(handle, Handle) and not handle.is_cached:
            self._coming.update(dict.fromkeys(pieces, self))
        return self

    def end(self) -> None:
        super().end()
        for offset in self._pieces:
            if self._coming.get(offset) is self:
                del self._coming[offset]

    def _fetch(self, offset: int, nbytes: int) -> Fetched:
        return self.file.fetch_from(self._read, offset, nbytes)

    def _read(self, offset: int, nbytes: int) -> Fetched:
        """The frame that lies there."""
        with_it = self if offset in self._pieces else self._coming.get(offset)
        if with_it is None:  # it was there when this was asked for, or another was to read it and could not
            return self.file.read_stored(offset, nbytes)
        if isinstance(with_it._handle, int):
            return os.pread(with_it._handle, nbytes, offset), 0, 0
        return with_it._pieces[offset].take(with_it._handle, offset, nbytes), 0, 0
