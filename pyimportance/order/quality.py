"""quality: how alike the workers' shares of a partition are, in number and in scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError
from pyimportance.order.values import Partition
from pyimportance.score.values import Scores


@dataclass(frozen=True, eq=False)
class Quality:
    """Per worker, [workers] each: samples int64, mean and ks float64; mean_of_all for comparison.

    mean    of the finite scores; NaN where there is none
    ks      Kolmogorov-Smirnov distance between the worker's scores and all scores, 0 (alike) to 1; infinite
            scores count, NaN ones do not; NaN where there is none
    """

    samples: npt.NDArray[np.int64]
    mean: npt.NDArray[np.float64]
    ks: npt.NDArray[np.float64]
    mean_of_all: float


def quality(partition: Partition, scores: Scores | None = None) -> Quality:
    """Judge a partition by the scores it was made from, or by others.

    Raises ArgumentError where the partition has no scores and none are given, or those given lack a sample.
    """
    values = _values(partition, scores).astype(np.float64)
    cuts = partition.offsets[:: partition.bins]
    shares = np.split(values, cuts[1:-1])
    whole = np.sort(values[~np.isnan(values)])
    return Quality(
        samples=np.diff(cuts),
        mean=np.array([_mean(share) for share in shares]),
        ks=np.array([_distance(share, whole) for share in shares]),
        mean_of_all=_mean(values),
    )


def _values(partition: Partition, scores: Scores | None) -> npt.NDArray[np.float32]:
    """float32 [N]: the score of each sample in the partition's order."""
    if scores is None:
        if partition.values is None:
            raise ArgumentError("scores: none are given, and the partition carries none")
        return partition.values
    ids = scores.sample_ids()
    rows = np.searchsorted(ids, partition.order)
    known = rows < ids.size
    known[known] = ids[rows[known]] == partition.order[known]
    if not known.all():
        raise ArgumentError(f"scores: there is none of sample id {partition.order[~known][0]}")
    return scores.values[rows]


def _mean(values: npt.NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def _distance(share: npt.NDArray[np.float64], whole: npt.NDArray[np.float64]) -> float:
    """The largest difference of the two distribution functions; both only step at scores, and the share's
    stays level between its own, so the largest is at one of these or just below it."""
    mine = np.sort(share[~np.isnan(share)])
    if mine.size == 0:
        return float("nan")
    gaps = [
        np.searchsorted(mine, mine, side) / mine.size - np.searchsorted(whole, mine, side) / whole.size
        for side in ("left", "right")
    ]
    return float(np.abs(gaps).max())
