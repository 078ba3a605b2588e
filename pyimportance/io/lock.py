"""A small file that says whose work a directory is, and that one process at a time may hold.

And ranges of a file, which belong to who opened it: whatever holds one, the kernel lets go when it ends.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from pyimportance.errors import OutputError
from pyimportance.io.atomic import sync_directory

_RANGE = struct.Struct("hhqqi4x")  # struct flock: kind, whence, start, length, pid


class HeldError(OutputError):
    """Another process holds the file."""


class LockedFile:
    """The contents of a file that this process holds; see `locked`."""

    def __init__(self, path: str, fd: int) -> None:
        self.path, self._fd = path, fd

    def read(self) -> bytes:
        data = b""
        while piece := os.pread(self._fd, 1 << 20, len(data)):
            data += piece
        return data

    def append(self, data: bytes) -> None:
        """Adds to the end what need not outlive a crash of the machine."""
        try:
            done, end = 0, os.fstat(self._fd).st_size
            while done < len(data):
                done += os.pwrite(self._fd, data[done:], end + done)
        except OSError as e:
            raise OutputError(f"{self.path}: cannot be written ({e.strerror})") from e

    def sync(self) -> None:
        """Makes what was written outlive a crash of the machine."""
        try:
            os.fsync(self._fd)
        except OSError as e:
            raise OutputError(f"{self.path}: cannot be written ({e.strerror})") from e

    def write(self, data: bytes, offset: int = 0, *, durable: bool = True) -> None:
        """Replaces the contents from ``offset`` on. A crash meanwhile may leave a part of ``data``; one
        afterwards as well, if it need not be ``durable``.
        """
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(self._fd, data[done:], offset + done)
            os.ftruncate(self._fd, offset + len(data))
            if not durable:
                return
            os.fsync(self._fd)
            if offset == 0:
                sync_directory(os.path.dirname(self.path) or ".")
        except OSError as e:
            raise OutputError(f"{self.path}: cannot be written ({e.strerror})") from e


@contextmanager
def locked(path: str, *, shared: bool = False, wait: bool = False) -> Iterator[LockedFile]:
    """Holds ``path`` for this process; made empty if it does not exist.

    shared  others may hold it too, if they ask for no more than that
    wait    until it is free, rather than raise

    The kernel lets go when the process ends, however it ends.
    Raises HeldError if another process holds it, OutputError if it cannot be made or the file system has no
    locks.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as e:
        raise OutputError(f"{path}: cannot be written ({e.strerror})") from e
    try:
        try:
            how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(fd, how if wait else how | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HeldError(f"{path}: another process is writing here") from None
        except OSError as e:
            raise OutputError(f"{path}: cannot be locked ({e.strerror})") from e
        yield LockedFile(path, fd)
    finally:
        os.close(fd)


def append_line(path: str, line: str) -> None:
    """Adds a line to a log that several processes write; made if it does not exist.

    Raises OutputError as `locked` does, and where it cannot be written.
    """
    with locked(path, wait=True) as file:
        file.append(line.encode() + b"\n")


def try_range(fd: int, begin: int, end: int, *, shared: bool = False) -> bool:
    """Holds bytes of a file, which need not be there, for the opening that ``fd`` is of; False where another
    opening of it holds some of them. Copies of a descriptor, a fork's too, are one opening.

    shared  others may hold them too, if they ask for no more than that; what is held already is changed
    """
    try:
        _set_range(fd, fcntl.F_RDLCK if shared else fcntl.F_WRLCK, begin, end)
    except BlockingIOError:
        return False
    return True


def free_range(fd: int, begin: int, end: int) -> None:
    _set_range(fd, fcntl.F_UNLCK, begin, end)


def _set_range(fd: int, kind: int, begin: int, end: int) -> None:
    # Not lockf: its locks are of a process, which loses all it has on a file with any descriptor it closes.
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _RANGE.pack(kind, os.SEEK_SET, begin, end - begin, 0))
