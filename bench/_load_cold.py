"""Files out of the page cache, and how much of them is in it."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import numpy as np
from _machine import field_of

LIBC = ctypes.CDLL(None, use_errno=True)


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def forget(folder: Path) -> None:
    """Has the kernel drop the files below a folder from its page cache, once they are on disk.

    posix_fadvise (DONTNEED) leaves pages that are in a process's tables, so those that this process has
    mapped leave its tables first (madvise): they are read anew where they are used again. What lies on a file
    system that is memory stays.
    """
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, *_, name = line.split(maxsplit=5)
        if name.startswith(f"{folder.resolve()}/"):
            start, end = (int(address, 16) for address in span.split("-"))
            LIBC.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)
    for path in files_below(folder):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fdatasync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def cached(folder: Path) -> float:
    """What part of the pages of the files below a folder is in the page cache, by mincore(2)."""
    there = pages = 0
    for path in files_below(folder):
        nbytes = path.stat().st_size
        if nbytes == 0:
            continue
        with open(path, "rb") as file:
            mapped = mmap.mmap(
                file.fileno(), nbytes, access=mmap.ACCESS_COPY
            )  # writable, as from_buffer asks
        count = -(-nbytes // mmap.PAGESIZE)
        found = (ctypes.c_ubyte * count)()
        start = ctypes.c_char.from_buffer(mapped)
        status = LIBC.mincore(ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(nbytes), found)
        del start
        mapped.close()
        if status != 0:
            raise OSError(ctypes.get_errno(), f"mincore: {path}")
        there, pages = there + int((np.ctypeslib.as_array(found) & 1).sum()), pages + count
    return there / max(1, pages)


def bytes_fetched() -> int | None:
    """What storage devices have read for this process, by the kernel's count; None where it keeps none."""
    said = field_of("/proc/self/io", "read_bytes")
    return int(said) if said else None
