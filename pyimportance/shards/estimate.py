"""What a job would cost before it runs: requests, bytes, seconds and disk space, either way it can be done.

direct  samples are read where they lie, in the requests that the copier would make: per window of a shard,
        what lies close together in the source is one request (csrc/tar/read.h has the distances)
spool   the source is read once in order and written to this node's disk, read back to be summed, and samples
        are read from there

Seconds are  requests * latency / requests at once + bytes / bandwidth  for each storage, and their sum: an
upper bound where they overlap, the same for both ways. Bytes and requests need no assumptions; of a shard's
windows the borders are taken as even. What compressed shards come to is found by compressing a small part of
them (ratio.py), and is an estimate; so is how long that takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from pyimportance.checks import check_integer, check_nonnegative, check_positive
from pyimportance.io.urls import is_url
from pyimportance.shards.layout import Layout, Zstd
from pyimportance.shards.plan import Selection, ShardPlan
from pyimportance.shards.pool import AT_ONCE, LOCAL_WINDOW, WINDOW
from pyimportance.shards.ratio import Ratio, Sampler, measure
from pyimportance.shards.sample_index import BLOCK, SampleIndex
from pyimportance.shards.work import Work
from pyimportance.threads import default_threads

if TYPE_CHECKING:
    from pyimportance.order.values import Partition

_SEQUENTIAL: Final = 4 << 20  # bytes of a request when a spool is written
_MIN_WINDOW: Final = 128 << 10
_HEADERS: Final = 8 * BLOCK  # longer ones are read by themselves
_PIECES: Final = 512  # in a request
_REMOTE: Final = (64 << 10, 2 << 20)  # csrc/tar/read.h: what is joined, how much at most
_LOCAL: Final = (BLOCK, 1 << 62)


@dataclass(frozen=True)
class Costs:
    """What storage is assumed to cost.

    latency         seconds until a request to the source is answered
    bandwidth       bytes per second of the source
    at_once         requests to the source that are under way
    disk_latency    seconds of a read from this node's disk
    disk_bandwidth  bytes per second, read or written, of this node's disk

    Raises ArgumentError for what is no such number.
    """

    latency: float = 1e-4
    bandwidth: float = 1e9
    at_once: int = 4
    disk_latency: float = 1e-4
    disk_bandwidth: float = 1e9

    def __post_init__(self) -> None:
        for name in ("latency", "disk_latency"):
            object.__setattr__(self, name, check_nonnegative(name, getattr(self, name)))
        for name in ("bandwidth", "disk_bandwidth"):
            object.__setattr__(self, name, check_positive(name, getattr(self, name)))
        object.__setattr__(self, "at_once", check_integer("at_once", self.at_once, 1))

    @staticmethod
    def of(files: Sequence[str], **known: Any) -> Costs:
        """The usual costs of files (an NVMe disk) or, if one is a URL, of an object store in the same region:
        30 ms, 10 Gbit/s, 32 requests at once; but for what is ``known`` (not None).
        """
        usual: dict[str, Any] = {}
        if any(map(is_url, files)):
            usual = {"latency": 0.03, "bandwidth": 1.25e9, "at_once": 32}
        return Costs(**usual | {name: value for name, value in known.items() if value is not None})


@dataclass(frozen=True)
class Way:
    """What one way to do a job costs.

    requests, bytes  asked of the source
    disk_bytes       written to and read from this node's disk, the shards included
    space            bytes of disk that are needed at the peak
    seconds          by the assumptions
    """

    requests: int
    bytes: int
    disk_bytes: int
    space: int
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """Both ways, and what comes out.

    direct             None: the source can only be read in order
    shards             per worker; exact
    bytes              per worker, of the shards' tars; exact
    smallest, largest  tar of a shard; exact
    compression        what becomes of those bytes, an estimate; None: nothing is compressed
    """

    costs: Costs
    direct: Way | None
    spool: Way
    shards: tuple[int, ...]
    bytes: tuple[int, ...]
    smallest: int
    largest: int
    compression: Ratio | None = None

    @property
    def stored_bytes(self) -> int:
        """Of all shards, as they will lie on the disk: an estimate if they are compressed."""
        return stored(sum(self.bytes), self.compression)

    @property
    def cheaper(self) -> Literal["direct", "spool"]:
        """The way that takes less time; direct where both take the same."""
        return "spool" if self.direct is None or self.spool.seconds < self.direct.seconds else "direct"


def estimate(
    index: SampleIndex,
    partition: Partition,
    *,
    layout: Layout | None = None,
    keys: Literal["error", "prefix"] = "error",
    costs: Costs | None = None,
    in_order: Sequence[int] | None = None,
) -> Estimate:
    """What ``write_shards(index, partition, ...)`` would cost.

    layout    as the shards are to be cut; None: as `write_shards` does by itself
    costs     None: `Costs.of` the index' files
    in_order  bytes of the files of a source that can only be read in order, of whose spool the index is

    Reads nothing, unless the layout is compressed: then some 8 MiB of samples (at most 16), from all over the
    shards. Raises ArgumentError as `write_shards` does, DataError where those samples cannot be read.
    """
    work = Work.of(index, partition, layout or Layout(), keys)
    return estimate_work(work, costs or Costs.of(index.files), work.layout.compression, in_order)


def estimate_work(
    work: Work, costs: Costs, compression: Zstd | None = None, in_order: Sequence[int] | None = None
) -> Estimate:
    """`estimate`, for what was looked up already; without ``compression`` as if shards were plain."""
    files = work.index.files
    remote = np.array([is_url(file) for file in files], bool)
    direct, local = np.zeros(2, np.int64), np.zeros(2, np.int64)
    sampler = None if compression is None else Sampler(work, compression)
    sizes: list[list[int]] = []
    for worker in range(work.partition.workers):
        sizes.append([])
        for plan in work.shards(worker):
            sizes[-1].append(plan.nbytes)
            direct += _requests(plan, remote)
            local += _requests(plan, np.zeros_like(remote)) if remote.any() else 0
            if sampler is not None:
                sampler.look_at(plan)
    local = local if remote.any() else direct
    ratio = None if sampler is None else measure(work, sampler)
    each = [size for worker in sizes for size in worker]
    copy = int(work.index.file_bytes.sum())
    sizes_read = work.index.file_bytes.tolist() if in_order is None else in_order
    source, pieces = sum(sizes_read), sum(-(-n // _SEQUENTIAL) for n in sizes_read)
    # A tar that is compressed is written and read back first, a few at a time.
    out, tars = stored(sum(each), ratio), 0 if ratio is None else sum(each)
    space = out + (sum(sorted(each)[-AT_ONCE:]) if tars else 0)
    written = (out + 2 * tars) / costs.disk_bandwidth
    written += 0 if ratio is None else tars / ratio.bandwidth / default_threads()

    def asked(requests: int, nbytes: int) -> float:
        return requests * costs.latency / costs.at_once + nbytes / costs.bandwidth

    requests, nbytes = direct.tolist()
    copied = int(local[0]) * costs.disk_latency / costs.at_once + int(local[1]) / costs.disk_bandwidth
    spooled = asked(pieces, source) + 2 * copy / costs.disk_bandwidth + copied + written
    out += 2 * tars
    return Estimate(
        costs=costs,
        direct=(
            Way(requests, nbytes, out, space, asked(requests, nbytes) + written) if in_order is None else None
        ),
        spool=Way(pieces, source, 2 * copy + int(local[1]) + out, copy + space, spooled),
        shards=tuple(map(len, sizes)),
        bytes=tuple(map(sum, sizes)),
        smallest=min(each, default=0),
        largest=max(each, default=0),
        compression=ratio,
    )


def stored(nbytes: int, ratio: Ratio | None) -> int:
    """What so many bytes of tars take on the disk."""
    return nbytes if ratio is None else round(nbytes * ratio.value)


def _requests(plan: ShardPlan, remote: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(requests, bytes) that the copier makes for a shard."""
    s = plan.samples
    file = np.repeat(s.file, np.diff(s.part_start))
    headers = _headers(s)
    apart = (headers < BLOCK) | (headers > _HEADERS)  # headers that are read by themselves
    begin = s.part_offset - np.where(apart, 0, headers)
    end = s.part_offset + s.part_size
    window = max(min(WINDOW if remote.any() else LOCAL_WINDOW, plan.nbytes), _MIN_WINDOW)
    first, last = plan.part_offset // window, (plan.part_offset + np.maximum(s.part_size, 1) - 1) // window
    order = np.lexsort((begin, file, first))
    begin, end, file, first = begin[order], end[order], file[order], first[order]
    gap = begin[1:] - end[:-1]
    join = np.where(remote[file], _REMOTE[0], _LOCAL[0])
    joined = (file[1:] == file[:-1]) & (first[1:] == first[:-1]) & (gap >= 0) & (gap < join[1:])
    starts = np.flatnonzero(np.concatenate([[True], ~joined]))
    length = end[np.append(starts[1:], len(end)) - 1] - begin[starts]
    most = np.where(remote[file[starts]], _REMOTE[1], _LOCAL[1])
    pieces = np.diff(np.append(starts, len(end)))
    requests = np.maximum(np.maximum(-(-length // most), -(-pieces // _PIECES)), 1).sum()
    requests += (last - plan.part_offset // window).sum() + apart.sum()
    return np.array([requests, length.sum() + headers[apart].sum()], np.int64)


def _headers(s: Selection) -> NDArray[np.int64]:
    """int64 [P]: bytes in front of each payload in the source, back to the part before it."""
    sample = np.repeat(np.arange(len(s.ids)), np.diff(s.part_start))
    order = np.lexsort((s.part_offset, sample))
    end = s.part_offset + s.part_size + -s.part_size % BLOCK
    before = np.empty(len(order), np.int64)
    before[order[1:]] = end[order[:-1]]
    before[order[s.part_start[:-1]]] = s.offset
    return s.part_offset - before
