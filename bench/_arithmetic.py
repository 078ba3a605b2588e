"""What a second thread is worth on this machine where nothing is shared: arithmetic in registers alone."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
from _harness import check
from numba import njit, prange

A, C = np.uint64(6364136223846793005), np.uint64(1442695040888963407)  # Knuth's, modulo 2^64
CHAINS, PARTS = 8, 64  # independent ones, as many as keep the multiplier busy


@njit(parallel=True)
def step(out, times):  # type: ignore[no-untyped-def]
    for part in prange(out.shape[0]):
        a, b, c, d, e, f, g, h = out[part]
        for _ in range(times):
            a, b, c, d = a * A + C, b * A + C, c * A + C, d * A + C
            e, f, g, h = e * A + C, f * A + C, g * A + C, h * A + C
        out[part] = (a, b, c, d, e, f, g, h)


@cache
def answer(times: int) -> npt.NDArray[np.uint64]:
    numbers = np.arange(CHAINS, dtype=np.uint64)
    for _ in range(times):
        numbers = numbers * A + C
    return numbers


class Arithmetic:
    """Linear congruences, about 2 ms of them on one thread, in parts that share no line of a cache."""

    def __init__(self, quick: bool) -> None:
        self.times = 100 if quick else 40_000

    @property
    def nbytes(self) -> int:
        return CHAINS * PARTS * 8

    @property
    def items(self) -> int:
        return self.times * CHAINS * PARTS

    def __call__(self, turn: int) -> npt.NDArray[np.uint64]:
        numbers = np.tile(np.arange(CHAINS, dtype=np.uint64), (PARTS, 1))
        step(numbers, self.times)
        return numbers

    def examine(self, numbers: npt.NDArray[np.uint64]) -> None:
        check((numbers == answer(self.times)).all(), "arithmetic: not the numbers that follow")
