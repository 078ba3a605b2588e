"""quality: how alike the workers' shares of a partition are, in number, scores, bytes and classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError
from pyimportance.order.argsort import argsort
from pyimportance.order.checks import check_classes, check_scores, check_sizes
from pyimportance.order.distance import ks_distances, tie_ends
from pyimportance.order.values import Partition
from pyimportance.score.values import Scores


@dataclass(frozen=True, eq=False)
class Quality:
    """Of each worker, [workers]: samples int64, mean and ks float64; mean_of_all for comparison.

    mean            of the finite scores; NaN where there is none
    ks              Kolmogorov-Smirnov distance between the worker's scores and all scores, 0 (alike) to 1;
                    infinite scores count, NaN ones do not; NaN where there is none
    bytes           int64, None where sizes are not given
    class_distance  float64, how much of its samples would have to be of other classes to have them in the
                    proportions of all (total variation distance, 0 to 1); NaN without samples, None where
                    classes are not given
    """

    samples: npt.NDArray[np.int64]
    mean: npt.NDArray[np.float64]
    ks: npt.NDArray[np.float64]
    mean_of_all: float
    bytes: npt.NDArray[np.int64] | None = None
    class_distance: npt.NDArray[np.float64] | None = None


def quality(
    partition: Partition,
    scores: Scores | None = None,
    *,
    sizes: npt.ArrayLike | None = None,
    classes: npt.ArrayLike | None = None,
) -> Quality:
    """Judge a partition by the scores it was made from, or by others.

    ``sizes`` (bytes or cost) and ``classes`` are integers [N] in ascending order of sample id. Raises
    ArgumentError where they are not, where the partition has no scores and none are given, or where those
    given lack a sample.
    """
    values, workers = _values(partition, scores), partition.workers
    samples = np.diff(partition.offsets[:: partition.bins])
    owners = np.repeat(np.arange(workers, dtype=np.int32), samples)
    by_value = argsort(values, descending=False)[: np.count_nonzero(~np.isnan(values))]
    return Quality(
        samples,
        _means(values, owners, workers),
        ks_distances(owners[by_value], tie_ends(values[by_value], by_value.size), workers),
        float(_means(values, np.zeros_like(owners), 1)[0]),
        *shares(partition, sizes, classes),
    )


def shares(
    partition: Partition, sizes: npt.ArrayLike | None = None, classes: npt.ArrayLike | None = None
) -> tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.float64] | None]:
    """``bytes`` and ``class_distance`` of Quality, which need no scores."""
    workers, n = partition.workers, partition.num_samples
    owners = partition.worker_of(partition.ids)
    nbytes = distance = None
    if sizes is not None:
        nbytes = np.zeros(workers, np.int64)
        np.add.at(nbytes, owners, check_sizes(sizes, n))
    if classes is not None:
        distance = _class_distance(owners, check_classes(classes, n), workers)
    return nbytes, distance


def _values(partition: Partition, scores: Scores | None) -> npt.NDArray[np.float32]:
    """float32 [N]: the score of each sample in the partition's order."""
    if scores is None:
        if partition.values is None:
            raise ArgumentError("scores: none are given, and the partition carries none")
        return partition.values
    ids = check_scores(scores).sample_ids()
    rows = np.searchsorted(ids, partition.order)
    known = rows < ids.size
    known[known] = ids[rows[known]] == partition.order[known]
    if not known.all():
        raise ArgumentError(f"scores: there is none of sample id {partition.order[~known][0]}")
    return scores.values[rows]


def _means(
    values: npt.NDArray[np.float32], owners: npt.NDArray[np.int32], workers: int
) -> npt.NDArray[np.float64]:
    finite = np.isfinite(values)
    count = np.bincount(owners[finite], minlength=workers)
    total = np.bincount(owners[finite], values[finite].astype(np.float64), minlength=workers)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _class_distance(
    owners: npt.NDArray[np.int32], classes: npt.NDArray[np.int64], workers: int
) -> npt.NDArray[np.float64]:
    """float64 [workers], in the memory of one worker's classes: there may be many of both."""
    _, number, in_all = np.unique(classes, return_inverse=True, return_counts=True)
    by_owner = argsort(owners, descending=False)
    shares = np.split(number[by_owner], np.cumsum(np.bincount(owners, minlength=workers))[:-1])
    expected = in_all / max(classes.size, 1)
    return np.array(
        [
            np.abs(np.bincount(share, minlength=in_all.size) / share.size - expected).sum() / 2
            if share.size
            else np.nan
            for share in shares
        ]
    )
