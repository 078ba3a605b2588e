"""Kolmogorov-Smirnov distances of the workers' shares to the whole, all at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyimportance.order.argsort import argsort

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Steps:
    """Where the workers' distribution functions rise, in terms of ranks and counts; int64 [M] each.

    A step is a worker's run of samples of one score: ranks ``first`` .. ``last`` - 1 are all samples of that
    score, the ``worker`` has ``before`` samples of lower ranks, ``after`` with these. By worker, then rank.
    """

    worker: Ints
    first: Ints
    last: Ints
    before: Ints
    after: Ints


def tie_ends(values: npt.NDArray[np.float32] | None, num_samples: int) -> Ints:
    """int64: the ranks r where sample r - 1 differs in score from sample r, and N. NaN is one score."""
    if values is None or num_samples == 0:
        return np.arange(1, num_samples + 1, dtype=np.int64)
    same = (values[1:] == values[:-1]) | (np.isnan(values[1:]) & np.isnan(values[:-1]))
    return np.append(np.flatnonzero(~same) + 1, num_samples).astype(np.int64)


def steps(owners: npt.NDArray[np.int32], ends: Ints) -> Steps:
    """Of ``owners`` int32 [N] by rank, -1 nobody; ``ends``: see `tie_ends`."""
    by_worker = argsort(owners, descending=False)[np.count_nonzero(owners < 0) :]
    tie = np.repeat(np.arange(ends.size), np.diff(ends, prepend=0))[by_worker]
    worker = owners[by_worker].astype(np.int64)
    new = np.flatnonzero((np.diff(worker, prepend=-1) != 0) | (np.diff(tie, prepend=-1) != 0))
    worker, tie = worker[new], tie[new]
    base = np.append(0, np.cumsum(np.bincount(worker, minlength=1)))  # steps of lower workers
    bounds = np.append(new, by_worker.size)
    start = bounds[base[worker]]  # of the worker's samples
    starts = np.append(0, ends[:-1])
    return Steps(worker, starts[tie], ends[tie], bounds[:-1] - start, bounds[1:] - start)


def ks_distances(owners: npt.NDArray[np.int32], ends: Ints, workers: int) -> npt.NDArray[np.float64]:
    """float64 [workers]: the largest difference of each worker's distribution to that of all N samples.

    Both only step at scores, and a worker's stays level between its own: the largest difference is at one of
    these, or just below it. NaN where a worker has no samples.
    """
    at, n = steps(owners, ends), owners.size
    counts = np.bincount(at.worker, at.after - at.before, minlength=workers)
    count = counts[at.worker]
    gaps = np.maximum(
        np.abs(at.after / count - at.last / n), np.abs(at.before / count - at.first / n)
    )  # fmt: skip
    distances = np.zeros(workers)
    np.maximum.at(distances, at.worker, gaps)
    return np.where(counts > 0, distances, np.nan)
