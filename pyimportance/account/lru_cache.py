"""LRUCache: a plain loader's, to compare with; what processes of a node share is io/node_cache.py."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Hashable

from pyimportance.checks import check_integer
from pyimportance.errors import ArgumentError, DataError, OutputError
from pyimportance.io.descriptor import Descriptor, open_nameless
from pyimportance.io.meter import Meter


class LRUCache(Descriptor):
    """Byte strings by key, at most ``capacity_bytes`` of them; the least recently used go first.

    For one process (threads may share it). All entries lie in one sparse file of slots of ``slot_bytes``,
    the largest entry's size; a slot is used again once its entry is gone, so that nothing fragments. Entries
    count with their own bytes, not their slot's. The file is made at ``path``, which must not exist, and has
    no name once it is open: however the process ends, the space comes back, and no other file is touched.

    meter    hits are counted there, as "cache"
    """

    def __init__(
        self, path: str | os.PathLike[str], capacity_bytes: int, slot_bytes: int, meter: Meter | None = None
    ) -> None:
        self._entries: OrderedDict[Hashable, tuple[int, int]] = OrderedDict()  # key -> slot, bytes
        self.path, self.meter = os.fspath(path), meter
        self.capacity_bytes = check_integer("capacity_bytes", capacity_bytes, 0)
        self.slot_bytes = check_integer("slot_bytes", slot_bytes, 1)
        self.nbytes = self.evictions = 0
        self._free: list[int] = []
        self._slots = 0
        self._lock = threading.Lock()
        try:
            self._fd = open_nameless(self.path)
        except OSError as e:
            raise OutputError(f"{self.path}: the cache cannot be made ({e.strerror})") from e

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def get(self, key: Hashable) -> bytes | None:
        """The entry, which becomes the most recently used; None if it is not here."""
        with self._lock:
            fd = self.fileno()
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            slot, nbytes = entry
            data = os.pread(fd, nbytes, slot * self.slot_bytes)
        if len(data) != nbytes:
            raise DataError(f"cache entry has {len(data)} of {nbytes} bytes", path=self.path)
        if self.meter is not None:
            self.meter.add("cache", nbytes)
        return data

    def put(self, key: Hashable, data: bytes) -> None:
        """Keeps ``data``, in place of what ``key`` had. An entry larger than the capacity is not kept.

        Raises ArgumentError for an entry larger than a slot, OutputError where the disk is full.
        """
        nbytes = len(data)
        if nbytes > self.slot_bytes:
            raise ArgumentError(f"entry {key!r} has {nbytes} bytes; a slot holds {self.slot_bytes}")
        with self._lock:
            fd = self.fileno()
            if key in self._entries:
                self._drop(key)
            if nbytes > self.capacity_bytes:
                return
            while self.nbytes + nbytes > self.capacity_bytes:
                self._drop(next(iter(self._entries)))
                self.evictions += 1
            if not self._free:
                self._free.append(self._slots)
                self._slots += 1
            slot = self._free[-1]
            try:
                written = os.pwrite(fd, data, slot * self.slot_bytes)
            except OSError as e:
                raise OutputError(f"{self.path}: cannot be written ({e.strerror})") from e
            if written != nbytes:
                raise OutputError(f"{self.path}: {written} of {nbytes} bytes were written; is the disk full?")
            self._free.pop()
            self._entries[key] = slot, nbytes
            self.nbytes += nbytes

    def _drop(self, key: Hashable) -> None:
        slot, nbytes = self._entries.pop(key)
        self._free.append(slot)
        self.nbytes -= nbytes

    def close(self) -> None:
        """Gives the space back. Twice is harmless."""
        super().close()
        self._entries.clear()
        self.nbytes = 0
