"""What ranks tell each other of the shards, so that each reads the indexes of its own workers alone.

    own indexes ──(id, bytes) of every sample──> all ranks: who holds what, which the partition is made of
                ──rows of what leaves──────────> the rank that takes it, which copies it from where it lies

What is received counts as "index", like what is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyimportance.io.meter import Meter
from pyimportance.shards.combine import concatenate, keep
from pyimportance.shards.delta import DeltaRecord
from pyimportance.shards.generations import write_delta
from pyimportance.shards.offers import leaving, pack, unpack
from pyimportance.shards.shard_set import ShardSet
from pyimportance.together import exchange, rank_and_size, together

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from pyimportance.order.values import Partition
    from pyimportance.shards.sample_index import SampleIndex


@dataclass(frozen=True, eq=False)
class Holdings:
    """A generation's samples: ids int64 [N] ascending, their bytes int64 [N], their workers int32 [N]."""

    digest: str
    ids: NDArray[np.int64]
    sizes: NDArray[np.int64]
    workers: NDArray[np.int32]


def holdings(
    shards: ShardSet,
    rank_of: NDArray[np.int64],
    meter: Meter,
    group: torch.distributed.ProcessGroup | None = None,
) -> Holdings:
    """Who holds what (collective). rank_of: int64 [workers], which rank a worker is a matter of."""
    rank, size = rank_and_size(group)
    own: list[bytes] = []

    def tell() -> list[bytes]:
        indexes = [shards.index(w, meter) for w in np.flatnonzero(rank_of == rank).tolist()]
        own.append(b"".join(column.tobytes() for i in indexes for column in (i.ids, i.nbytes)))
        return [b"" if r == rank else own[0] for r in range(size)]

    told = exchange(tell, "reading the indexes", group)
    _count(told, meter)
    told[rank] = own[0]
    samples = [info.samples for info in shards.manifest.indexes]
    columns: dict[int, NDArray[np.int64]] = {}
    for r, data in enumerate(told):
        numbers, start = np.frombuffer(bytearray(data), np.int64), 0
        for w in np.flatnonzero(rank_of == r).tolist():
            columns[w] = numbers[start : start + 2 * samples[w]].reshape(2, samples[w])
            start += 2 * samples[w]
    ids, sizes = np.concatenate([columns[w] for w in range(shards.workers)], axis=1)
    order = np.argsort(ids)
    workers = np.repeat(np.arange(shards.workers, dtype=np.int32), samples)
    return Holdings(shards.digest, ids[order], sizes[order], workers[order])


def write_deltas(
    shards: ShardSet,
    partition: Partition,
    rank_of: NDArray[np.int64],
    meter: Meter,
    group: torch.distributed.ProcessGroup | None = None,
) -> list[DeltaRecord]:
    """`write_delta` for every worker, by the rank it is a matter of; all records, on all ranks (collective).

    ``partition`` has as many workers as the shards.
    """
    rank, size = rank_and_size(group)
    mine = np.flatnonzero(rank_of == rank).tolist()
    own: list[SampleIndex] = []  # in use until their deltas are written, and so read once
    between: list[SampleIndex] = []  # what goes from one of this rank's workers to another

    def offer() -> list[bytes]:
        own.extend(shards.index(w, meter) for w in mine)
        leaves = concatenate([leaving(i, partition, w) for w, i in zip(mine, own, strict=True)])
        taker = rank_of[partition.worker_of(leaves.ids)]
        between.append(keep(leaves, taker == rank))
        return [b"" if r == rank else pack(shards, keep(leaves, taker == r)) for r in range(size)]

    offers = exchange(offer, "finding what moves", group)
    _count(offers, meter)

    def write() -> list[DeltaRecord]:
        received = [unpack(shards, data, f"the offer of rank {r}") for r, data in enumerate(offers) if data]
        comes = concatenate([*between, *received])
        return [write_delta(shards, partition, worker, comes=comes, meter=meter) for worker in mine]

    written = together(write, "writing delta shards", group)
    return sorted((record for records in written for record in records), key=lambda r: r.worker)


def _count(received: Sequence[bytes], meter: Meter) -> None:
    for data in received:
        if data:
            meter.add("index", len(data))
