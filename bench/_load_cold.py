"""Files out of the page cache, and how much of them is in it."""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from _harness import say
from _machine import field_of

LIBC = ctypes.CDLL(None, use_errno=True)
COLD = 0.01  # of the pages of all files at most are in the page cache where nothing is said
PATIENCE = 5.0  # seconds for processes that are ending


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def forget(folder: Path, most: float = COLD) -> float:
    """Has the kernel drop the files below a folder from its page cache, once they are on disk.

    It leaves pages that are in a process's tables. Those of loader processes go with these: of loaders that
    nobody has any more, as soon as Python's collector has found them. So it is tried again for a while.
    Returns what part of the pages is left, and says who has mapped them where that is more than ``most``.
    What lies on a file system that is memory stays.
    """
    gc.collect()
    end = time.monotonic() + PATIENCE
    _drop(folder)
    while (left := cached(folder)) > most and (holders := mapped_by(folder)) and time.monotonic() < end:
        time.sleep(0.1)
        _drop(folder)
    if left > most:
        say(f"{left:.1%} of {folder} stays in the page cache; processes that have it mapped: {holders}")
    return left


def mapped_by(folder: Path) -> list[int]:
    """Other processes that have files below a folder mapped, of those that may be looked at."""
    found = []
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):
            if int(maps.parent.name) != os.getpid() and any(_spans(maps, folder)):
                found.append(int(maps.parent.name))
    return found


def _spans(maps: Path, folder: Path) -> Iterator[tuple[int, int]]:
    """Where a process has files below a folder mapped: first byte, and end."""
    for line in maps.read_text().splitlines():
        span, *_, name = line.split(maxsplit=5)
        if name.startswith(f"{folder.resolve()}/"):
            start, end = span.split("-")
            yield int(start, 16), int(end, 16)


def _drop(folder: Path) -> None:
    """What this process has mapped leaves its tables first: it is read anew where it is used again."""
    for start, end in _spans(Path("/proc/self/maps"), folder):
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
