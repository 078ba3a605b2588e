"""VanillaDataset: what a plain loader reads, really read, through the same meter as everything else.

Every epoch reshuffles the whole data set over the ranks, as a ``DistributedSampler`` over a map-style data
set does, and each rank fetches its share of unordered source shards by random access. Without a cache each
epoch moves a full share; a cache of C of the N bytes keeps less than C/N of it from moving, since what a rank
holds was dealt anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import IterableDataset, get_worker_info

from pyimportance.account.lru_cache import LRUCache
from pyimportance.account.report import IOReport
from pyimportance.checks import check_integer, check_rank
from pyimportance.errors import ArgumentError
from pyimportance.io.files import Files
from pyimportance.io.headers import check_headers, check_size
from pyimportance.io.meter import Meter
from pyimportance.io.storage import make_room

if TYPE_CHECKING:
    from pyimportance.shards.sample_index import SampleIndex


class VanillaDataset(IterableDataset[dict[str, Any]]):
    """A globally reshuffled, rank-dealt pass over a source per epoch: the baseline of every comparison.

    Yields samples like ``ImportanceDataset``: ``__key__ __url__ __index__ __weight__ __pad__`` and a part's
    bytes under each extension. A sample is one read, from its first payload to the end of its last (the
    headers in front, which ``write_shards`` reads as well, are spared: they are compared with the index as
    far as they lie between the parts). Ranks yield equally many; where the samples do not
    divide evenly, the last ranks' shares begin the shuffled order again, marked ``__pad__``.

    It is there to count, and how many processes read does not change what they read. So it is read by the
    training process alone, which has the rank's cache and meter: a DataLoader with ``num_workers=0``.

    Args:
        index: the source, from :func:`pyimportance.index`.
        rank, world_size: this process among those that share the data.
        ids: the sample ids to deal, int64 [N]; None means all of the index.
        seed: with the epoch, decides the order; the same on all ranks.
        cache: None reads every sample from the origin. Else a hit counts as tier "cache" (on ``meter``,
            unless the cache has a meter of its own), a miss as "origin".
        meter: counts the reads; a new one by default.

    Attributes:
        spans: int64 [N], read-only: the bytes that reading each sample of the index reads.

    Raises:
        ArgumentError: no samples, unknown ids, a rank outside the world size, iteration in a loader process.
        DataError: a tar was written again since it was indexed.
    """

    def __init__(
        self,
        index: SampleIndex,
        *,
        rank: int = 0,
        world_size: int = 1,
        ids: ArrayLike | None = None,
        seed: int = 0,
        cache: LRUCache | None = None,
        meter: Meter | None = None,
    ) -> None:
        rank, world_size = check_rank(rank, world_size)
        rows = np.arange(index.num_samples) if ids is None else index.rows_of(np.asarray(ids, np.int64))
        if len(rows) == 0:
            raise ArgumentError("there are no samples to deal over the ranks")
        self.index, self.rank, self.world_size, self.seed = index, rank, world_size, seed
        self.cache, self.meter = cache, Meter() if meter is None else meter
        if cache is not None and cache.meter is None:
            cache.meter = self.meter
        self._rows: NDArray[np.int64] = rows.astype(np.int64)
        self._begin, self.spans = spans(index)
        # Every read may be of another tar than the last: the baseline opens none of them twice if it may.
        self._files = Files(self.meter, make_room(len(index.files)))
        self._epoch = 0

    def __len__(self) -> int:
        """Samples this rank yields in an epoch, padding included."""
        return math.ceil(len(self._rows) / self.world_size)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose order the next pass follows."""
        self._epoch = check_integer("epoch", epoch, 0)

    def rows(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Rows of the index that this rank yields in this epoch, in order, and which of them are padding."""
        order = np.random.default_rng((self.seed, self._epoch)).permutation(self._rows)
        places = np.arange(self.rank, len(self) * self.world_size, self.world_size)
        return order[places % len(order)], places >= len(order)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if get_worker_info() is not None:
            raise ArgumentError(
                "VanillaDataset is read by the training process, whose cache and meter are the rank's; "
                "use num_workers=0"
            )
        for row, pad in zip(*(values.tolist() for values in self.rows()), strict=True):
            yield self._sample(row, pad)

    def _sample(self, row: int, pad: bool) -> dict[str, Any]:
        index = self.index
        file, offset = int(index.file[row]), int(self._begin[row])
        data = self._read(row, file, offset, int(self.spans[row]))
        sample: dict[str, Any] = {
            "__key__": index.key(row),
            "__url__": index.files[file],
            "__index__": int(index.ids[row]),
            "__weight__": 1.0,
            "__pad__": pad,
        }
        for part in range(int(index.part_start[row]), int(index.part_start[row + 1])):
            start = int(index.part_offset[part]) - offset
            extension = index.extensions[index.part_ext[part]]
            sample[extension] = data[start : start + int(index.part_size[part])]
        return sample

    def _read(self, row: int, file: int, offset: int, nbytes: int) -> bytes:
        if self.cache is not None and (data := self.cache.get(row)) is not None:
            return data
        source = self._files.get(self.index.files[file])
        check_size(self.index, file, source)
        data = source.pread(offset, nbytes)
        check_headers(self.index, np.array([row]), source, data, offset, ours=False)
        if self.cache is not None:
            self.cache.put(row, data)
        return data

    def io_report(self) -> IOReport:
        """What this rank read so far."""
        return IOReport.of(self.meter, rank=self.rank)

    def close(self) -> None:
        """Closes the source's files; the next read opens them again."""
        self._files.close()


def spans(index: SampleIndex) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Per sample, where its first payload begins, and the bytes from there to the end of its last."""
    first = index.part_start[:-1]
    begin = np.minimum.reduceat(index.part_offset, first)
    nbytes = np.maximum.reduceat(index.part_offset + index.part_size, first) - begin
    nbytes.flags.writeable = False
    return begin, nbytes
