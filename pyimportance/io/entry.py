"""Entry: what a cache folder has of one object, as one process has it open.

Two files: ``.parts``, as long as the object and sparse, and ``.journal``, which says what of it is there
(extents.py). All locks are on ranges of the journal, and the kernel's: byte 0 is held, shared, by who reads,
and alone by who removes the entry; byte 1 by who appends; those from `_DATA` on stand for the object's bytes,
and are held by who fetches them.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

from pyimportance import _C
from pyimportance.io.descriptor import Descriptor
from pyimportance.io.extents import DROPPED, HEADER, HERE, OF, WHOLE, Extent, Extents, encode, version_words
from pyimportance.io.lock import free_range, try_range

_USED, _APPENDED, _DATA = 0, 1, 16
_CHUNK = 4 << 20


class Entry(Descriptor):
    """Threads may share it. What it says is there has the checksum that it came with, once `check` says so.

    sound  places of the records that this process has checked, whichever Entry it did so through
    """

    def __init__(self, path: str, journal: int, parts: int, size: int, sound: set[int]) -> None:
        self.path, self._fd, self._journal, self._sound = path, parts, journal, sound
        self._extents, self._read, self._users = Extents(size), HEADER, 0
        self._busy: list[tuple[int, int]] = []
        self._lock = threading.RLock()
        _opened.add(self)

    def close(self) -> None:
        super().close()
        journal, self._journal = self._journal, -1
        if journal >= 0:
            os.close(journal)

    # -- who uses it --------------------------------------------------------------------------------------

    @property
    def is_gone(self) -> bool:
        """Whether it was removed: it can still be read by those who held it then, and by nobody else."""
        return os.fstat(self._journal).st_nlink == 0 or os.fstat(self._fd).st_nlink == 0

    def hold(self) -> bool:
        """Keeps it from being removed until as many `let_go`; False where it was, or is being removed."""
        with self._lock:
            if self._users == 0:
                if not try_range(self._journal, _USED, _USED + 1, shared=True):
                    return False
                if self.is_gone:
                    free_range(self._journal, _USED, _USED + 1)
                    return False
                os.utime(self._journal)  # the time of the latest use
            self._users += 1
            return True

    def let_go(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._journal >= 0:
                free_range(self._journal, _USED, _USED + 1)

    # -- what is here -------------------------------------------------------------------------------------

    @property
    def whole(self) -> bool:
        """Whether it was found to be all there and as it should be."""
        return self._extents.whole

    @property
    def is_complete(self) -> bool:
        return self._extents.nbytes == self._extents.size

    def refresh(self) -> None:
        """Takes in what other processes have written down."""
        with self._lock:
            while data := os.pread(self._journal, 1 << 20, self._read):
                before = self._read
                self._read = self._extents.read(data, before)
                if self._read == before:
                    break

    def gaps(self, begin: int, end: int) -> list[tuple[int, int]]:
        with self._lock:
            return self._extents.gaps(begin, end)

    def unchecked(self, begin: int, end: int) -> list[Extent]:
        """What is here of these bytes and was not checked by this process."""
        with self._lock:
            return [extent for extent in self._extents.over(begin, end) if extent.place not in self._sound]

    def check(self, extent: Extent) -> bool:
        """Whether the bytes are those that came."""
        if self._sum(extent.begin, extent.end) != extent.crc32c:
            return False
        with self._lock:
            self._sound.add(extent.place)
        return True

    def hull(self, begin: int, end: int) -> tuple[int, int]:
        """These bytes and the extents that they lie in."""
        with self._lock:
            over = self._extents.over(begin, end)
        return (min(begin, over[0].begin), max(end, over[-1].end)) if over else (begin, end)

    # -- changing it, by who has claimed the bytes in question -------------------------------------------

    def claim(self, begin: int, end: int) -> bool:
        """Whether these bytes are this thread's to fetch, until `free`; False where some are another's."""
        with self._lock:
            if any(begin < e and b < end for b, e in self._busy):
                return False
            if not try_range(self._journal, _DATA + begin, _DATA + end):
                return False
            self._busy.append((begin, end))
            return True

    def free(self, begin: int, end: int) -> None:
        with self._lock:
            self._busy.remove((begin, end))
            if self._journal >= 0:
                free_range(self._journal, _DATA + begin, _DATA + end)

    def drop(self, extent: Extent) -> None:
        self._append(DROPPED, extent.begin, extent.end - extent.begin)

    def put(self, begin: int, data: memoryview) -> None:
        """Bytes that were fetched, for which there is room (`NodeCache.reserve`). Raises OSError."""
        done = 0
        while done < len(data):
            done += os.pwrite(self.fileno(), data[done:], begin + done)
        self._sound.add(self._append(HERE, begin, len(data), _C.crc32c(data)))

    def is_of(self, version: int | str | None) -> bool:
        """Whether its bytes are of this version of the object; from now on they are where there are none."""
        words = version_words(version)
        with self._lock, self._appending():
            if self._extents.version is None:
                self._write(OF, *words)
            return self._extents.version == words

    def check_whole(self, crc32c: int) -> int | None:
        """Of all of it: None where it is as it should be, else its CRC32C, and nothing is here any more."""
        found = self._sum(0, self._extents.size)
        if found == crc32c:
            self._append(WHOLE)
            return None
        for extent in self._extents.over(0, self._extents.size):
            self.drop(extent)
        return found

    def _sum(self, begin: int, end: int) -> int:
        crc = 0
        for at in range(begin, end, _CHUNK):
            crc = _C.crc32c(os.pread(self.fileno(), min(_CHUNK, end - at), at), crc)
        return crc

    def _append(self, kind: int, begin: int = 0, nbytes: int = 0, crc32c: int = 0) -> int:
        with self._lock, self._appending():
            return self._write(kind, begin, nbytes, crc32c)

    def _write(self, kind: int, begin: int = 0, nbytes: int = 0, crc32c: int = 0) -> int:
        place = self._read
        os.pwrite(self._journal, encode(place, kind, begin, nbytes, crc32c), place)
        self.refresh()
        return place

    @contextmanager
    def _appending(self) -> Iterator[None]:
        while not try_range(self._journal, _APPENDED, _APPENDED + 1):
            time.sleep(0.001)  # it takes microseconds
        try:
            self.refresh()
            yield
        finally:
            free_range(self._journal, _APPENDED, _APPENDED + 1)


def try_to_hold_alone(journal: int) -> bool:
    """Whether nobody uses the entry of this open journal; then nobody will until it is closed."""
    return try_range(journal, _USED, _USED + 1)


_opened: WeakSet[Entry] = WeakSet()


def _close_inherited() -> None:
    """A fork's descriptors would keep what its parent holds, also after the parent's death."""
    for entry in list(_opened):
        entry.close()


os.register_at_fork(after_in_child=_close_inherited)
