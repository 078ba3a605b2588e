"""Framed: the contents of a file that is compressed frame by frame, read by position like any other file.

Only the frames in which the wanted bytes lie are read and decompressed, several at once by threads; those
that were asked for last are kept, and those that somebody holds until nobody does. Nothing is allocated that
the seek table does not bound, see there.
"""

from __future__ import annotations

import os
import threading
import weakref
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import zstandard
from numpy.typing import NDArray

from pyimportance.errors import DataError
from pyimportance.io.seek_table import SeekTable
from pyimportance.io.storage import File
from pyimportance.threads import default_threads

SUFFIX: Final = ".tar.zst"
KEPT_BYTES: Final = 64 << 20
"""Of decompressed frames that a process keeps for whoever reads on in them; a larger one is kept alone, and
those that are held are kept whatever they come to."""

Fetched: TypeAlias = tuple[Any, int, int]
"""Bytes (a buffer), and what counts for them: bytes and requests."""

Spans: TypeAlias = Sequence[tuple[int, int]]

Read: TypeAlias = Callable[[int, int], Fetched]
"""(offset, bytes) -> these bytes of the file."""


def content_of(file: File) -> File:
    """The tar in a file that is called ``.tar.zst``, any other file as it is. To be closed in its place."""
    if not file.path.endswith(SUFFIX):
        return file
    try:
        return Framed(file)
    except BaseException:
        file.close()
        raise


class Framed(File):
    """The contents of ``file``: offsets and `size` are theirs, what is charged is what was read of ``file``.

    The seek table is charged with the first read. Errors in a frame name its offset in the contents.
    tail: how much of it is read at first for the seek table.
    Raises DataError for a seek table that is not sound, see `SeekTable.read`.
    """

    is_framed: Final = True  # native code goes by it: reads say what they took

    def __init__(self, file: File, tail: int = 0) -> None:
        self._file, self._table = file, SeekTable.read(file, tail)
        super().__init__(file.path, int(self._table.content[-1]), file.version, file.meter, file.tier)
        self._unpaid = [self._table.cost]
        self.token = object()  # by which its frames are kept

    @property
    def handle(self) -> Framed:
        return self

    def read_in_part(self) -> None:
        self._file.read_in_part()

    def version_now(self) -> int | str | None:
        return self._file.version_now()

    def close(self) -> None:
        self._file.close()
        _kept.forget(self.token)

    @property
    def stored(self) -> NDArray[np.int64]:
        """int64 [F + 1]: where frames begin in the file; the last one is where they end."""
        return self._table.stored

    def read_stored(self, offset: int, nbytes: int) -> Fetched:
        """Bytes of the file."""
        return self._file.read_uncounted(offset, nbytes)

    def frame_of(self, offset: NDArray[np.int64]) -> NDArray[np.int32]:
        """int32 [n]: the frame that holds each of these bytes."""
        return (np.searchsorted(self._table.content, offset, side="right") - 1).astype(np.int32)

    def expect(self, spans: Spans) -> Expected:
        return Expected(self, spans)

    def hold(self, numbers: Iterable[int]) -> list[int]:
        """Has these frames kept, once they are there, until they are let go of as often as they are held.

        Returns those that are not there, and that nobody else holds who would read them.
        """
        return _kept.hold(self.token, numbers)

    def let_go(self, numbers: Iterable[int]) -> None:
        _kept.let_go(self.token, numbers)

    def held(self, numbers: Sequence[int]) -> Held:
        """`hold`, while the file need not stay open for it."""
        self.hold(numbers)
        return Held(weakref.ref(self), self.token, numbers)

    def sizes(self, spans: Spans) -> dict[int, int]:
        """frame -> how many of these bytes lie in it; ``spans`` (begin, end) are ascending and apart."""
        if not spans:
            return {}
        first, last = self._frames(spans[0][0], spans[-1][1] - spans[0][0])
        if first == last:
            return {first: sum(end - begin for begin, end in spans)}
        begin, end = np.array(spans, np.int64).T
        edges = np.clip(self._table.content[first : last + 2], begin[0], end[-1])
        at = np.searchsorted(begin, edges, side="right") - 1  # the span that each lies in, or behind
        before = np.cumsum(end - begin) - (end - begin)
        sizes = np.diff(before[at] + np.minimum(edges, end[at]) - begin[at])
        some = np.flatnonzero(sizes)
        return dict(zip((first + some).tolist(), sizes[some].tolist(), strict=True))

    def fetch(self, offset: int, nbytes: int) -> Fetched:
        """``nbytes`` bytes, 1 or more, from ``offset``, not counted. Raises DataError."""
        first, last = self._frames(offset, nbytes)
        if first < last:
            return self.begin(offset, nbytes).result()
        return self.fetch_from(self.read_stored, offset, nbytes)

    def fetch_from(self, read: Read, offset: int, nbytes: int) -> Fetched:
        """`fetch`, in this thread, of compressed bytes that ``read`` has. Raises what that raises."""
        first, last = self._frames(offset, nbytes)
        frames = [_kept.frame(self, number, read) for number in range(first, last + 1)]
        return self._cut(frames, first, offset, nbytes)

    def begin(self, offset: int, nbytes: int) -> Pending:
        """`fetch`, in other threads."""
        first, last = self._frames(offset, nbytes)
        frames = [_kept.begin(self, number, self.read_stored) for number in range(first, last + 1)]
        return Pending(frames, lambda fetched: self._cut(fetched, first, offset, nbytes))

    def read_uncounted(self, offset: int, nbytes: int) -> tuple[bytes, int, int]:
        if nbytes == 0:
            return b"", 0, 0
        data, read, requests = self.fetch(offset, nbytes)
        return bytes(data), read, requests

    def decode(self, number: int, read_from: Read) -> Fetched:
        """The contents of a frame, read and decompressed now. Raises DataError."""
        begin, end = self._table.stored[number : number + 2].tolist()
        start, stop = self._table.content[number : number + 2].tolist()
        try:
            data, read, requests = read_from(begin, end - begin)
            if (said := zstandard.get_frame_parameters(data).content_size) != stop - start:
                raise DataError(f"holds {said} bytes by its header; the seek table says {stop - start}")
            made = zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
        except (zstandard.ZstdError, DataError) as e:
            problem = e.problem if isinstance(e, DataError) else str(e)
            where = f"frame {number}, which begins at {begin} of the compressed file"
            lost = f"none of the {stop - start} bytes in it can be read, nor the samples that they are of"
            raise DataError(f"{where}: {problem}; {lost}", path=self.path, offset=start) from None
        return made, read, requests

    def _frames(self, offset: int, nbytes: int) -> tuple[int, int]:
        """The first and the last frame in which these bytes lie."""
        content = self._table.content
        first = bisect_right(content, offset) - 1
        return first, bisect_right(content, offset + nbytes - 1, first) - 1

    def _cut(self, frames: Sequence[Fetched], first: int, offset: int, nbytes: int) -> Fetched:
        pieces = [memoryview(data) for data, _, _ in frames]
        pieces[0] = pieces[0][offset - int(self._table.content[first]) :]
        pieces[-1] = pieces[-1][: nbytes - sum(map(len, pieces[:-1]))]
        costs = [(read, requests) for _, read, requests in frames]
        with suppress(IndexError):
            costs.append(self._unpaid.pop())
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return data, sum(read for read, _ in costs), sum(requests for _, requests in costs)


@dataclass(frozen=True)
class Held:
    """Frames that are held until `end`; of no use to anybody once ``file``, opened once, is not open."""

    file: weakref.ref[Framed]
    token: object
    frames: Sequence[int]

    def end(self) -> None:
        _kept.let_go(self.token, self.frames)


@dataclass(frozen=True)
class Pending:
    """Bytes on their way."""

    frames: Sequence[Future[Fetched]]
    cut: Callable[[Sequence[Fetched]], Fetched]

    def result(self) -> Fetched:
        return self.cut([frame.result() for frame in self.frames])

    def cancel(self) -> None:
        """Nobody waits for them: what is not under way yet need not be."""
        for frame in self.frames:
            frame.cancel()


class Expected:
    """What native code reads bytes of ``file`` through that are known before, and read once.

    Each frame is held until all of them that lie in it were read, in however many requests. Who made it calls
    `end` when nothing of it is read any more.

    frames   in which they lie, ascending
    lacking  those that were neither there nor held when this was made: whoever else held one is to read it,
             and if that fails, or ends before, this reads it all the same
    """

    is_framed: Final = True

    def __init__(self, file: Framed, spans: Spans) -> None:
        self.file, self._left = file, file.sizes(spans)
        self._lock = threading.Lock()
        self.frames = list(self._left)
        self.lacking = file.hold(self.frames)

    def fetch(self, offset: int, nbytes: int) -> Fetched:
        """`Framed.fetch`."""
        fetched = self._fetch(offset, nbytes)
        done = []
        with self._lock:
            for number, size in self.file.sizes([(offset, offset + nbytes)]).items():
                if number in self._left:
                    self._left[number] -= size
                    if self._left[number] <= 0:
                        del self._left[number]
                        done.append(number)
        self.file.let_go(done)
        return fetched

    def _fetch(self, offset: int, nbytes: int) -> Fetched:
        return self.file.fetch(offset, nbytes)

    def end(self) -> None:
        with self._lock:
            left, self._left = self._left, {}
        self.file.let_go(left)


class _Kept:
    """The frames that a process decompressed last, each by the first who asked: only that one is charged."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frames: dict[_Key, Future[Any]] = {}
        self._idle: OrderedDict[_Key, None] = OrderedDict()  # those that are there and that nobody holds
        self._holds: Counter[_Key] = Counter()
        self._nbytes = 0
        self._pool = ThreadPoolExecutor(default_threads(), thread_name_prefix="pyimportance-frames")

    def hold(self, token: object, numbers: Iterable[int]) -> list[int]:
        lacking = []
        with self._lock:
            for key in ((token, number) for number in numbers):
                if key not in self._frames and key not in self._holds:
                    lacking.append(key[1])
                self._holds[key] += 1
                self._idle.pop(key, None)
        return lacking

    def let_go(self, token: object, numbers: Iterable[int]) -> None:
        with self._lock:
            for key in ((token, number) for number in numbers):
                if self._holds[key] > 1:
                    self._holds[key] -= 1
                    continue
                del self._holds[key]
                if (frame := self._frames.get(key)) is not None and frame.done():
                    self._idle[key] = None
            self._make_room()

    def begin(self, file: Framed, number: int, read: Read) -> Future[Fetched]:
        return self._pool.submit(self.frame, file, number, read)

    def frame(self, file: Framed, number: int, read_from: Read) -> Fetched:
        key = file.token, number
        with self._lock:
            if (there := self._frames.get(key)) is None:
                mine = self._frames[key] = Future[Any]()
            elif key in self._idle:
                self._idle.move_to_end(key)
        if there is not None:
            return there.result(), 0, 0
        try:
            data, read, requests = file.decode(number, read_from)
        except BaseException as e:
            with self._lock:
                if self._frames.get(key) is mine:
                    del self._frames[key]
            mine.set_exception(e)
            raise
        with self._lock:
            mine.set_result(data)
            if self._frames.get(key) is mine:  # the file may have been closed meanwhile, and be read again
                self._nbytes += len(data)
                if key not in self._holds:
                    self._idle[key] = None
                self._make_room()
        return data, read, requests

    def _make_room(self) -> None:
        while self._nbytes > KEPT_BYTES and len(self._idle) > 1:
            oldest, _ = self._idle.popitem(last=False)
            self._nbytes -= len(self._frames.pop(oldest).result())

    def forget(self, token: object) -> None:
        with self._lock:
            for key in [key for key in self._frames if key[0] is token]:
                frame = self._frames.pop(key)
                self._idle.pop(key, None)
                if frame.done():
                    self._nbytes -= len(frame.result())
            for key in [key for key in self._holds if key[0] is token]:
                del self._holds[key]


_Key: TypeAlias = tuple[object, int]
_kept = _Kept()


def _renew() -> None:
    """A forked process has none of the threads, and must not wait for them."""
    global _kept  # noqa: PLW0603
    _kept = _Kept()


os.register_at_fork(after_in_child=_renew)
