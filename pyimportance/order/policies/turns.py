"""Samples dealt in turn, each worker as often as its share says; what most policies are made of."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyimportance.order.argsort import argsort
from pyimportance.order.policies.task import Task


def turns(task: Task) -> npt.NDArray[np.int32]:
    """int32 [N]: 0..n-1, 0..n-1, ..; with ``counts``, so many turns each, evenly spread."""
    if task.counts is None:
        return cycled(np.arange(task.workers, dtype=np.int32), task.num_samples)
    return deal(task.counts[None])


def cycled(cycle: npt.NDArray[np.int32], num_samples: int) -> npt.NDArray[np.int32]:
    """int32 [N]: the cycle over and over."""
    return np.resize(np.tile(cycle, 1 + 4096 // cycle.size), num_samples)  # which joins what it repeats


def deal(shares: npt.NDArray[np.int64], *, snake: bool = False) -> npt.NDArray[np.int32]:
    """int32 [sum]: stratum after stratum, worker w has shares[s, w] turns of stratum s, evenly spread.

    The j-th of a worker's d turns lies at (2 j + 1) / (2 d) of the stratum. Equal places go to the lower
    worker, with ``snake`` to the higher one where j is odd.
    """
    workers = shares.shape[1]
    d = shares.ravel()
    cell = np.repeat(np.arange(d.size, dtype=np.int64), d)
    j = np.arange(cell.size, dtype=np.int64) - np.repeat(np.cumsum(d) - d, d)
    place = cell // workers + (2 * j + 1) / (2 * d[cell])  # rounding is monotone: it can tie, never swap
    owner = (cell % workers).astype(np.int32)
    first = np.arange(cell.size)
    if snake:
        first = argsort(np.where(j % 2 == 0, owner, workers - 1 - owner), descending=False)
    dealt: npt.NDArray[np.int32] = owner[first[argsort(place[first], descending=False)]]
    return dealt


def count_by_stratum(
    owners: npt.NDArray[np.int32], edges: npt.NDArray[np.int64], workers: int
) -> npt.NDArray[np.int64]:
    """int64 [strata, workers]: how many of ranks edges[s] .. edges[s + 1] - 1 each owns (-1: nobody)."""
    strata = edges.size - 1
    cell = np.repeat(np.arange(strata, dtype=np.int64), np.diff(edges)) * workers + owners
    cell = cell[owners >= 0]
    return np.bincount(cell, minlength=strata * workers).reshape(strata, workers).astype(np.int64)
