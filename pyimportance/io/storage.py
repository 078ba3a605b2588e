"""The one place that opens data for reading, so that every byte is counted.

Everything is read by position (pread): a File has no cursor, and threads may share it.
"""

from __future__ import annotations

import mmap
import os
import resource
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from pyimportance.errors import ArgumentError, DataError
from pyimportance.io.descriptor import Descriptor
from pyimportance.io.meter import Meter

_SPARE = 256  # descriptors left for everything else in the process


class File(Descriptor):
    """A regular file open for reading; its reads are charged to ``meter`` under ``tier``.

    Get one from `open_file`. Native code reads through `fileno`, and then calls `charge`.
    """

    def __init__(self, path: str, fd: int, size: int, meter: Meter | None, tier: str) -> None:
        self.path, self.size, self.meter, self.tier = path, size, meter, tier
        self._fd = fd

    def pread(self, offset: int, nbytes: int) -> bytes:
        """``nbytes`` bytes from ``offset``, all of them.

        Raises DataError if the file ends before, or the read fails.
        """
        if offset < 0 or nbytes < 0:
            raise ArgumentError(f"offset and nbytes must be 0 or more; got {offset} and {nbytes}")
        if offset + nbytes > self.size:
            raise DataError(
                f"ends at {self.size}; {nbytes} bytes were to be read here", path=self.path, offset=offset
            )
        chunks, got, requests = [], 0, 0
        while got < nbytes:
            try:
                chunk = os.pread(self.fileno(), nbytes - got, offset + got)
            except OSError as e:
                raise DataError(
                    f"cannot be read ({e.strerror})", path=self.path, offset=offset + got
                ) from None
            requests += 1
            if not chunk:
                raise DataError(
                    f"ends here; {nbytes} bytes from {offset} were to be read, got {got}",
                    path=self.path,
                    offset=offset + got,
                )
            chunks.append(chunk)
            got += len(chunk)
        self.charge(got, requests)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def map(self) -> mmap.mmap:
        """The whole file mapped into memory, charged as read now. It stays valid after `close`.

        Only for files that nobody changes in place (ours are replaced whole). An empty file is a DataError.
        """
        if self.size == 0:
            raise DataError("is empty", path=self.path)
        mapped = mmap.mmap(self.fileno(), self.size, access=mmap.ACCESS_READ)
        self.charge(self.size, 1)
        return mapped

    def charge(self, nbytes: int, requests: int) -> None:
        """Counts what native code read through `fileno`."""
        if self.meter is not None:
            self.meter.add(self.tier, nbytes, requests)


def open_file(path: str | os.PathLike[str], meter: Meter | None = None, tier: str = "origin") -> File:
    """Opens a regular file. Opening reads nothing and counts nothing.

    Raises DataError if it is missing, not a regular file, or may not be read.
    """
    name = os.fspath(path)
    try:
        # Without O_NONBLOCK, opening a FIFO that somebody left in the place of a file would wait for ever.
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise DataError("does not exist", path=name) from None
    except OSError as e:
        raise DataError(f"cannot be opened ({e.strerror})", path=name) from None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise DataError("is not a regular file", path=name)
    return File(name, fd, status.st_size, meter, tier)


def read_whole(path: str | os.PathLike[str], meter: Meter | None = None, tier: str = "origin") -> bytes:
    """The bytes of a small file (a manifest, a table)."""
    with open_file(path, meter, tier) as file:
        return file.pread(0, file.size)


def make_room(files: int) -> int:
    """How many of so many files this process may have open at once, beside all else that it has open.

    Its limit of open files is raised where that is needed and allowed.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files + _SPARE
    if soft != resource.RLIM_INFINITY and wanted > soft:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return min(files, max(soft - _SPARE, soft // 2))
    return files


@contextmanager
def open_files(
    paths: Sequence[str], meter: Meter | None = None, tier: str = "origin"
) -> Iterator[list[File]]:
    """All of them open at once, see `make_room`. Raises ArgumentError where that may not be."""
    if make_room(len(paths)) < len(paths):
        raise ArgumentError(
            f"{len(paths)} files must be open at once, and this process may open "
            f"{resource.getrlimit(resource.RLIMIT_NOFILE)[1]}; raise the limit (ulimit -n), or use fewer, "
            "larger tars"
        )
    with ExitStack() as stack:
        yield [stack.enter_context(open_file(path, meter, tier)) for path in paths]
