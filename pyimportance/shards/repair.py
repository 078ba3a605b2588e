"""repair: a worker's index that is lost or damaged, made anew from its tars.

    tars      ──────────────> keys, places, parts
    key -> id <────────────── indexes that survive (other workers', other generations'), or the source's
    id  -> worker, bin, score <── the partition

A tar says neither which sample id a key is nor how it scored. What an index of ours was to be is known to the
bit, though: the manifest has its CRC32C. So a repair is exact or it is none, and then says what was missing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pyimportance import _C
from pyimportance.errors import DataError
from pyimportance.io import output, urls
from pyimportance.io.meter import Meter
from pyimportance.shards.claims import claims_of
from pyimportance.shards.combine import concatenate, keep, with_scores
from pyimportance.shards.copy import notes_of
from pyimportance.shards.index import scan_file
from pyimportance.shards.index_file import encode
from pyimportance.shards.manifest import ShardInfo, shard_prefix
from pyimportance.shards.sample_index import SampleIndex
from pyimportance.shards.shard_set import ShardSet
from pyimportance.shards.verify import Problem

if TYPE_CHECKING:
    from pyimportance.order.values import Partition


@dataclass(frozen=True)
class RepairReport:
    """``repaired``: indexes that are again as they were written. ``problems``: those that are not; why."""

    repaired: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        return not self.problems


def repair(
    shards: ShardSet,
    *,
    partition: Partition | None = None,
    source: SampleIndex | None = None,
    meter: Meter | None = None,
) -> RepairReport:
    """Makes the indexes of the generation that are missing or damaged anew, where that can be exact.

    partition  what the generation was written for, if it is at hand: whose samples are whose, bins, scores.
               For shards that came from scores nothing else has those (the same scores and options make the
               same partition again)
    source     the index of the source, if it is at hand: the ids of keys. Without it they are looked up in
               the indexes that survive, of this generation and others; and shards that hold what the
               partition says, and no more, need neither
    meter      what is read, as "index"

    An index is written only if its bytes sum to what the manifest says (another release of Arrow may lay the
    same table out differently; then nothing is written). Sound indexes, tars and manifests are left alone.
    """
    claims_of(shards.root, "repair")  # refuses where nothing can be written
    shards = replace(shards)  # what others of this process have in use is not what lies on the disk
    repaired: list[str] = []
    problems: list[Problem] = []
    records = _Records(shards, source, meter)
    for worker, info in enumerate(shards.manifest.indexes):
        try:
            shards.index(worker, meter)
            continue
        except DataError:
            pass
        try:
            for index in _candidates(shards, worker, partition, records, meter):
                data = encode(index)
                if (len(data), _C.crc32c(data)) == (info.nbytes, info.crc32c):
                    output.write_bytes(shards.path_of(info.path), data, notes_of(info.crc32c))
                    repaired.append(info.path)
                    break
            else:
                raise _CannotError(
                    "was made anew, but does not sum to what the manifest says: the partition is another "
                    "one, or Arrow writes it differently now"
                )
        except _CannotError as e:
            problems.append(Problem(info.path, str(e)))
        except DataError as e:
            name = os.path.relpath(e.path, urls.public(shards.root))
            problems.append(Problem(info.path, f"cannot be made anew: {name} is damaged ({e.problem})"))
    return RepairReport(tuple(repaired), tuple(problems))


class _CannotError(Exception):
    """What is missing."""


class _Records:
    """What else names samples: id and key."""

    def __init__(self, shards: ShardSet, source: SampleIndex | None, meter: Meter | None) -> None:
        self.shards, self.source, self.meter = shards, source, meter

    @cached_property
    def others(self) -> dict[int, SampleIndex]:
        """Worker -> its index, of this generation, where that is sound."""
        return dict(self._sound(self.shards))

    @cached_property
    def ids(self) -> tuple[Any, NDArray[np.int64]]:
        """(keys, their ids), of all that is at hand. A key is one sample's in every generation."""
        known = list(self.others.values())
        for generation in claims_of(self.shards.root).numbers().committed:
            with suppress(DataError):
                known += dict(self._sound(ShardSet.open(self.shards.root, generation=generation))).values()
        keys, ids = [i.keys for i in known], [i.ids for i in known]
        if self.source is not None:
            stems = [
                os.path.basename(f).removesuffix(".zst").removesuffix(".tar") + "/" for f in self.source.files
            ]
            before = pa.array(stems, pa.large_string()).take(pa.array(self.source.file))
            keys += [
                self.source.keys,  # or with keys="prefix":
                pc.binary_join_element_wise(before, self.source.keys, pa.scalar("", pa.large_string())),
            ]
            ids += [self.source.ids, self.source.ids]
        empty = pa.array([], pa.large_string())
        return pa.concat_arrays([empty, *keys]), np.concatenate([np.zeros(0, np.int64), *ids])

    def _sound(self, shards: ShardSet) -> Iterator[tuple[int, SampleIndex]]:
        for worker in range(shards.workers):
            index = None
            with suppress(DataError):
                index = shards.index(worker, self.meter)
            if index is not None:
                yield worker, index


def _scan(shards: ShardSet, worker: int, meter: Meter | None, checksums: bool) -> SampleIndex:
    """All that the worker's tars hold, what moved away as well; ids are not known. Raises DataError."""
    found = []
    for info in shards.shards:
        if info.worker != worker:
            continue
        tar = scan_file(shards.path_of(info.path), meter, checksums=checksums)
        if (int(tar.file_bytes[0]), tar.num_samples) != (info.content_bytes, info.samples):
            problem = f"has {tar.file_bytes[0]} bytes and {tar.num_samples} samples; "
            more = f"the manifest says {info.content_bytes} and {info.samples}"
            raise DataError(problem + more, path=tar.files[0])
        found.append(replace(tar, files=(info.path,)))
    return concatenate(found)


def _candidates(
    shards: ShardSet,
    worker: int,
    partition: Partition | None,
    records: _Records,
    meter: Meter | None,
) -> Iterator[SampleIndex]:
    """What the index may have been; only its sum tells which of these. Raises _CannotError, DataError."""
    for checksums in (False, True):  # which take reading all of the tars
        tars = _scan(shards, worker, meter, checksums)
        yield from _candidates_of(shards, tars, worker, partition, records)


def _candidates_of(
    shards: ShardSet, tars: SampleIndex, worker: int, partition: Partition | None, records: _Records
) -> Iterator[SampleIndex]:
    own = [s for s in shards.shards if s.worker == worker]
    if partition is not None and (partition.workers, partition.bins) != (shards.workers, shards.bins):
        raise _CannotError(
            f"the partition is of {partition.workers} workers and {partition.bins} bins; the generation of "
            f"{shards.workers} and {shards.bins}"
        )
    index = _with_ids(shards, tars, own, worker, partition, records)
    live = _live(own, index, worker, partition, records)
    index = keep(index, live) if not live.all() else index
    if partition is not None:
        index = with_scores(index, partition, worker)
    else:
        index = _without_partition(shards, index, own, worker)
    yield index
    # A first generation's indexes list all extensions of its source, those that none of the samples has too.
    more = {e for other in records.others.values() for e in other.extensions}
    more |= set(() if records.source is None else records.source.extensions)
    if more - set(index.extensions):
        extensions = tuple(sorted(more | set(index.extensions)))
        code = np.array([extensions.index(e) for e in index.extensions], np.int32)
        yield replace(index, extensions=extensions, part_ext=code[index.part_ext])


def _with_ids(  # noqa: PLR0917
    shards: ShardSet,
    tars: SampleIndex,
    own: list[ShardInfo],
    worker: int,
    partition: Partition | None,
    records: _Records,
) -> SampleIndex:
    """``tars`` with the ids of their samples."""
    if partition is not None and shards.manifest.layout.order == "score" and _is_whole(shards, own):
        counts = np.zeros(shards.bins, np.int64)
        np.add.at(counts, [s.bin for s in own], [s.samples for s in own])
        if np.array_equal(counts, partition.counts[worker]):
            return replace(tars, ids=partition.worker(worker))  # they lie in its order
    keys, ids = records.ids
    rows = pc.index_in(tars.keys, value_set=keys)
    if rows.null_count:
        first = tars.key(int(np.flatnonzero(np.asarray(rows.is_null()))[0]))
        raise _CannotError(
            f"cannot be made anew: the ids of {rows.null_count} of {tars.num_samples} samples are not known, "
            f"of {first[:200]!r} for one; give the source that the shards were written from"
        )
    return replace(tars, ids=ids[np.asarray(rows)])


def _live(
    own: list[ShardInfo], index: SampleIndex, worker: int, partition: Partition | None, records: _Records
) -> NDArray[np.bool_]:
    """bool [N]: which samples of the tars the worker still holds."""
    expected = [s.live for s in own]
    live = np.zeros(len(index), np.bool_)
    _, last = np.unique(index.ids[::-1], return_index=True)
    live[len(index) - 1 - last] = True  # of a sample that went and came back, the later copy
    if partition is not None:
        live &= partition.worker_of(index.ids) == worker
    else:
        elsewhere = [other.ids for other in records.others.values()]
        live &= ~np.isin(index.ids, np.concatenate([index.ids[:0], *elsewhere]))
    if np.bincount(index.file[live], minlength=len(own)).tolist() != expected:
        wanted = "the partition is another one" if partition is not None else "give the partition"
        raise _CannotError(
            f"cannot be made anew: which {sum(expected)} of {len(live)} samples of its tars it lists is not "
            f"known; {wanted}"
        )
    return live


def _without_partition(
    shards: ShardSet, index: SampleIndex, own: list[ShardInfo], worker: int
) -> SampleIndex:
    """``index`` with the bins that its tars were written for. Raises _CannotError if that is not all."""
    if any(s.score_min is not None for s in own):
        raise _CannotError(
            f"cannot be made anew: the scores of {index.num_samples} samples are in no other file; give the "
            "partition (the same scores and options make the same again)"
        )
    prefix = shard_prefix(worker, shards.generation)
    if shards.bins > 1 and not all(s.path.startswith(prefix) for s in own):
        raise _CannotError(
            "cannot be made anew: bins may have changed since its tars were; give the partition"
        )
    return replace(index, bin=np.array([s.bin for s in own], np.int32)[index.file])


def _is_whole(shards: ShardSet, own: list[ShardInfo]) -> bool:
    """Whether the tars hold just what the worker was given when they were written, in that order."""
    return all(
        s.live == s.samples and s.path.startswith(shard_prefix(s.worker, shards.generation)) for s in own
    )
