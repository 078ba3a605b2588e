"""repartition: the next generation of a set. Only samples that change workers are read and written.

Each worker's part is written by `write_delta`, by any process that sees the folder or store;
`commit_generation` then makes the generation the current one. Until then no manifest names what was written,
and the old generation stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyimportance.errors import ArgumentError
from pyimportance.io.meter import Meter
from pyimportance.shards import job
from pyimportance.shards.claims import claims_of
from pyimportance.shards.combine import concatenate, empty, keep
from pyimportance.shards.delta import DeltaRecord, commit, write_part
from pyimportance.shards.index import Progress
from pyimportance.shards.offers import leaving
from pyimportance.shards.sample_index import SampleIndex
from pyimportance.shards.shard_set import ShardSet

if TYPE_CHECKING:
    from pyimportance.order.values import Partition


def repartition(
    shards: ShardSet,
    partition: Partition,
    *,
    meters: Sequence[Meter] | None = None,
    progress: Progress | None = None,
) -> ShardSet:
    """A new generation of ``shards``, divided as ``partition`` says.

    A sample that changes workers is copied from its old worker's shard into a delta shard of its new one; a
    sample that only changes bins keeps its place. Samples that ``partition`` lacks are pruned. The number of
    workers and bins may change. The old generation stays readable: ``ShardSet.open(root, generation=...)``.

    meters    one per worker of ``partition``: what is copied for it, as "origin"; indexes, as "index"
    progress  called with (workers done, workers)

    Called again with the same arguments it continues what was interrupted, or returns what is done. Jobs at
    the same time get different numbers; the current generation is the one with the highest. All this is so
    behind URLs of s3, gs and az as well: each shard is sent through a temporary file, and the store lets only
    one job have a number (`store_claims`). What a job leaves there that is not called again, `prune` removes.
    The headers of what is copied are checked, payloads are not summed: one that was damaged before arrives as
    it is, under a new sum that fits it. ``shards.verify()`` beforehand finds such damage.
    Raises ArgumentError for samples that the shards lack, DataError where headers or indexes are damaged,
    OutputError.
    """
    if meters is not None and len(meters) != partition.workers:
        raise ArgumentError(f"meters are {len(meters)}; there must be one per worker ({partition.workers})")
    each: Sequence[Meter | None] = meters or [None] * partition.workers
    digest = job.digest(partition, parent=shards.digest)
    with claims_of(shards.root).claim(shards.generation, digest):  # one number for all workers
        indexes = [shards.index(h, each[min(h, partition.workers - 1)]) for h in range(shards.workers)]
        leaves = concatenate([leaving(index, partition, h) for h, index in enumerate(indexes)])
        records = []
        for w, meter in enumerate(each):
            records.append(write_delta(shards, partition, w, comes=leaves, meter=meter))
            if progress is not None:
                progress(w + 1, partition.workers)
        return commit_generation(shards, partition, records, meter=each[0])


def write_delta(
    shards: ShardSet,
    partition: Partition,
    worker: int,
    *,
    comes: SampleIndex | None = None,
    meter: Meter | None = None,
) -> DeltaRecord:
    """Writes what ``worker`` lacks for the next generation, and its index; see `repartition`.

    comes  where the samples lie that other workers leave to it (`offers.leaving`; what goes elsewhere may be
           among them). Then only the worker's own index is read; without, all are
    meter  what is copied, as "origin"; indexes, as "index"

    Workers may do this at the same time, in any processes that see the same folder or store. In a folder,
    until the commit, a job with another partition may take the generation over while no process is at work on
    it; the commit then raises OutputError.
    """
    if not 0 <= worker < partition.workers:
        raise ArgumentError(f"worker is {worker}; the partition has workers 0 to {partition.workers - 1}")
    return write_part(
        shards,
        partition,
        worker,
        job.digest(partition, parent=shards.digest),
        lambda: _divide(shards, partition, worker, comes, meter),
        layout=shards.manifest.layout,
        meter=meter,
        tier="origin",
    )


def commit_generation(
    shards: ShardSet, partition: Partition, records: Sequence[DeltaRecord], *, meter: Meter | None = None
) -> ShardSet:
    """Makes the generation that ``records`` (one per worker, in any order) describe the current one.

    ``meter`` counts manifests and the workers' notes, as "index".
    Raises ArgumentError for records that do not belong together, OutputError where another job has taken the
    generation over, or what was written is not there any more.
    """
    digest = job.digest(partition, parent=shards.digest)
    return commit(shards, partition, records, digest, layout=shards.manifest.layout, meter=meter)


def _divide(
    shards: ShardSet, partition: Partition, worker: int, comes: SampleIndex | None, meter: Meter | None
) -> tuple[SampleIndex, SampleIndex]:
    """(the samples of ``worker`` that it has, those that it lacks, as they lie in other workers' shards)"""

    def own(index: SampleIndex) -> SampleIndex:
        return keep(index, partition.worker_of(index.ids) == worker)

    stays = own(shards.index(worker, meter)) if worker < shards.workers else empty()
    if comes is None:
        holders = (h for h in range(shards.workers) if h != worker)
        comes = concatenate([own(shards.index(holder, meter)) for holder in holders])
    else:
        comes = own(comes)
    found = np.concatenate([stays.ids, comes.ids])
    if not np.array_equal(np.sort(found), np.sort(partition.worker(worker))):
        missing = partition.order[shards.worker_of(partition.order) < 0]
        if missing.size:
            raise ArgumentError(
                f"partition does not fit the shards: {len(missing)} of {partition.num_samples} ids are not "
                f"there; the first is {int(missing[0])}"
            )
        raise ArgumentError(
            f"comes: has {comes.num_samples} samples for worker {worker}, not just those that it lacks of "
            f"its {partition.worker(worker).size}"
        )
    return stays, comes
