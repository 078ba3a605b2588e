"""How well a loader mixes: its batches beside the data they are drawn from, and beside a random order's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError
from pyimportance.load.dataset import ImportanceDataset
from pyimportance.load.merge import Ints
from pyimportance.order.checks import check_classes
from pyimportance.shards.sample_index import SampleIndex


@dataclass(frozen=True)
class Beside:
    """A figure of batches, on average over them, and what a random order is expected to have."""

    mean: float
    random: float


@dataclass(frozen=True)
class ShuffleQuality:
    """What `shuffle_quality` found.

    batches     number of whole batches looked at, of ``batch_size`` samples B
    bins        how far a batch's shares of the bins are from those of all that the rank yields: the total
                variation distance, half the sum of the differences, 0..1
    classes     the same of the classes, or None where they were not given
    neighbours  how many others of its batch a sample finds fewer than B places from it in storage (counting
                what is yielded, a worker's files in order): B - 1 in storage order. By default some
                (B - 1) / 64 more than random at most, as a window has 64 blocks or more (load/plan.py)

    Why neighbours matter: where two that lie so close resemble each other as much as rho (the correlation of
    their gradients, 0..1), the variance of a batch's mean is 1 + neighbours * rho times what it is of samples
    that have nothing to do with each other: the design effect of samples drawn in clusters (Kish 1965, Survey
    Sampling, 5.4). At worst a batch is worth as much as B / (1 + neighbours) samples.
    """

    batch_size: int
    batches: int
    bins: Beside
    classes: Beside | None
    neighbours: Beside


def shuffle_quality(dataset: ImportanceDataset, classes: npt.ArrayLike | None = None) -> ShuffleQuality:
    """Of what ``dataset``'s next iteration yields on its rank; payloads are not read.

    classes: integers [id bound], the class of every sample id. The data set must have a batch_size.
    Raises ArgumentError where there is no whole batch.
    """
    size = dataset.own_batch_size if dataset.batch_size is not None else 0
    ids = dataset.planned_ids()
    batches = len(ids) // size if size else 0
    if not batches:
        raise ArgumentError(f"batch_size={dataset.batch_size}: there is no whole batch in {len(ids)} samples")
    indexes = [dataset.shards.index(w) for w in np.unique(dataset.shards.worker_of(ids)).tolist()]
    every = np.concatenate([index.ids for index in indexes])
    bins = np.concatenate(
        [np.zeros(len(index), np.int32) if index.bin is None else index.bin for index in indexes]
    )
    by_id = np.argsort(every)
    rows = by_id[np.searchsorted(every, ids, sorter=by_id)]
    of_class = None if classes is None else check_classes(classes, dataset.shards.id_bound)[ids]
    return ShuffleQuality(
        size,
        batches,
        _distance(bins[rows], size),
        None if of_class is None else _distance(of_class, size),
        _neighbours(_storage_order(indexes)[rows], size),
    )


def _storage_order(indexes: list[SampleIndex]) -> Ints:
    """Where each sample comes when all files are read from start to end: int64 [n]."""
    files = np.cumsum([0, *(len(index.files) for index in indexes)])
    file = np.concatenate([index.file + first for index, first in zip(indexes, files, strict=False)])
    order = np.lexsort((np.concatenate([index.offset for index in indexes]), file))
    return np.argsort(order)


def _neighbours(stored: Ints, size: int) -> Beside:
    """stored [n]: of each sample in order, a number that ascends in storage."""
    n, whole = len(stored), len(stored) // size * size
    place = np.empty(n, np.int64)
    place[np.argsort(stored, kind="stable")] = np.arange(n)
    each = np.sort(place[:whole] + np.arange(whole) // size * 2 * n)  # batch after batch, far from each other
    pairs = (np.searchsorted(each, each + size) - np.arange(1, whole + 1)).sum()
    near = (size - 1) * n - size * (size - 1) // 2  # pairs of all samples: n - d of them d places apart
    return Beside(float(2 * pairs / whole), float((size - 1) * near / max(1, n * (n - 1) // 2)))


def _distance(groups: npt.NDArray[np.integer], size: int) -> Beside:
    """groups [n]: of each sample in order."""
    kinds, number = np.unique(groups, return_inverse=True)
    n, batches = len(groups), len(groups) // size
    share = np.bincount(number, minlength=len(kinds)) / n
    cells = np.arange(batches * size) // size * len(kinds) + number[: batches * size]
    counts = np.bincount(cells, minlength=batches * len(kinds)).reshape(batches, -1)
    spread = np.sqrt(share * (1 - share) / size * (n - size) / max(n - 1, 1))
    return Beside(
        float(np.abs(counts / size - share).sum(axis=1).mean() / 2),
        float(np.sqrt(2 / np.pi) * spread.sum() / 2),
    )
