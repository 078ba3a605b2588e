"""The least that finding samples in tars can cost: a compiled loop over their headers."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba import njit

_pread: Any = ctypes.CDLL(None).pread
_pread.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64)
_pread.restype = ctypes.c_ssize_t


@njit(nogil=True)
def _members_of(fd: int, block: Any) -> int:
    """Of a plain tar, by its sizes alone: no name, no checksum. -1 where it ends too early."""
    at = members = 0
    while _pread(fd, block.ctypes, 512, at) == 512:
        if block[0] == 0:
            return members
        size = 0
        for i in range(124, 135):
            size = 8 * size + block[i] - 48
        at += 512 + (size + 511) // 512 * 512
        members += 1
    return -1


def members_in(tars: Sequence[str], threads: int) -> int:
    def count(name: str) -> int:
        with open(name, "rb", buffering=0) as file:
            return int(_members_of(file.fileno(), np.empty(512, np.uint8)))

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(count, tars))
