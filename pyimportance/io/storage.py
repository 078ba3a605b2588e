"""The one place that opens data for reading, so that every byte is counted.

Everything is read by position (pread): a File has no cursor, and threads may share it. A path is one of the
file system, or a URL (see urls.py and remote.py). Opening is not counted: it asks for the size.
"""

from __future__ import annotations

import mmap
import os
import resource
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from pyimportance.errors import ArgumentError, DataError
from pyimportance.io import urls
from pyimportance.io.descriptor import Descriptor
from pyimportance.io.meter import Meter

if TYPE_CHECKING:
    from pyimportance.io.arriving import Arriving
    from pyimportance.io.frames import Framed
    from pyimportance.io.remote import RemoteFile

_SPARE = 256  # descriptors left for everything else in the process
_OPENED_AT_ONCE = 16  # a server is asked for each size
_CHANGES = 9  # of an object, between the questions for its size and for its bytes


class ChangedError(DataError):
    """An object is not what it was when it was opened."""


class File(ABC):
    """Something open for reading; its reads are charged to ``meter`` under ``tier``.

    Get one from `open_file`. Native code reads through `handle`, and its caller then calls `charge`.

    path     as errors show it: of a URL neither password nor query
    version  changes when the contents do: a server's ETag, or a time of change; None where none is known
    """

    def __init__(
        self, path: str, size: int, version: int | str | None, meter: Meter | None, tier: str
    ) -> None:
        self.path, self.size, self.version, self.meter, self.tier = path, size, version, meter, tier

    @property
    @abstractmethod
    def handle(self) -> int | RemoteFile | Framed | Arriving:
        """What native code reads through: a descriptor, or an object with fetch and begin."""

    @abstractmethod
    def read_uncounted(self, offset: int, nbytes: int) -> tuple[bytes, int, int]:
        """(bytes that lie within the size; bytes and requests that took, for `charge`). Raises DataError."""

    @abstractmethod
    def close(self) -> None:
        """Twice is harmless."""

    def __enter__(self) -> File:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

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
        data, read, requests = self.read_uncounted(offset, nbytes)
        self.charge(read, requests)
        return data

    def map(self) -> mmap.mmap | bytes:
        """The whole file as a buffer that stays valid after `close`, charged as read now.

        An empty file is a DataError.
        """
        if self.size == 0:
            raise DataError("is empty", path=self.path)
        return self.pread(0, self.size)

    def read_in_part(self) -> None:
        """Has the system read what is asked for alone: it would read ahead, up to 8 MiB on some disks.

        Of what comes by ranges, as from servers, nothing else comes anyway.
        """
        return

    def version_now(self) -> int | str | None:
        """`version`, asked for again; of what is asked for it with every read, as servers are, the same."""
        return self.version

    def check_unchanged(self) -> None:
        """Raises DataError if the contents have changed since it was opened."""
        if self.version_now() != self.version:
            raise DataError("was changed while it was read", path=self.path)

    def charge(self, nbytes: int, requests: int) -> None:
        """Counts what native code read through `handle`."""
        if self.meter is not None:
            self.meter.add(self.tier, nbytes, requests)


class LocalFile(Descriptor, File):
    """A regular file of the file system."""

    def __init__(self, path: str, fd: int, status: os.stat_result, meter: Meter | None, tier: str) -> None:
        self._fd = fd
        File.__init__(self, path, status.st_size, status.st_mtime_ns, meter, tier)

    def version_now(self) -> int:
        return os.fstat(self.fileno()).st_mtime_ns

    @property
    def handle(self) -> int:
        return self.fileno()

    def read_in_part(self) -> None:
        os.posix_fadvise(self.fileno(), 0, 0, os.POSIX_FADV_RANDOM)

    def read_uncounted(self, offset: int, nbytes: int) -> tuple[bytes, int, int]:
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
        return chunks[0] if len(chunks) == 1 else b"".join(chunks), got, requests

    def map(self) -> mmap.mmap | bytes:
        """`File.map`, by mapping: only for files that nobody changes in place (ours are replaced whole)."""
        if self.size == 0:
            return super().map()
        mapped = mmap.mmap(self.fileno(), self.size, access=mmap.ACCESS_READ)
        self.charge(self.size, 1)
        return mapped


def open_file(path: str | os.PathLike[str], meter: Meter | None = None, tier: str = "origin") -> File:
    """Opens a regular file, or an object behind a URL. Opening reads nothing and counts nothing.

    Raises DataError if it is missing, not a regular file, or may not be read.
    """
    name = os.fspath(path)
    if urls.is_url(name):
        from pyimportance.io.remote import RemoteFile

        return RemoteFile(name, meter, tier)
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
    return LocalFile(name, fd, status, meter, tier)


def exists(path: str) -> bool:
    """Whether there is a file, or an object behind a URL. Raises DataError where a server does not tell."""
    if not urls.is_url(path):
        return os.path.exists(path)
    from pyimportance.io.remote import is_there

    return is_there(path)


def read_whole(
    path: str | os.PathLike[str], meter: Meter | None = None, tier: str = "origin", most: int | None = None
) -> bytes:
    """The bytes of a small file (a manifest, a table): of an object that is replaced meanwhile, one state.

    Raises DataError where it has more bytes than ``most``.
    """
    for _ in range(_CHANGES):
        with suppress(ChangedError), open_file(path, meter, tier) as file:
            return file.pread(0, size_of(file, most))
    with open_file(path, meter, tier) as file:
        return file.pread(0, size_of(file, most))


def size_of(file: File, most: int | None) -> int:
    """Its bytes, which are memory where it is read whole, and may be holes, or only said by a server.

    Raises DataError where they are more than ``most``.
    """
    if most is not None and file.size > most:
        raise DataError(f"has {file.size} bytes; of these files {most} are read at most", path=file.path)
    return file.size


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
    local = sum(not urls.is_url(path) for path in paths)
    if make_room(local) < local:
        raise ArgumentError(
            f"{local} files must be open at once, and this process may open "
            f"{resource.getrlimit(resource.RLIMIT_NOFILE)[1]}; raise the limit (ulimit -n), or use fewer, "
            "larger tars"
        )
    remote = [path for path in paths if urls.is_url(path)]
    with ThreadPoolExecutor(_OPENED_AT_ONCE) as pool:
        opened = dict(zip(remote, pool.map(lambda path: open_file(path, meter, tier), remote), strict=True))
    with ExitStack() as stack:
        yield [stack.enter_context(opened.get(path) or open_file(path, meter, tier)) for path in paths]
