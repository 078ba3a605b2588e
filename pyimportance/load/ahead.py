"""Reading ahead: the next window of samples is read by native threads while this one is consumed.

The samples that a process needs of a window are read in order of (file, offset), neighbours in one request
of up to 4 MiB, so every byte of a sample, headers and padding included, is read and counted exactly once.
Payloads of 16 KiB or more are read to where they stay, into the bytes objects that samples hold; the rest
goes through buffers that are used again. An iteration holds two windows, the one that is consumed and the
next one, and files stay open until what was asked of them is read.

A shard is checked where it costs nothing: its length when it is opened, and that the headers of every sample
have the names and sizes that the index has. What is wrong is raised at the sample that it is wrong with.
`ShardSet.verify` checks every byte.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyimportance import _C
from pyimportance.errors import DataError
from pyimportance.io.frames import content_of
from pyimportance.io.meter import Meter
from pyimportance.io.storage import File, make_room, open_file
from pyimportance.load.fields import Field
from pyimportance.load.merge import Ints
from pyimportance.shards.sample_index import SampleIndex
from pyimportance.threads import default_threads

Sample = dict[str, Any]

_OPEN_FILES = 256  # kept open at most, and as many again that are being read
_REMOTE_THREADS = 16
_MOST_THREADS = 4  # each has a request under way; one alone is about as fast as the page cache


class Columns:
    """An index as native code takes it: made once, for all windows of its samples.

    fields: parts that batches get as arrays. A sample whose part is missing or of another size is in error.
    """

    def __init__(self, index: SampleIndex, fields: tuple[Field, ...] = ()) -> None:
        self.index = index
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
        )


class ReadAhead:
    """Reads what one iteration asks for, with threads and files of its own until `close`.

    remote: files are behind URLs, where a thread only waits.
    """

    def __init__(self, meter: Meter, *, remote: bool = False) -> None:
        self._limit = make_room(2 * _OPEN_FILES) // 2
        self._meter = meter
        self._kept: OrderedDict[str, File] = OrderedDict()  # the latest; closed when nobody else holds it
        self._native = _C.ReadAhead(_REMOTE_THREADS if remote else min(default_threads(), _MOST_THREADS))
        self._asked: deque[tuple[_C.LoadWindow, list[File]]] = deque()  # the files are open until it is read
        self._uncounted: list[Window] = []

    def window(self, columns: Columns, rows: Ints, pad: NDArray[np.bool_], tier: str) -> Window:
        """Begins to read the samples of these rows, to be yielded in that order; repeated ones are read once.

        Waits for earlier windows where more files would be open than may be.
        """
        index = columns.index
        native = _C.LoadWindow(self._native, columns.native, rows, pad)
        window = Window(native, tier)
        self._uncounted.append(window)
        numbers = np.unique(index.file[rows]).tolist()
        for i in range(0, len(numbers), self._limit):
            group = numbers[i : i + self._limit]
            while self._asked and sum(len(files) for _, files in self._asked) + len(group) > self._limit:
                self._asked.popleft()[0].wait()
            files = []
            for number in group:
                found = self._open(index, number, rows, tier)
                if isinstance(found, DataError):
                    native.give_up(number, found.problem, found.path, found.member, found.offset)
                else:
                    files.append((number, found))
            native.read([(number, file.handle, file.size, file.path) for number, file in files])
            self._asked.append((native, [file for _, file in files]))
        return window

    def _open(self, index: SampleIndex, number: int, rows: Ints, tier: str) -> File | DataError:
        """A shard of the length that the index knows, or what is wrong with it."""
        path = index.files[number]
        try:
            file = self._kept.pop(path, None) or content_of(open_file(path, self._meter, tier))
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
        window.native.wait()
        self._count(window)
        self._asked = deque(asked for asked in self._asked if asked[0] is not window.native)

    def _count(self, window: Window) -> None:
        if window in self._uncounted:
            self._uncounted.remove(window)
            self._meter.add(window.tier, *window.native.count())

    def close(self) -> None:
        """Ends the threads, and counts what they read for nobody."""
        self._native.close()
        for window in self._uncounted.copy():
            self._count(window)
        self._asked.clear()
        self._kept.clear()


class Window:
    """Samples that are being read, or were."""

    def __init__(self, native: _C.LoadWindow, tier: str) -> None:
        self.native, self.tier = native, tier

    def __len__(self) -> int:
        return len(self.native)

    def errors(self) -> Iterator[tuple[int, DataError]]:
        """(position, what is wrong with the sample there), ascending; once it is read."""
        for position, problem, path, member, offset in self.native.errors():
            where = None if offset < 0 else offset
            yield position, DataError(problem, path=path, member=member or None, offset=where)
