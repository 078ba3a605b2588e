"""A small file that says whose work a directory is, and that one process at a time may hold."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from pyimportance.errors import OutputError
from pyimportance.io.atomic import sync_directory


class LockedFile:
    """The contents of a file that this process holds; see `locked`."""

    def __init__(self, path: str, fd: int) -> None:
        self.path, self._fd = path, fd

    def read(self) -> bytes:
        return os.pread(self._fd, 1 << 16, 0)

    def write(self, data: bytes) -> None:
        """Replaces the contents. A crash meanwhile may leave a part of ``data``."""
        try:
            os.pwrite(self._fd, data, 0)
            os.ftruncate(self._fd, len(data))
            os.fsync(self._fd)
            sync_directory(os.path.dirname(self.path))
        except OSError as e:
            raise OutputError(f"{self.path}: cannot be written ({e.strerror})") from e


@contextmanager
def locked(path: str) -> Iterator[LockedFile]:
    """Holds ``path`` for this process; made empty if it does not exist.

    The kernel lets go when the process ends, however it ends.
    Raises OutputError if another process holds it, or the file system has no locks.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as e:
        raise OutputError(f"{path}: cannot be written ({e.strerror})") from e
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(f"{path}: another process is writing here") from None
        except OSError as e:
            raise OutputError(f"{path}: cannot be locked ({e.strerror})") from e
        yield LockedFile(path, fd)
    finally:
        os.close(fd)
