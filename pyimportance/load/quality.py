"""How well a loader mixes: batches beside the data they are drawn from, and the order beside a random one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError
from pyimportance.load.dataset import ImportanceDataset
from pyimportance.order.checks import check_classes


@dataclass(frozen=True)
class Distance:
    """Of batches from all that a rank yields in the epoch, in shares of something: the total variation
    distance, half the sum of the differences, 0..1, on average over the batches.

    random: what a random order is expected to have (the normal approximation of the hypergeometric).
    """

    mean: float
    random: float


@dataclass(frozen=True)
class ShuffleQuality:
    """What `shuffle_quality` found.

    batches       number of whole batches looked at, of ``batch_size`` samples
    bins          Distance in shares of the bins
    classes       Distance in shares of the classes, or None where they were not given
    displacement  mean distance between a sample's place in the epoch and its place in storage, by what a
                  random order has (a third of the samples): 1 is random, 0 is the storage order
    """

    batch_size: int
    batches: int
    bins: Distance
    classes: Distance | None
    displacement: float


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
    place = np.argsort(np.argsort(rows, kind="stable"), kind="stable")
    moved = np.abs(place - np.arange(len(ids))).mean() / (len(ids) / 3)
    return ShuffleQuality(
        size,
        batches,
        _distance(bins[rows], size),
        None if of_class is None else _distance(of_class, size),
        float(moved),
    )


def _distance(groups: npt.NDArray[np.integer], size: int) -> Distance:
    """groups [n]: of each sample in order."""
    kinds, number = np.unique(groups, return_inverse=True)
    n, batches = len(groups), len(groups) // size
    share = np.bincount(number, minlength=len(kinds)) / n
    cells = np.arange(batches * size) // size * len(kinds) + number[: batches * size]
    counts = np.bincount(cells, minlength=batches * len(kinds)).reshape(batches, -1)
    spread = np.sqrt(share * (1 - share) / size * (n - size) / max(n - 1, 1))
    return Distance(
        float(np.abs(counts / size - share).sum(axis=1).mean() / 2),
        float(np.sqrt(2 / np.pi) * spread.sum() / 2),
    )
