"""The same statistics of a batch by numba: one fused pass over a row, in float32, every loop a vector loop.

numba from PyPI knows no vectorised exponential, so it is written out here: with `math.exp` both kernels take
several times as long. Few classes are transposed, a block of rows at a time, whose rows are then the lanes
of the vectors; with many, the lanes share a row.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit, prange

F = np.float32
COLUMNS = ("loss", "p_true", "correct", "margin", "el2n", "entropy")
ROW = 32  # bytes: six float32, and two more that keep a row within a cache line
LINE = 64  # bytes of that; NumPy's own arrays begin within one
LOWEST = F(-3e38)
FLOOR = F(-87)  # exp of it and of less counts as nothing beside 1
TRANSPOSED = 64  # classes
LANES = 32

# Sums in any order; but infinities are infinities, and nobody's logit is a NaN.
FAST = {"reassoc", "contract", "arcp", "nsz", "nnan"}


@njit(inline="always")
def exponential(x: F) -> F:  # of FLOOR..0, to 2 ulp (Cephes)
    k = np.floor(x * F(1.4426950408889634) + F(0.5))
    r = x - k * F(0.693359375) + k * F(2.12194440e-4)
    p = F(1.9875691500e-4)
    for c in (F(1.3981999507e-3), F(8.3334519073e-3), F(4.1665795894e-2), F(1.6666665459e-1), F(0.5)):
        p = p * r + c
    two_to_k = np.int32((np.int32(k) + np.int32(127)) << np.int32(23)).view(np.float32)
    return (p * r * r + r + F(1)) * two_to_k  # type: ignore[no-any-return]


@njit(fastmath=FAST, inline="always")
def finish(z_target: F, other: F, sums: tuple[F, F, F], out: npt.NDArray[F]) -> None:
    """From sums over the classes but the target's: of e = exp(d), e^2 and e d, with d = z - the top logit."""
    s, q, a = sums
    d = z_target - max(z_target, other)
    e = math.exp(d)
    total = s + e
    log_total = math.log(total)
    loss = log_total - d
    out[0] = loss
    out[1] = math.exp(-loss)
    out[2] = z_target > other
    out[3] = z_target - other
    out[4] = math.sqrt(s * s + q) / total
    out[5] = log_total - (a + e * d) / total


@njit(fastmath=FAST)
def one_row(z: npt.NDArray[F], target: int, out: npt.NDArray[F]) -> None:
    top = LOWEST
    for c in range(z.size):
        top = max(top, z[c])
    s = q = a = F(0)
    for c in range(z.size):
        d = max(z[c] - top, FLOOR)
        e = exponential(d) if c != target else F(0)
        s += e
        q += e * e
        a += e * d
    other = top
    if z[target] == top:
        other = LOWEST
        for c in range(z.size):
            other = max(other, z[c] if c != target else LOWEST)
    finish(z[target], other, (s, q, a), out)


@njit(fastmath=FAST)
def one_block(
    ids: npt.NDArray[np.int64], logits: npt.NDArray[F], targets: npt.NDArray[np.int64], state: npt.NDArray[F]
) -> None:
    classes = logits.shape[1]
    tile = np.zeros((classes, LANES), F)
    z_target, other = np.zeros(LANES, F), np.full(LANES, LOWEST)
    s, q, a = np.zeros(LANES, F), np.zeros(LANES, F), np.zeros(LANES, F)
    for lane in range(ids.size):
        for c in range(classes):
            tile[c, lane] = logits[lane, c]
        z_target[lane] = logits[lane, targets[lane]]
        tile[targets[lane], lane] = LOWEST
    for c in range(classes):
        for lane in range(LANES):
            other[lane] = max(other[lane], tile[c, lane])
    for c in range(classes):
        for lane in range(LANES):
            d = max(tile[c, lane] - max(other[lane], z_target[lane]), FLOOR)
            e = exponential(d)
            s[lane] += e
            q[lane] += e * e
            a[lane] += e * d
    for lane in range(ids.size):
        finish(z_target[lane], other[lane], (s[lane], q[lane], a[lane]), state[ids[lane]])


@njit(parallel=True)
def scatter(
    ids: npt.NDArray[np.int64], logits: npt.NDArray[F], targets: npt.NDArray[np.int64], state: npt.NDArray[F]
) -> None:
    if logits.shape[1] > TRANSPOSED:
        for i in prange(ids.size):
            one_row(logits[i], targets[i], state[ids[i]])
    else:
        for block in prange((ids.size + LANES - 1) // LANES):
            at = slice(block * LANES, (block + 1) * LANES)
            one_block(ids[at], logits[at], targets[at], state)


class NumbaState:
    """float32 [N, 8], a row per sample."""

    def __init__(self, num_samples: int) -> None:
        memory = np.full(num_samples * ROW // 4 + LINE // 4, np.nan, F)  # as TorchState's: no fresh memory
        start = -memory.ctypes.data % LINE // 4
        self.rows = memory[start:][: num_samples * ROW // 4].reshape(num_samples, ROW // 4)

    def observe(
        self, ids: npt.NDArray[np.int64], logits: npt.NDArray[F], targets: npt.NDArray[np.int64]
    ) -> None:
        scatter(ids, logits, targets, self.rows)

    def column(self, name: str) -> npt.NDArray[F]:
        return self.rows[:, COLUMNS.index(name)]
