"""compact: a generation written anew, so that its tars hold its live samples and nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyimportance.errors import ArgumentError, DataError
from pyimportance.io import urls
from pyimportance.io.meter import Meter
from pyimportance.shards import job
from pyimportance.shards.claims import claims_of
from pyimportance.shards.combine import empty
from pyimportance.shards.delta import commit, write_part
from pyimportance.shards.index import Progress
from pyimportance.shards.layout import Layout
from pyimportance.shards.plan import ShardPlan, filled, plan_group, select, take_keys
from pyimportance.shards.sample_index import SampleIndex
from pyimportance.shards.shard_set import ShardSet

if TYPE_CHECKING:
    from pyimportance.order.values import Partition


_GENERATION = re.compile(r"/g(\d{6,})-[^/]*$")  # that a shard was written for


def compact(
    shards: ShardSet,
    *,
    shard_bytes: int | None = None,
    meters: Sequence[Meter] | None = None,
    progress: Progress | None = None,
) -> ShardSet:
    """A new generation with the same samples for the same workers and bins, every tar of it written anew.

    Its tars hold its live samples and no others, bin by bin, most important first: the files that it lists
    can be read by any WebDataset reader without an index, and exported (`ShardSet.export`). They have the
    bytes that `write_shards` writes for the same source, options and partition; only the generation in their
    names differs. (That takes a partition that `partition` made: in a group the order is that of the scores,
    ties by ascending sample id, NaN last. Samples without scores keep the order in which they lie.)

    shard_bytes  a shard's size at most; None: as until now
    meters       one per worker: what is copied from its own shards, as "disk" (in a store, as "origin"); its
                 index, as "index"
    progress     called with (workers done, workers)

    Shards that are as they would be written are returned as they are. The old generations stay readable, and
    their files in place until `prune`. Called again after an interruption it continues, like `repartition`;
    headers are checked likewise, payloads are not summed: ``shards.verify()`` finds damage before it gets new
    sums. Memory: one worker's index, 20 bytes a sample, and 64 MiB.
    Raises ArgumentError, DataError where headers or indexes are damaged, OutputError.
    """
    claims = claims_of(shards.root, "compact")
    if meters is not None and len(meters) != shards.workers:
        raise ArgumentError(f"meters are {len(meters)}; there must be one per worker ({shards.workers})")
    layout = shards.manifest.layout
    if shard_bytes is not None:
        layout = replace(layout, shard_bytes=shard_bytes)
    each: Sequence[Meter | None] = meters or [None] * shards.workers
    whole = division(shards, each)
    if all(_is_as_written(shards, whole, w, layout, meter) for w, meter in enumerate(each)):
        return shards
    digest = job.digest(whole, parent=shards.digest, compact=layout.options())
    tier = "origin" if urls.is_url(shards.root) else "disk"
    with claims.claim(shards.generation, digest):  # one number for all workers
        records = []
        for w, meter in enumerate(each):
            divided = partial(_all_anew, shards, w, meter)
            records.append(
                write_part(shards, whole, w, digest, divided, layout=layout, meter=meter, tier=tier)
            )
            if progress is not None:
                progress(w + 1, shards.workers)
        return commit(shards, whole, records, digest, layout=layout, meter=each[0])


def _all_anew(shards: ShardSet, worker: int, meter: Meter | None) -> tuple[SampleIndex, SampleIndex]:
    return empty(), shards.index(worker, meter)


def division(shards: ShardSet, meters: Sequence[Meter | None]) -> Partition:
    """The partition that ``shards`` are divided by, as far as their indexes tell (see `compact`)."""
    from pyimportance.order.values import Partition

    orders, scores, counts = [], [], []
    for w, meter in enumerate(meters):
        index = shards.index(w, meter)
        assert index.bin is not None  # ShardSet has checked it
        rows = _by_importance(index, index.bin, shards.manifest.descending)
        orders.append(index.ids[rows])
        scores.append(None if index.score is None else index.score[rows])
        counts.append(np.bincount(index.bin, minlength=shards.bins))
    values = [s for s in scores if s is not None]
    try:
        return Partition(
            workers=shards.workers,
            bins=shards.bins,
            order=np.concatenate(orders),
            offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(counts))]),
            values=np.concatenate(values) if len(values) == len(scores) else None,
            measure=shards.measure,
            descending=shards.manifest.descending,
            policy=shards.policy,
            seed=shards.manifest.seed,
        )
    except ArgumentError as e:  # two workers' indexes that do not fit each other
        raise DataError(str(e), path=shards.root) from None


def _by_importance(index: SampleIndex, bins: NDArray[np.int32], descending: bool) -> NDArray[np.int64]:
    """The rows of a worker's index, bin by bin, most important first."""
    from pyimportance.order.argsort import argsort

    if index.score is None:
        return np.argsort(bins, kind="stable")
    by_id = np.argsort(index.ids)
    ranked = by_id[argsort(index.score[by_id], descending=descending)]
    rows: NDArray[np.int64] = ranked[np.argsort(bins[ranked], kind="stable")]
    return rows


def _is_as_written(
    shards: ShardSet, whole: Partition, worker: int, layout: Layout, meter: Meter | None
) -> bool:
    """Whether the worker's tars are what would be written for it now."""
    own = [s for s in shards.shards if s.worker == worker]
    written = {int(m[1]) if (m := _GENERATION.search(s.path)) else -1 for s in own}
    if any(s.live < s.samples for s in own) or len(written) > 1:
        return False
    index = shards.index(worker, meter)
    plans: list[ShardPlan] = []
    for bin_, start, end in filled(whole, worker):
        rows = index.rows_of(whole.order[start:end])
        samples = select(index, rows, take_keys(index, rows))
        plans += plan_group(samples, worker, bin_, min(written), layout, bins=whole.bins, seed=whole.seed)
    planned = [(plan.name, plan.nbytes, len(plan.offset)) for plan in plans]
    ids = [plan.samples.ids for plan in plans]
    return planned == [(s.path, s.content_bytes, s.samples) for s in own] and np.array_equal(
        np.concatenate([index.ids[:0], *ids]), index.ids
    )
