"""Work: what write_shards is to do, known to the byte before anything is copied."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pyimportance import _C
from pyimportance.errors import ArgumentError
from pyimportance.io import urls
from pyimportance.shards import job
from pyimportance.shards import keys as key_buffers
from pyimportance.shards.layout import Layout
from pyimportance.shards.plan import ShardPlan, filled, plan_group, select, take_keys
from pyimportance.shards.sample_index import SampleIndex

if TYPE_CHECKING:
    from pyimportance.order.values import Partition


@dataclass(frozen=True, eq=False)
class Work:
    """A partition's samples in a source, and how they become shards.

    rows      int64 [N]: where each sample of the partition is in the index, in its order
    keys      large_string [N]: what each is written with
    prefixes  what goes before the keys of each tar of the source; None: nothing
    digest    of all that decides the bytes of the shards
    sums      uint32 [P]: what the payloads of the index's parts sum to, where that does not say; None: not
              known
    """

    index: SampleIndex
    partition: Partition
    layout: Layout
    rows: NDArray[np.int64]
    keys: Any
    prefixes: list[str] | None
    digest: str
    sums: NDArray[np.uint32] | None = None

    @staticmethod
    def of(index: SampleIndex, partition: Partition, layout: Layout, keys: str) -> Work:
        """Raises ArgumentError for samples that the source lacks, or that come to share a key."""
        check_keys(keys)
        rows, prefixes = _rows(index, partition), _prefixes(index, keys)
        digest = job.digest(partition, source=index.digest, keys=keys, **layout.options())
        return Work(index, partition, layout, rows, _keys(index, rows, prefixes), prefixes, digest)

    def shards(self, worker: int) -> Iterator[ShardPlan]:
        """A worker's shards, bin by bin, the most important first."""
        for bin_, start, end in filled(self.partition, worker):
            samples = select(self.index, self.rows[start:end], self.keys.slice(start, end - start), self.sums)
            bins, seed = self.partition.bins, self.partition.seed
            yield from plan_group(samples, worker, bin_, 0, self.layout, bins=bins, seed=seed)


def check_keys(mode: str) -> None:
    """Raises ArgumentError for what `write_shards` does not know to do with keys."""
    if mode not in ("error", "prefix"):
        raise ArgumentError(f"keys={mode!r}: allowed are 'error' and 'prefix'")


def _rows(index: SampleIndex, partition: Partition) -> NDArray[np.int64]:
    """The row of every sample of the partition, in its order."""
    try:
        return index.rows_of(partition.order)
    except ArgumentError as e:
        raise ArgumentError(f"partition does not fit the source: {e}") from None


def _prefixes(index: SampleIndex, mode: str) -> list[str] | None:
    """What goes before the keys of each tar; None: nothing."""
    if mode == "error":
        return None
    return [os.path.basename(f).removesuffix(".zst").removesuffix(".tar") + "/" for f in index.relative_files]


def _keys(index: SampleIndex, rows: NDArray[np.int64], prefixes: list[str] | None) -> Any:
    """The keys that the samples are written with. Raises ArgumentError where two are equal."""
    keys = take_keys(index, rows)
    if prefixes is not None:
        each = pa.array(prefixes, pa.large_string()).take(pa.array(index.file[rows]))
        keys = pc.binary_join_element_wise(each, keys, pa.scalar("", pa.large_string()))
    i, j = _C.first_repeated_key(*key_buffers.to_buffers(keys))
    if j >= 0:
        first, second = (
            f"{urls.public(index.files[index.file[row]])} (offset {index.offset[row]})"
            for row in sorted((int(rows[i]), int(rows[j])))
        )
        hint = "" if prefixes is not None else "; keys='prefix' puts the tar's name before every key"
        raise ArgumentError(f"key {keys[j].as_py()!r} is in {first} and in {second}{hint}")
    return keys
