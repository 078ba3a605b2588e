"""SampleIndex + Partition -> which sample goes where in which shard, known to the byte beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyimportance import _C
from pyimportance.shards import keys as key_buffers
from pyimportance.shards.combine import parts_of
from pyimportance.shards.layout import END_BYTES, Layout, shuffled
from pyimportance.shards.manifest import shard_name
from pyimportance.shards.sample_index import BLOCK, SampleIndex

if TYPE_CHECKING:
    from pyimportance.order.values import Partition


@dataclass(frozen=True, eq=False)
class Selection:
    """Samples of a SampleIndex in an order of their own, their parts sorted by extension.

    Columns as in SampleIndex; ``offset`` and ``part_offset`` are places in the source file ``file``.
    ``part_crc32c`` is what payloads are compared with, ``told`` whether the new shards' index has it too.
    """

    ids: NDArray[np.int64]
    keys: Any
    file: NDArray[np.int32]
    offset: NDArray[np.int64]
    extensions: tuple[str, ...]
    part_start: NDArray[np.int64]
    part_ext: NDArray[np.int32]
    part_offset: NDArray[np.int64]
    part_size: NDArray[np.int64]
    part_crc32c: NDArray[np.uint32] | None
    told: bool

    def take(self, rows: NDArray[np.int64]) -> Selection:
        return _chosen(self, rows, self.keys.take(pa.array(rows)), *parts_of(self, rows))

    def slice(self, start: int, end: int) -> Selection:
        first, last = int(self.part_start[start]), int(self.part_start[end])
        return Selection(
            ids=self.ids[start:end],
            keys=self.keys.slice(start, end - start),
            file=self.file[start:end],
            offset=self.offset[start:end],
            extensions=self.extensions,
            part_start=self.part_start[start : end + 1] - first,
            part_ext=self.part_ext[first:last],
            part_offset=self.part_offset[first:last],
            part_size=self.part_size[first:last],
            part_crc32c=None if self.part_crc32c is None else self.part_crc32c[first:last],
            told=self.told,
        )


@dataclass(frozen=True, eq=False)
class ShardPlan:
    """One shard to be written: its samples in order, and where each comes to lie in the tar of ``nbytes``.

    Columns as in SampleIndex.
    """

    name: str  # relative to the root
    worker: int
    bin: int
    nbytes: int
    samples: Selection
    offset: NDArray[np.int64]
    sample_bytes: NDArray[np.int64]
    part_offset: NDArray[np.int64]
    frames: tuple[int, ...] = ()  # where the tar is cut to be compressed; none: it is not
    level: int = 0  # of zstd

    def index(self) -> SampleIndex:
        """The shard's samples as they lie in it; the file's path is relative to the root."""
        N = len(self.samples.ids)
        return SampleIndex(
            files=(self.name,),
            file_bytes=np.array([self.nbytes], np.int64),
            ids=self.samples.ids,
            keys=self.samples.keys,
            file=np.zeros(N, np.int32),
            offset=self.offset,
            nbytes=self.sample_bytes,
            extensions=self.samples.extensions,
            part_start=self.samples.part_start,
            part_ext=self.samples.part_ext,
            part_offset=self.part_offset,
            part_size=self.samples.part_size,
            part_crc32c=self.samples.part_crc32c if self.samples.told else None,
            frame=self._frame(),
        )

    def _frame(self) -> NDArray[np.int32] | None:
        if not self.frames:
            return None
        return (np.searchsorted(self.frames, self.offset, side="right") - 1).astype(np.int32)


def select(
    index: SampleIndex, rows: NDArray[np.int64], keys: Any, sums: NDArray[np.uint32] | None = None
) -> Selection:
    """The samples at ``rows`` with the keys ``keys`` (large_string, one per row).

    sums  uint32 [P]: what the parts of ``index`` sum to where it does not say itself
    """
    start, parts = parts_of(index, rows)
    code = index.part_ext[parts]
    rank = np.argsort(np.argsort(np.array(index.extensions, object))).astype(np.int32)
    sample = np.repeat(np.arange(len(rows)), np.diff(start))
    order = np.lexsort((rank[code], sample)) if len(parts) else np.zeros(0, np.int64)
    chosen = _chosen(index, rows, keys, start, parts[order])
    return chosen if sums is None or chosen.told else replace(chosen, part_crc32c=sums[parts[order]])


def _chosen(
    of: SampleIndex | Selection,
    rows: NDArray[np.int64],
    keys: Any,
    part_start: NDArray[np.int64],
    parts: NDArray[np.int64],
) -> Selection:
    """The samples at ``rows``; ``parts`` are theirs, sample after sample as ``part_start`` has it."""
    return Selection(
        ids=of.ids[rows],
        keys=keys,
        file=of.file[rows],
        offset=of.offset[rows],
        extensions=of.extensions,
        part_start=part_start,
        part_ext=of.part_ext[parts],
        part_offset=of.part_offset[parts],
        part_size=of.part_size[parts],
        part_crc32c=None if of.part_crc32c is None else of.part_crc32c[parts],
        told=of.told if isinstance(of, Selection) else of.part_crc32c is not None,
    )


def filled(partition: Partition, worker: int) -> Iterator[tuple[int, int, int]]:
    """(bin, start, end) of each of the worker's groups that has samples: they are ``order[start:end]``."""
    cuts = partition.offsets[worker * partition.bins : (worker + 1) * partition.bins + 1]
    for bin_ in np.flatnonzero(np.diff(cuts)).tolist():
        yield bin_, int(cuts[bin_]), int(cuts[bin_ + 1])


def take_keys(index: SampleIndex, rows: NDArray[np.int64]) -> Any:
    return index.keys.take(pa.array(rows))


def plan_group(
    samples: Selection,
    worker: int,
    bin_: int,
    generation: int,
    layout: Layout,
    *,
    bins: int,
    seed: int = 0,
) -> Iterator[ShardPlan]:
    """Cuts a group, one of a worker's ``bins``, into shards as ``layout`` says; ``seed`` is of a random order
    in them.

    Raises ArgumentError for a key that a reader would not find again in the member's name.
    """
    headers, extent = _extents(samples)
    cuts = layout.cuts(np.add.reduceat(extent, samples.part_start[:-1]) if len(samples.ids) else extent)
    if layout.order == "shuffled":
        samples = samples.take(shuffled(cuts, [seed, worker, bin_]))
        headers, extent = _extents(samples)
    part_end = np.cumsum(extent)
    sample_end = part_end[samples.part_start[1:] - 1]
    for number, (start, end) in enumerate(pairwise(cuts)):
        base = int(sample_end[start - 1]) if start else 0
        first, last = int(samples.part_start[start]), int(samples.part_start[end])
        sample_bytes = np.diff(sample_end[start:end], prepend=base)
        end_in_tar = sample_end[start:end] - base
        yield ShardPlan(
            name=shard_name(worker, generation, bin_, number, bins, layout.suffix),
            worker=worker,
            bin=bin_,
            nbytes=int(end_in_tar[-1]) + END_BYTES,
            samples=samples.slice(start, end),
            offset=end_in_tar - sample_bytes,
            sample_bytes=sample_bytes,
            part_offset=(part_end - extent + headers)[first:last] - base,
            frames=() if layout.compression is None else layout.compression.cuts(end_in_tar),
            level=0 if layout.compression is None else layout.compression.level,
        )


def _extents(samples: Selection) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """int64 [P]: bytes of each part's headers, and of all that it takes in a tar of ours."""
    headers = _C.tar_header_sizes(
        *key_buffers.to_buffers(samples.keys),
        samples.extensions,
        samples.part_start,
        samples.part_ext,
        samples.part_size,
    )
    return headers, headers + samples.part_size + -samples.part_size % BLOCK
