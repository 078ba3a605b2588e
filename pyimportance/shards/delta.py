"""A worker's part of a generation that is being made: new shards and an index; then the commit of all parts.

Until the commit no manifest names what was written, and the generations before stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pyimportance.errors import ArgumentError, OutputError
from pyimportance.io import urls
from pyimportance.io.meter import Meter
from pyimportance.io.output import create
from pyimportance.shards import copy
from pyimportance.shards.claims import Claims, claims_of
from pyimportance.shards.combine import concatenate, with_scores
from pyimportance.shards.layout import Layout
from pyimportance.shards.manifest import (
    IndexInfo,
    Manifest,
    ShardInfo,
    advance,
    index_name,
    is_committed,
    manifest_name,
    read_manifest,
    shard_prefix,
)
from pyimportance.shards.offers import relative
from pyimportance.shards.plan import filled, plan_group, select, take_keys
from pyimportance.shards.pool import Pending, ShardPool
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
    claims = claims_of(shards.root)
    with claims.claim(shards.generation, job) as (generation, committed):
        if committed:
            return _record_of(shards, generation, worker)
        stays, comes = divide()
        with claims.claim_delta(worker, generation, job) as journal:
            if is_committed(shards.root, generation):
                return _record_of(shards, generation, worker)  # the same job, by another process meanwhile
            with (
                copy.open_sources(comes) as files,
                ShardPool(shards.root, files, journal, canonical=True, tier=tier) as pool,
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
    claims = claims_of(shards.root)
    with claims.committing():
        path = urls.join(shards.root, manifest_name(generation))
        if not is_committed(shards.root, generation):
            if claims.claimant(generation) != job:
                raise OutputError(
                    f"{path}: another job has taken this generation over; write the deltas again"
                )
            given_up = OutputError(f"{path}: the generation was given up; write the deltas again")
            if generation in claims.numbers().removed:
                raise given_up
            _check_written(claims, generation, records, meter)
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
            if not create(path, manifest.encode()) and not is_committed(shards.root, generation):
                raise given_up
        committed, sha256 = read_manifest(shards.root, generation, meter)
        if committed.job != job:
            raise OutputError(f"{path}: was committed by another job meanwhile")
        advance(shards.root, generation, committed.encode(), meter)
    return ShardSet(shards.root, committed, sha256)


def _record_of(shards: ShardSet, generation: int, worker: int) -> DeltaRecord:
    manifest, _ = read_manifest(shards.root, generation)
    infos = tuple(s for s in manifest.shards if s.worker == worker)
    return DeltaRecord(worker, generation, manifest.job, manifest.indexes[worker], infos, 0, 0)


def _write_shards(  # noqa: PLR0917
    pool: ShardPool,
    partition: Partition,
    comes: SampleIndex,
    worker: int,
    generation: int,
    layout: Layout,
    meter: Meter | None,
) -> tuple[list[ShardInfo], list[SampleIndex]]:
    """Writes the new shards, bin by bin in the order of importance."""
    writing: list[Pending] = []
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


def _check_written(
    claims: Claims, generation: int, records: Sequence[DeltaRecord], meter: Meter | None
) -> None:
    """Raises if what the records name is not there any more as it was written."""
    infos: list[ShardInfo | IndexInfo] = []
    for record in records:
        infos += [*record.shards, record.index]
    new = tuple(shard_prefix(r.worker, generation) for r in records)
    ours = [info for info in infos if isinstance(info, IndexInfo) or info.path.startswith(new)]
    for info, noted in zip(ours, claims.finished(generation, [i.path for i in ours], meter), strict=True):
        if noted != (info.nbytes, info.crc32c):
            path = urls.join(claims.root, info.path)
            raise OutputError(f"{path}: was written again since, by another job")
    for info, nbytes in zip(infos, claims.sizes(i.path for i in infos), strict=True):
        if nbytes != info.nbytes:
            path = urls.join(claims.root, info.path)
            raise OutputError(f"{path}: has {nbytes} bytes; {info.nbytes} were written")
