"""A job's own notes: whose work the files around it are, and which of them are finished.

One line of JSON says the job, then one per finished file its path, bytes and CRC32C. A line is added once the
file has its name; whatever else lies there after a crash, or was changed since, is not taken up again. Lines
about shards are not synced one by one: what a machine forgets that loses its power is done again.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

from pyimportance.io.lock import LockedFile

FORMAT: Final = "pyimportance-job"
CRC32C: Final = "crc32c"
"""What it is called in a line, and in the metadata of an object."""


class Journal:
    """The notes in a file that this process holds. Threads may share it."""

    def __init__(self, file: LockedFile) -> None:
        self._file, self._lock = file, threading.Lock()
        self.head, self._finished, self._end = parse(file.read())

    def begin(self, head: dict[str, Any]) -> None:
        """Forgets what was here; ``head`` has the field 'job'."""
        line = encode(head)
        self._file.write(line)
        self.head, self._finished, self._end = parse(line)

    def add(self, path: str, nbytes: int, crc32c: int, *, durable: bool = True) -> None:
        """Notes a file that is finished: it has its name, and is synced."""
        line = _line(path, nbytes, crc32c)
        with self._lock:
            self._file.write(line, self._end, durable=durable)
            self._end += len(line)
            self._finished[path] = nbytes, crc32c

    @property
    def has_finished(self) -> bool:
        """Whether any file is noted."""
        return bool(self._finished)

    def crc32c(self, path: str, nbytes: int) -> int | None:
        """What the file summed to when it was finished with so many bytes; None if it was not."""
        known, crc32c = self.finished(path) or (-1, -1)
        return crc32c if known == nbytes else None

    def finished(self, path: str) -> tuple[int, int] | None:
        """Bytes and CRC32C of the file when it was finished; None if it was not."""
        return self._finished.get(path)

    def settle(self, paths: Iterable[str]) -> None:
        """Puts the notes in this order, whatever the order of the work was: same job, same bytes."""
        with self._lock:
            lines = [encode(self.head or {}), *(_line(p, *self._finished[p]) for p in paths)]
            if self._file.read() != (data := b"".join(lines)):
                self._file.write(data)
            else:
                self._file.sync()
            self._end = len(data)


def encode(head: dict[str, Any]) -> bytes:
    return (json.dumps({"format": FORMAT, **head}) + "\n").encode()


def parse(data: bytes) -> tuple[dict[str, Any] | None, dict[str, tuple[int, int]], int]:
    """(the first line, bytes and CRC32C by path, where the last sound line ends); None: there is none."""
    head: dict[str, Any] | None = None
    finished: dict[str, tuple[int, int]] = {}
    end = 0
    for line in data.splitlines(keepends=True):
        fields: Any = None
        with suppress(ValueError, RecursionError):
            fields = json.loads(line)
        if not line.endswith(b"\n") or not isinstance(fields, dict):
            break
        if head is None:
            if fields.get("format") != FORMAT or not isinstance(fields.get("job"), str):
                break
            head = fields
        elif all(type(fields.get(name)) is kind for name, kind in _FINISHED.items()):
            finished[fields["path"]] = fields["bytes"], fields[CRC32C]
        else:
            break
        end += len(line)
    return head, finished, end


_FINISHED: Final = {"path": str, "bytes": int, CRC32C: int}


def _line(path: str, nbytes: int, crc32c: int) -> bytes:
    return (json.dumps({"path": path, "bytes": nbytes, CRC32C: crc32c}) + "\n").encode()
