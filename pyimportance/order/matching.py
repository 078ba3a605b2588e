"""Group labels carry no meaning: give each group the label of the worker that already holds most of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyimportance.order.moves import holdings


def match(
    owners: npt.NDArray[np.int32],
    current: npt.NDArray[np.int32],
    workers: int,
    sizes: npt.NDArray[np.int64] | None = None,
    counts: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.int32]:
    """``owners`` int32 [N] relabelled so that the most bytes (samples, without sizes) stay where they are.

    ``current`` int32 [N] is who holds each sample now; outside 0..workers-1 means nobody. ``counts`` int64
    [workers], where it matters how many samples a worker has: labels go round among equal ones only. An
    assignment problem, solved exactly while the bytes of a worker stay below 2**53. The labels stay where
    no relabelling keeps more.
    """
    from scipy.optimize import linear_sum_assignment

    held = holdings(current, owners, (workers, workers), sizes)[:-1]
    label = np.arange(workers, dtype=np.int32)
    for count in [None] if counts is None else np.unique(counts):
        alike = np.arange(workers) if counts is None else np.flatnonzero(counts == count)
        part = held[np.ix_(alike, alike)]
        holder, group = linear_sum_assignment(part, maximize=True)
        if part[holder, group].sum() > np.trace(part):
            label[alike[group]] = alike[holder]
    relabelled: npt.NDArray[np.int32] = label[owners]
    return relabelled
