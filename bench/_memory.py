"""How fast this machine's memory can be read, measured beside what is timed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from _harness import check
from _machine import last_level_cache
from numba import njit, prange


@njit(parallel=True)
def add_up(numbers):  # type: ignore[no-untyped-def]
    total = 0
    for i in prange(numbers.size):
        total += numbers[i]
    return total


class Read:
    """A sum as in STREAM, by numba: int64, in order, each thread its part; integers, so that any order of
    adding is the right one. Of 1 GiB, or of eight times the last-level cache if that is more.
    """

    def __init__(self, quick: bool) -> None:
        size = (1 << 20) if quick else max(1 << 30, 8 * last_level_cache()) // 8
        self.numbers: npt.NDArray[np.int64] = np.arange(size)  # written, or all pages would be one of zeros

    @property
    def nbytes(self) -> int:
        return self.numbers.nbytes

    def __call__(self, turn: int) -> int:
        return int(add_up(self.numbers))

    def examine(self, total: int) -> None:
        n = self.numbers.size
        check(total == n * (n - 1) // 2, f"sum: {total}; right is {n * (n - 1) // 2}")
