"""Reading ahead: the next window of samples is read by native threads while this one is consumed.

The samples that a process needs of a window are read in order of (file, offset), neighbours in one request
of up to 4 MiB (window.h), so every byte of a sample, headers and padding included, is read and counted once.
A frame of a compressed shard is read once by a process, for all windows in a row that have samples of it, as
long as its file stays open meanwhile (carried.py). Where an epoch has some samples here and there, or
some parts of them, what lies between two is read with them, and counted, if it has no whole page of the
file, as the system then reads all of it anyway, or, behind a URL, if it is less than 16 KiB (`JOIN`), which
a request is worth.
Payloads of 16 KiB or more are read to where they stay, into the bytes objects that samples hold; the rest
goes through buffers that are used again. An iteration holds two windows, the one that is consumed and the
next one. Files stay open until what was asked of them is read, and the latest after that, however many a
window has samples of (`_OPEN_FILES`).

A shard is checked where it costs nothing: its length when it is opened, and that the headers of every sample
have the names and sizes that the index has. What is wrong is raised at the sample that it is wrong with.
`ShardSet.verify` checks every byte.
"""

from __future__ import annotations

import os
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyimportance import _C
from pyimportance.errors import ArgumentError, DataError
from pyimportance.io.arriving import JOIN, Arriving, Origin, Request
from pyimportance.io.arriving_frames import ArrivingFrames, ExpectedFrames, arriving
from pyimportance.io.downloads import AT_ONCE, Downloads
from pyimportance.io.frames import Expected, Framed, content_of
from pyimportance.io.meter import Meter
from pyimportance.io.storage import File, LocalFile, make_room, open_file
from pyimportance.io.urls import is_url
from pyimportance.load.batch import Seats
from pyimportance.load.carried import Carried
from pyimportance.load.fields import Field
from pyimportance.load.merge import Ints
from pyimportance.shards import keys
from pyimportance.shards.sample_index import SampleIndex
from pyimportance.threads import default_threads

Sample = dict[str, Any]

_OPEN_FILES = 256  # kept open at most, and as many again that are being read
_MOST_THREADS = 4  # each has a request under way; one alone is about as fast as the page cache
_WAITING = 8  # threads, where files are not there and requests wait for a device


class Columns:
    """An index as native code takes it: made once, for all windows of its samples.

    fields: parts that batches get as arrays. A sample whose part is missing or of another size is in error.
    views: other parts are memoryviews of the memory that a window was read into, and not bytes.
    part_begin: see `Narrowed`.
    in_part: of the tars' bytes not all are wanted. has_gaps: and what is wanted does not lie together.
    names: what parts are called where they lie, large_string [P]; None: as the index says.
    """

    def __init__(
        self,
        index: SampleIndex,
        fields: tuple[Field, ...] = (),
        *,
        views: bool = False,
        part_begin: Ints | None = None,
        in_part: bool = False,
        has_gaps: bool = False,
        names: Any = None,
    ) -> None:
        self.index, self.in_part, self.has_gaps = index, in_part, has_gaps
        self.native = _C.LoadColumns(
            *index.key_buffers,
            index.extensions,
            index.ids,
            index.file,
            index.offset,
            index.nbytes,
            index.part_start,
            index.part_ext,
            index.part_offset,
            index.part_size,
            index.files,
            [(field.extension, field.nbytes, str(field)) for field in fields],
            views,
            part_begin,
            *([None] * 2 if names is None else keys.to_buffers(names)),
        )

    def memory(self, nbytes: int) -> NDArray[np.uint8]:
        """Uninitialised; what is made of it may go to other threads, and later batches get it again."""
        return np.asarray(_C.LoadMemory(self.native, nbytes))


class ReadAhead:
    """Reads what one iteration asks for, with threads and files of its own until `close`.

    It belongs to the process that made it. In a fork's child, which has none of its threads and maybe some of
    their locks for good, it raises ArgumentError for whatever is asked of it; only `close` is harmless.

    origin: of files behind URLs, which are fetched ahead by threads that only wait, see `Arriving`.
    """

    def __init__(self, meter: Meter, origin: Origin | None = None) -> None:
        self._process = os.getpid()
        each = 1 if origin is None or origin.cache is None else 2  # descriptors: an entry has a journal
        self._limit = make_room(2 * each * _OPEN_FILES) // (2 * each)
        self._meter, self._origin = meter, origin
        self._join = 0 if origin is None else JOIN
        self._downloads, self._openings = Downloads(), Downloads()
        self._kept: OrderedDict[str, File] = OrderedDict()  # the latest; closed when nobody else holds it
        threads = min(default_threads(), _MOST_THREADS)
        self._native = _C.ReadAhead(threads, _WAITING - threads) if origin is None else _C.ReadAhead(AT_ONCE)
        self._asked: deque[tuple[Window, list[File]]] = deque()  # the files are open until it is read
        self._uncounted: list[Window] = []
        self._carried: dict[Columns, Carried] = {}

    def window(
        self,
        columns: Columns,
        rows: Ints,
        pad: NDArray[np.bool_],
        tier: str,
        seats: Sequence[Seats] = (),
        *,
        later: Ints | None = None,
    ) -> Window:
        """Begins to read the samples of these rows, to be yielded in that order; repeated ones are read once.

        seats: where the fields of the columns go, if it has any, for as many samples.
        later: rows that windows soon after this one have; None where that makes no difference.
        Waits for earlier windows where more files would be open than may be.
        """
        self._check_process()
        index = columns.index
        places = [(slots, batch.arrays) for batch, slots in seats]
        join = self._join if columns.has_gaps else -1
        native = _C.LoadWindow(self._native, columns.native, rows, pad, places, join)
        window = Window(native, tier, is_counted=self._origin is None)
        self._uncounted.append(window)
        carried = self._carried.setdefault(columns, Carried(index))
        numbers = np.unique(index.file[rows]).tolist()
        for i in range(0, len(numbers), self._limit):
            group = numbers[i : i + self._limit]
            while self._asked and sum(len(files) for _, files in self._asked) + len(group) > self._limit:
                self._finish(self._asked[0][0])
            self._read(window, self._open_all(window, columns, group, rows), carried, later)
        carried.turn(later)
        return window

    def _open_all(self, window: Window, columns: Columns, numbers: list[int], rows: Ints) -> dict[int, File]:
        """Those of these files that are sound, by their numbers; the window gives up the others."""
        files, begun = dict[int, File](), self._begin(columns.index, numbers, window.tier)
        for number in numbers:
            found = self._open(columns.index, number, rows, window.tier, begun)
            if isinstance(found, DataError):
                window.native.give_up(number, found.problem, found.path, found.member, found.offset)
            else:
                if columns.in_part:
                    found.read_in_part()
                files[number] = found
        return files

    def _read(self, window: Window, files: dict[int, File], carried: Carried, later: Ints | None) -> None:
        """Begins to read what the window has of these files, by their numbers, and keeps them open for it."""
        self._asked.append((window, list(files.values())))
        for number, file in files.items():
            if isinstance(file, Framed):
                carried.hold(number, file, window.expect(number, file).frames, later)
        here = [(n, file) for n, file in files.items() if not isinstance(file, Arriving | ArrivingFrames)]
        handles = [(n, window.expected.get(n, file.handle), file.size, file.path) for n, file in here]
        window.native.read(handles)
        for number, file in files.items():
            if isinstance(file, Arriving | ArrivingFrames):
                window.request(file, number)
            elif isinstance(file, LocalFile) and not window.is_counted:
                spans = window.native.spans(number)
                self._meter.add(window.tier, sum(end - begin for begin, end in spans), len(spans))

    def _begin(self, index: SampleIndex, numbers: list[int], tier: str) -> dict[str, Future[File]]:
        """Files behind URLs that are to be opened: a server may be asked about each, so it is about many."""
        paths = (path for path in map(index.files.__getitem__, numbers) if path not in self._kept)
        opened = self._openings.submit
        return {path: opened(partial(self._opened, path, tier)) for path in paths if is_url(path)}

    def _opened(self, path: str, tier: str) -> File:
        if self._origin is None or not is_url(path):
            return content_of(open_file(path, self._meter, tier))
        return arriving(path, self._origin, self._downloads, self._meter)

    def _open(
        self, index: SampleIndex, number: int, rows: Ints, tier: str, begun: dict[str, Future[File]]
    ) -> File | DataError:
        """A shard of the length that the index knows, or what is wrong with it."""
        path = index.files[number]
        try:
            if (opening := begun.get(path)) is not None:
                file = opening.result()
            else:
                file = self._kept.pop(path) if path in self._kept else self._opened(path, tier)
        except DataError as error:
            return error
        self._kept[path] = file
        if len(self._kept) > self._limit:
            self._kept.popitem(last=False)
        if file.size == index.file_bytes[number]:
            return file
        row = int(rows[index.file[rows] == number].min())
        return DataError(
            f"has {file.size} bytes; {int(index.file_bytes[number])} were written",
            path=file.path,
            member=index.key(row),
            offset=int(index.offset[row]),
        )

    def ready(self, window: Window) -> None:
        """Waits until ``window`` is read, counts it, and lets go of it and of its files."""
        self._check_process()
        self._finish(window)
        self._count(window)

    def _finish(self, window: Window) -> None:
        """Waits until all that was asked for of a window is read, and lets go of its files."""
        window.wait()
        window.end()
        self._asked = deque(asked for asked in self._asked if asked[0] is not window)

    def _count(self, window: Window) -> None:
        if window in self._uncounted:
            self._uncounted.remove(window)
            if window.is_counted:
                self._meter.add(window.tier, *window.native.count())

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise ArgumentError(
                f"this iteration was begun in process {self._process}, before a fork; begin another one here"
            )

    def close(self) -> None:
        """Ends the threads, and counts what they read for nobody. Does not wait for a server."""
        if os.getpid() != self._process:  # the parent counts, and ends, what is its own
            self._native.close()
            return
        self._openings.close()
        self._downloads.close()
        self._native.close()
        for window in self._uncounted.copy():
            self._count(window)
            window.end()
        for carried in self._carried.values():
            carried.end()
        self._asked.clear()
        self._kept.clear()


class Window:
    """Samples that are being read, or were. is_counted: native code counts what it reads of files."""

    def __init__(self, native: _C.LoadWindow, tier: str, *, is_counted: bool) -> None:
        self.native, self.tier, self.is_counted = native, tier, is_counted
        self.expected: dict[int, Expected] = {}  # of compressed files, by their numbers
        self._requests: list[Request] = []

    def __len__(self) -> int:
        return len(self.native)

    def expect(self, number: int, file: Framed) -> Expected:
        """Holds what it reads of a compressed file until it has read it."""
        self.expected[number] = file.expect(self.native.spans(number))
        return self.expected[number]

    def request(self, file: Arriving | ArrivingFrames, number: int) -> None:
        """Has its bytes of a file fetched, and then read."""

        def read(handle: Any) -> None:
            self.native.read([(number, handle, file.size, file.path)])

        if isinstance(file, ArrivingFrames):
            expected = self.expected[number]
            assert isinstance(expected, ExpectedFrames)
            self._requests.append(file.request(expected, read))
        else:
            self._requests.append(file.request(self.native.spans(number), read))

    def wait(self) -> None:
        """Until all that was asked for of it is read."""
        for request in self._requests:
            request.wait()
        self.native.wait()

    def end(self) -> None:
        """What it was read from is not needed any more; native code let go of it when it had waited."""
        while self.expected:
            self.expected.popitem()[1].end()
        while self._requests:
            self._requests.pop().end()

    def errors(self) -> Iterator[tuple[int, DataError]]:
        """(position, what is wrong with the sample there), ascending; once it is read."""
        for position, problem, path, member, offset in self.native.errors():
            where = None if offset < 0 else offset
            yield position, DataError(problem, path=path, member=member or None, offset=where)
