"""A worker's part of a generation that is being made: new shards and an index; then the commit of all parts.

Until the commit no manifest names what was written, and the generations before stay as they are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pyimportance.errors import ArgumentError, OutputError
from pyimportance.io import atomic
from pyimportance.io.meter import Meter
from pyimportance.io.storage import open_file, read_whole
from pyimportance.shards import claims, copy
from pyimportance.shards.combine import concatenate, with_scores
from pyimportance.shards.journal import parse
from pyimportance.shards.layout import Layout
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
from pyimportance.shards.offers import relative
from pyimportance.shards.plan import filled, plan_group, select, take_keys
from pyimportance.shards.sample_index import SampleIndex
from pyimportance.shards.shard_set import ShardSet

if TYPE_CHECKING:
    from pyimportance.order.values import Partition


@dataclass(frozen=True)
class DeltaRecord:
    """What `write_part` did for one worker: enough to commit it. Small, and can be pickled.

    moved_samples, moved_bytes  what was copied into delta shards (payload and headers)
    """

    worker: int
    generation: int
    job: str
    index: IndexInfo
    shards: tuple[ShardInfo, ...]
    moved_samples: int
    moved_bytes: int


def write_part(
    shards: ShardSet,
    partition: Partition,
    worker: int,
    job: str,
    divide: Callable[[], tuple[SampleIndex, SampleIndex]],
    *,
    layout: Layout,
    meter: Meter | None,
    tier: str,
) -> DeltaRecord:
    """Writes a worker's part of the generation after ``shards`` that ``job`` (a digest) makes.

    divide  what the worker will hold: (samples that stay where they lie in its own shards, samples that are
            copied into new shards of its own). Called once the generation's number is this job's
    meter   what is copied, as ``tier``

    An interrupted job's finished shards are kept; a part that is committed is described from its manifest.
    """
    with claims.claim_generation(shards.root, shards.generation, job) as (generation, committed):
        if committed:
            return _record_of(shards, generation, worker)
        stays, comes = divide()
        with claims.claim_delta(shards.root, worker, generation, job) as journal:
            if os.path.exists(os.path.join(shards.root, manifest_name(generation))):
                return _record_of(shards, generation, worker)  # the same job, by another process meanwhile
            with (
                copy.open_sources(comes) as files,
                copy.ShardPool(shards.root, files, journal, canonical=True, tier=tier) as pool,
            ):
                infos, deltas = _write_shards(pool, partition, comes, worker, generation, layout, meter)
            own = {s.path: s for s in shards.shards}
            stays = replace(stays, files=relative(shards, stays))
            index = with_scores(concatenate([stays, *deltas]), partition, worker)
            described = copy.describe(index, [own[name] for name in stays.files] + infos)
            # A shard of the old generation was written for a bin that the new one may not have.
            described = tuple(replace(s, bin=min(s.bin, partition.bins - 1)) for s in described)
            info = copy.write_worker_index(shards.root, index_name(worker, generation), index)
            journal.add(info.path, info.nbytes, info.crc32c)
            journal.settle([*(s.path for s in infos), info.path])
    return DeltaRecord(worker, generation, job, info, described, comes.num_samples, int(comes.nbytes.sum()))


def commit(
    shards: ShardSet,
    partition: Partition,
    records: Sequence[DeltaRecord],
    job: str,
    *,
    layout: Layout,
    meter: Meter | None,
) -> ShardSet:
    """Makes the generation that ``records`` (one per worker, in any order) describe the current one.

    ``meter`` counts manifests and the workers' notes, as "index".
    Raises ArgumentError for records that do not belong together, OutputError where another job has taken the
    generation over, or what was written is not there any more.
    """
    records = sorted(records, key=lambda r: r.worker)
    generations = {r.generation for r in records}
    if [r.worker for r in records] != list(range(partition.workers)) or len(generations) != 1:
        raise ArgumentError(
            f"records are of workers {[r.worker for r in records]} and generations {sorted(generations)}; "
            f"expected one for each of {partition.workers} workers, of one generation"
        )
    if any(r.job != job for r in records):
        raise ArgumentError("records were written for another partition or another generation")
    generation = generations.pop()
    with claims.holding(shards.root):
        path = os.path.join(shards.root, manifest_name(generation))
        if not os.path.exists(path):
            if claims.claimant(shards.root, generation) != job:
                raise OutputError(
                    f"{path}: another job has taken this generation over; write the deltas again"
                )
            _check_written(shards, records, meter)
            manifest = Manifest.of(
                partition,
                generation=generation,
                parent=shards.generation,
                job=job,
                source_files=shards.manifest.source_files,
                source_digest=shards.manifest.source_digest,
                layout=layout,
                indexes=tuple(r.index for r in records),
                shards=tuple(s for r in records for s in r.shards),
            )
            atomic.write_bytes(path, manifest.encode())
        committed, sha256 = read_manifest(shards.root, generation, meter)
        if committed.job != job:
            raise OutputError(f"{path}: was committed by another job meanwhile")
        if read_pointer(shards.root, meter)[0] < generation:
            pointer = encode_pointer(generation, committed.encode())
            atomic.write_bytes(os.path.join(shards.root, POINTER), pointer)
    return ShardSet(shards.root, committed, sha256)


def _record_of(shards: ShardSet, generation: int, worker: int) -> DeltaRecord:
    manifest, _ = read_manifest(shards.root, generation)
    infos = tuple(s for s in manifest.shards if s.worker == worker)
    return DeltaRecord(worker, generation, manifest.job, manifest.indexes[worker], infos, 0, 0)


def _write_shards(  # noqa: PLR0917
    pool: copy.ShardPool,
    partition: Partition,
    comes: SampleIndex,
    worker: int,
    generation: int,
    layout: Layout,
    meter: Meter | None,
) -> tuple[list[ShardInfo], list[SampleIndex]]:
    """Writes the new shards, bin by bin in the order of importance."""
    writing: list[Future[ShardInfo]] = []
    indexes: list[SampleIndex] = []
    own, first = partition.worker(worker), int(partition.offsets[worker * partition.bins])
    moves = np.isin(own, comes.ids)
    for bin_, start, end in filled(partition, worker):
        group = slice(start - first, end - first)
        rows = comes.rows_of(own[group][moves[group]])
        samples = select(comes, rows, take_keys(comes, rows))
        bins, seed = partition.bins, partition.seed
        for plan in plan_group(samples, worker, bin_, generation, layout, bins=bins, seed=seed):
            writing.append(pool.submit(plan, meter))
            indexes.append(plan.index())
    return [shard.result() for shard in writing], indexes


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
