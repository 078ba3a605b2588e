"""repartition: the next generation of a set. Only samples that change workers are read and written.

Each worker's part is written by `write_delta`, by any process that sees the directory; `commit_generation`
then makes the generation the current one. Until then no manifest names what was written, and the old
generation stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pyimportance.errors import ArgumentError, OutputError
from pyimportance.io import atomic
from pyimportance.io.meter import Meter
from pyimportance.io.storage import open_file, read_whole
from pyimportance.shards import claims, copy, job
from pyimportance.shards.combine import concatenate, empty, keep, with_scores
from pyimportance.shards.index import Progress
from pyimportance.shards.journal import Journal, parse
from pyimportance.shards.manifest import (
    POINTER,
    IndexInfo,
    Manifest,
    ShardInfo,
    encode_pointer,
    index_name,
    manifest_name,
    path_in,
    read_manifest,
    read_pointer,
    shard_prefix,
    worker_directory,
)
from pyimportance.shards.offers import leaving, relative
from pyimportance.shards.plan import filled, plan_group, select, take_keys
from pyimportance.shards.sample_index import SampleIndex
from pyimportance.shards.shard_set import ShardSet

if TYPE_CHECKING:
    from pyimportance.order.values import Partition


@dataclass(frozen=True)
class DeltaRecord:
    """What `write_delta` did for one worker: enough to commit it. Small, and can be pickled.

    moved_samples, moved_bytes  what came from other workers' shards (payload and headers)
    """

    worker: int
    generation: int
    job: str
    index: IndexInfo
    shards: tuple[ShardInfo, ...]
    moved_samples: int
    moved_bytes: int


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
    the same time get different numbers; the current generation is the one with the highest.
    The headers of what is copied are checked, payloads are not summed: one that was damaged before arrives as
    it is, under a new sum that fits it. ``shards.verify()`` beforehand finds such damage.
    Raises ArgumentError for samples that the shards lack, DataError where headers or indexes are damaged,
    OutputError.
    """
    if meters is not None and len(meters) != partition.workers:
        raise ArgumentError(f"meters are {len(meters)}; there must be one per worker ({partition.workers})")
    each: Sequence[Meter | None] = meters or [None] * partition.workers
    digest = job.digest(partition, parent=shards.digest)
    with claims.claim_generation(shards.root, shards.generation, digest):  # one number for all workers
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

    Workers may do this at the same time, in any processes that see the same directory. Until the commit, a
    job with another partition may take the generation over while no process is at work on it; the commit then
    raises OutputError.
    """
    if not 0 <= worker < partition.workers:
        raise ArgumentError(f"worker is {worker}; the partition has workers 0 to {partition.workers - 1}")
    digest = job.digest(partition, parent=shards.digest)
    with claims.claim_generation(shards.root, shards.generation, digest) as (generation, committed):
        if committed:
            return _record_of(shards, generation, worker)
        stays, comes = _divide(shards, partition, worker, comes, meter)
        with claims.claim_delta(shards.root, worker, generation, digest) as journal:
            if os.path.exists(os.path.join(shards.root, manifest_name(generation))):
                return _record_of(shards, generation, worker)  # the same job, by another process meanwhile
            infos, deltas = _write_incoming(
                shards, partition, comes, journal, worker=worker, generation=generation, meter=meter
            )
            own = {s.path: s for s in shards.shards}
            stays = replace(stays, files=relative(shards, stays))
            index = with_scores(concatenate([stays, *deltas]), partition, worker)
            described = copy.describe(index, [own[name] for name in stays.files] + infos)
            # A shard of the old generation was written for a bin that the new one may not have.
            described = tuple(replace(s, bin=min(s.bin, partition.bins - 1)) for s in described)
            info = copy.write_worker_index(shards.root, index_name(worker, generation), index)
            journal.add(info.path, info.nbytes, info.crc32c)
            journal.settle([*(s.path for s in infos), info.path])
    return DeltaRecord(
        worker, generation, digest, info, described, comes.num_samples, int(comes.nbytes.sum())
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
    records = sorted(records, key=lambda r: r.worker)
    generations = {r.generation for r in records}
    if [r.worker for r in records] != list(range(partition.workers)) or len(generations) != 1:
        raise ArgumentError(
            f"records are of workers {[r.worker for r in records]} and generations {sorted(generations)}; "
            f"expected one for each of {partition.workers} workers, of one generation"
        )
    if any(r.job != digest for r in records):
        raise ArgumentError("records were written for another partition or another generation")
    generation = generations.pop()
    with claims.holding(shards.root):
        path = os.path.join(shards.root, manifest_name(generation))
        if not os.path.exists(path):
            if claims.claimant(shards.root, generation) != digest:
                raise OutputError(
                    f"{path}: another job has taken this generation over; write the deltas again"
                )
            _check_written(shards, records, meter)
            manifest = Manifest.of(
                partition,
                generation=generation,
                parent=shards.generation,
                job=digest,
                source_files=shards.manifest.source_files,
                source_digest=shards.manifest.source_digest,
                layout=shards.manifest.layout,
                indexes=tuple(r.index for r in records),
                shards=tuple(s for r in records for s in r.shards),
            )
            atomic.write_bytes(path, manifest.encode())
        committed, sha256 = read_manifest(shards.root, generation, meter)
        if committed.job != digest:
            raise OutputError(f"{path}: was committed by another job meanwhile")
        if read_pointer(shards.root, meter)[0] < generation:
            pointer = encode_pointer(generation, committed.encode())
            atomic.write_bytes(os.path.join(shards.root, POINTER), pointer)
    return ShardSet(shards.root, committed, sha256)


def _record_of(shards: ShardSet, generation: int, worker: int) -> DeltaRecord:
    manifest, _ = read_manifest(shards.root, generation)
    infos = tuple(s for s in manifest.shards if s.worker == worker)
    return DeltaRecord(worker, generation, manifest.job, manifest.indexes[worker], infos, 0, 0)


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


def _write_incoming(
    shards: ShardSet,
    partition: Partition,
    comes: SampleIndex,
    journal: Journal,
    *,
    worker: int,
    generation: int,
    meter: Meter | None,
) -> tuple[list[ShardInfo], list[SampleIndex]]:
    """Writes the delta shards, bin by bin in the order of importance."""
    writing: list[Future[ShardInfo]] = []
    indexes: list[SampleIndex] = []
    with (
        copy.open_sources(comes) as files,
        copy.ShardPool(shards.root, files, journal, canonical=True) as pool,
    ):
        own, first = partition.worker(worker), int(partition.offsets[worker * partition.bins])
        moves = np.isin(own, comes.ids)
        for bin_, start, end in filled(partition, worker):
            group = slice(start - first, end - first)
            rows = comes.rows_of(own[group][moves[group]])
            samples = select(comes, rows, take_keys(comes, rows))
            for plan in plan_group(
                samples, worker, bin_, generation, shards.manifest.layout, seed=partition.seed
            ):
                writing.append(pool.submit(plan, meter))
                indexes.append(plan.index())
        infos = [shard.result() for shard in writing]
    return infos, indexes


def _check_written(shards: ShardSet, records: Sequence[DeltaRecord], meter: Meter | None) -> None:
    """Raises if what the records name is not there any more as it was written."""
    for record in records:
        name = f"{worker_directory(record.worker)}/{claims.delta_job_name(record.generation)}"
        _, finished, _ = parse(read_whole(path_in(shards.root, name), meter, "index"))
        new = shard_prefix(record.worker, record.generation)
        infos: tuple[ShardInfo | IndexInfo, ...] = (*record.shards, record.index)
        for info in infos:
            with open_file(shards.path_of(info.path)) as file:
                if file.size != info.nbytes:
                    raise OutputError(f"{file.path}: has {file.size} bytes; {info.nbytes} were written")
            ours = info is record.index or info.path.startswith(new)
            if ours and finished.get(info.path) != (info.nbytes, info.crc32c):
                raise OutputError(f"{file.path}: was written again since, by another job")
