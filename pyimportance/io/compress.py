"""A file compressed frame by frame, in zstd's seekable format; `frames` reads it."""

from __future__ import annotations

import os
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import IO, Any, Final

import zstandard

from pyimportance import _C
from pyimportance.io import seek_table
from pyimportance.threads import default_threads

LIBRARY: Final = ".".join(map(str, zstandard.ZSTD_VERSION))
"""The version of zstd, which decides the bytes of frames (not of what is in them)."""

_AHEAD = 16 << 20  # bytes that are being compressed while others are written
_local = threading.local()


def scratch(out: IO[bytes]) -> AbstractContextManager[IO[bytes]]:
    """A file without a name on the disk that ``out`` is written to."""
    named = isinstance(out.name, str)  # else it is a temporary file itself
    return tempfile.TemporaryFile(dir=os.path.dirname(out.name) if named else None)


def write_frames(content: int, cuts: Sequence[int], out: IO[bytes], level: int) -> tuple[int, int]:
    """Writes the bytes of a descriptor to ``out`` as a frame for each ``cuts[i]:cuts[i + 1]``, then a table.

    Returns (bytes, CRC32C of them). Memory: 16 MiB or the largest frame, and what becomes of that.
    """
    table: list[tuple[int, int]] = []
    begun: deque[tuple[int, Future[bytes]]] = deque()
    nbytes = crc32c = ahead = 0

    def write(data: bytes) -> None:
        nonlocal nbytes, crc32c
        out.write(data)
        nbytes, crc32c = nbytes + len(data), _C.crc32c(data, crc32c)

    def finish() -> int:
        size, frame = begun.popleft()
        write(data := frame.result())
        table.append((len(data), size))
        return size

    with ThreadPoolExecutor(default_threads()) as pool:
        for start, end in pairwise(cuts):
            while begun and ahead + end - start > _AHEAD:
                ahead -= finish()
            begun.append((end - start, pool.submit(_compress, content, start, end - start, level)))
            ahead += end - start
        while begun:
            finish()
    write(seek_table.encode(table))
    return nbytes, crc32c


def _compress(content: int, offset: int, nbytes: int, level: int) -> bytes:
    data = os.pread(content, nbytes, offset)
    if len(data) != nbytes:
        raise OSError(f"{len(data)} of {nbytes} bytes were read back")
    return frame_of(data, level)


def frame_of(data: bytes, level: int) -> bytes:
    """``data`` as one frame, which says its content's size and checksum."""
    compressed: bytes = _compressor(level).compress(data)
    return compressed


def _compressor(level: int) -> Any:
    """This thread's own. What a frame becomes does not depend on those before it."""
    known: dict[int, Any] = _local.__dict__.setdefault("compressors", {})
    if level not in known:
        known[level] = zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=True)
    return known[level]
