"""write_shards: a source and a partition -> the first generation of shards."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from pyimportance.errors import ArgumentError
from pyimportance.io import urls
from pyimportance.io.meter import Meter
from pyimportance.io.output import write_bytes, write_last
from pyimportance.io.storage import File
from pyimportance.shards import copy, job
from pyimportance.shards.combine import concatenate, with_scores
from pyimportance.shards.exchange import Exchange, origin_of
from pyimportance.shards.index import Progress
from pyimportance.shards.layout import Layout, Order, Zstd
from pyimportance.shards.manifest import (
    POINTER,
    IndexInfo,
    Manifest,
    ShardInfo,
    encode_pointer,
    index_name,
    manifest_name,
)
from pyimportance.shards.plan import ShardPlan
from pyimportance.shards.pool import Pending, ShardPool
from pyimportance.shards.sample_index import SampleIndex
from pyimportance.shards.shard_set import ShardSet
from pyimportance.shards.streams.stream import Data
from pyimportance.shards.work import Work, check_keys

if TYPE_CHECKING:
    from pyimportance.order.values import Partition
    from pyimportance.shards.journal import Journal
    from pyimportance.shards.store_job import StoreJournal

_Begun: TypeAlias = "list[tuple[ShardPlan, Pending]]"


def write_shards(
    source: Data | SampleIndex,
    partition: Partition,
    out: str | os.PathLike[str],
    *,
    shard_bytes: int = 256 << 20,
    shard_samples: int | None = None,
    order: Order = "score",
    compression: Literal["zstd"] | None = None,
    level: int | None = None,
    frame_bytes: int | None = None,
    keys: Literal["error", "prefix"] = "error",
    spool: str | os.PathLike[str] | None = None,
    exchange: Exchange = "auto",
    resume: bool = True,
    meters: Sequence[Meter] | None = None,
    progress: Progress | None = None,
) -> ShardSet:
    """Writes every worker's samples, bin by bin, most important first, as WebDataset tars.

    source         what `index` takes, with a spool too, or its result
    partition      its samples may be fewer than the source's (the rest is pruned)
    out            a directory, or the URL of a folder in a store (s3, gs, az), new or empty or with this
                   job's unfinished work; if finished, it is returned
    shard_bytes    a shard's size at most; only a larger sample makes a larger shard
    shard_samples  samples in a shard at most
    order          "score": in a shard the most important first. "shuffled": the same samples in the same
                   shards, but there in an order drawn from the partition's seed
    compression    "zstd": shards are ``.tar.zst``, streams that any zstd takes (``zstd -dc x.tar.zst | tar
                   t``), in frames that `ShardSet` and `ImportanceDataset` read one by one. ``shard_bytes``
                   counts what they are before compression
    level          of zstd, 1 to 22; 3 if it is not given
    frame_bytes    of the tar in a frame at most, but for larger samples; 256 KiB if it is not given. Larger
                   frames make smaller files, and more to read for a sample
    keys           "error": a key that two samples share is an error naming both. "prefix": the stem of its
                   tar goes before every key, as a directory
    spool          a directory for a copy of the source in plain tars, see `index`; where one is needed and
                   none is named, that is ``out`` with ".spool", removed once the shards are complete (so that
                   who calls again reads again; an ``out`` in a store has none beside it)
    exchange       "direct": samples are read from the source where they lie. "spool": the source is read
                   once, in order, to the spool, and samples from there. "auto": what `estimate` finds cheaper
                   of tars behind URLs, if the disk has the space; "direct" of local ones
    resume         False: an ``out`` that holds shards is an error
    meters         one per worker: what is read for it, as "origin". With a spool, as "disk", and what is read
                   of the source for all of them is "origin" of the first
    progress       called with (payload bytes done, payload bytes in all) as shards end; before that, where
                   the source is indexed or spooled first, with (bytes of the source done, bytes of it in all;
                   0: unknown)

    The same source, partition and options give the same bytes, also after interruptions: files appear whole
    or not at all, the manifest last. (Only job.json differs: it notes when each tar of the source was last
    changed, or the ETag that its server tells, so that shards of an earlier state are not taken for those of
    this one.) Memory: the index, and 64 MiB; where URLs are read, some 100 MiB more for what is on its way,
    and as much where they are written. To a store, each shard goes through a temporary file, four of them at
    a time; the last object is manifest.json, by one conditional request.
    Compressed bytes depend on the version of zstd, which the manifest names; the tars in them do not. A job
    that goes on under another version keeps what it has finished. Compressing takes, for four shards at a
    time, their tars' room on the disk, and 32 MiB of memory or twice the largest frame (1 GiB at most) each.
    An index may be older than its tars: before a payload is copied, the headers in front of it must name the
    member and size that the index has there. Other bytes under the same headers are copied as they are now,
    unless the index has checksums (``index(.., checksums=True)``): then payloads must have them, here and
    whenever samples of these shards are copied again. What goes through a spool is summed on its way in, and
    compared on its way out.
    Later generations are cut and ordered as this one is.
    Raises ArgumentError (ids that the source lacks, shared keys, options), DataError (a source that is not
    what its index says), OutputError (no space; ``out`` holds something else, or shards of an earlier
    state of the source; another process writes there).
    """
    layout = Layout(shard_bytes, shard_samples, order, Zstd.of(compression, level, frame_bytes))
    root = check_out(out, keys)
    if meters is not None and len(meters) != partition.workers:
        raise ArgumentError(f"meters are {len(meters)}; there must be one per worker ({partition.workers})")
    origin = origin_of(source, root, spool, exchange, meter=meters[0] if meters else None, progress=progress)
    work = Work.of(origin.index, partition, layout, keys)
    with ExitStack() as stack:
        # Before the claim, so that a source that is refused leaves nothing behind. Once all is written, it
        # need not be there.
        finished = job.is_finished(root)
        files = [] if finished else stack.enter_context(origin.open(work))
        versions = origin.versions(files)
        journal = stack.enter_context(_claim(root)(root, work.digest, versions, partition.workers, resume))
        if journal is not None:
            _Run(root, origin.with_sums(work), progress).write(
                files, journal, meters or [None] * partition.workers
            )
    origin.remove()
    return ShardSet.open(root, generation=0)


def check_out(out: str | os.PathLike[str], keys: str) -> str:
    """``out`` as an absolute path or a URL. Raises what `write_shards` can before it has read anything:
    ArgumentError, or OutputError if a directory holds something else.
    """
    check_keys(keys)
    if urls.is_url(out):
        from pyimportance.shards.store_job import root_of

        return root_of(os.fspath(out))
    root = os.path.abspath(os.fspath(out))
    job.check_directory(root)
    return root


def _claim(
    root: str,
) -> Callable[[str, str, job.Versions, int, bool], AbstractContextManager[Journal | StoreJournal | None]]:
    if urls.is_url(root):
        from pyimportance.shards import store_job

        return store_job.claim
    return job.claim


@dataclass
class _Run:
    """The loop over workers, bins and shards."""

    root: str
    work: Work
    progress: Progress | None
    ahead: deque[tuple[ShardPlan, Pending]] = field(default_factory=deque)  # whose end was not told
    done: int = 0
    total: int = field(init=False)

    def __post_init__(self) -> None:
        self.total = int(self.work.index.payload_bytes[self.work.rows].sum())

    def write(
        self, files: Sequence[File], journal: Journal | StoreJournal, meters: Sequence[Meter | None]
    ) -> None:
        """Shards and indexes, the manifest last."""
        work, tier = self.work, files[0].tier if files else "origin"
        with ShardPool(self.root, files, journal, canonical=False, prefixes=work.prefixes, tier=tier) as pool:
            done = self.all_workers(pool, meters)
        for file in files:
            file.check_unchanged()
        journal.settle(s.path for _, shards in done for s in shards)
        manifest = Manifest.of(
            work.partition,
            generation=0,
            parent=None,
            job=work.digest,
            source_files=work.index.relative_files,
            source_digest=work.index.digest,
            layout=work.layout,
            indexes=tuple(info for info, _ in done),
            shards=tuple(s for _, shards in done for s in shards),
        ).encode()
        write_bytes(urls.join(self.root, manifest_name(0)), manifest)
        write_last(urls.join(self.root, POINTER), encode_pointer(0, manifest))

    def all_workers(
        self, pool: ShardPool, meters: Sequence[Meter | None]
    ) -> list[tuple[IndexInfo, tuple[ShardInfo, ...]]]:
        """Finishes a worker when the next one's shards are already being written."""
        done = []
        begun: _Begun | None = None
        for worker, meter in enumerate(meters):
            following = self.begin(worker, pool, meter)
            if begun is not None:
                done.append(self.finish(worker - 1, begun))
            begun = following
        if begun is not None:
            done.append(self.finish(len(meters) - 1, begun))
        return done

    def begin(self, worker: int, pool: ShardPool, meter: Meter | None) -> _Begun:
        job.own_directory(self.root, worker)
        begun: _Begun = []
        for plan in self.work.shards(worker):
            begun.append((plan, pool.submit(plan, meter)))
            self.ahead.append(begun[-1])
            self.tell()
        return begun

    def tell(self) -> None:
        """Reports the shards that have ended, in order."""
        while self.ahead and self.ahead[0][1].done():
            plan, shard = self.ahead.popleft()
            shard.result()
            self.done += int(plan.samples.part_size.sum())
            if self.progress is not None:
                self.progress(self.done, self.total)

    def finish(self, worker: int, begun: _Begun) -> tuple[IndexInfo, tuple[ShardInfo, ...]]:
        infos = []
        for _, shard in begun:
            infos.append(shard.result())
            self.tell()
        index = with_scores(concatenate([plan.index() for plan, _ in begun]), self.work.partition, worker)
        info = copy.write_worker_index(self.root, index_name(worker, 0), index)
        return info, copy.describe(index, infos)
