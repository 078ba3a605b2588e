"""Writes planned shards, and the index and manifest entries that describe them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from pyimportance import _C
from pyimportance.io import urls
from pyimportance.io.compress import scratch, write_frames
from pyimportance.io.frames import content_of
from pyimportance.io.headers import check_size
from pyimportance.io.meter import Meter
from pyimportance.io.output import write_bytes, writing
from pyimportance.io.storage import File, LocalFile, open_file, open_files
from pyimportance.shards import keys
from pyimportance.shards.index_file import encode
from pyimportance.shards.journal import CRC32C, Journal
from pyimportance.shards.manifest import IndexInfo, ShardInfo
from pyimportance.shards.plan import ShardPlan
from pyimportance.shards.sample_index import SampleIndex

if TYPE_CHECKING:
    from pyimportance.shards.store_job import StoreJournal

# Bytes of a shard in memory at a time: of files what a cache holds, so that what is read, summed and written
# comes from memory once; of anything else what lets requests be joined.
LOCAL_WINDOW = 1 << 20
WINDOW = 16 << 20
AT_ONCE = 4  # shards: while one waits for the disk to sync, others are copied


class ShardPool:
    """Writes planned shards, a few at a time, and notes them in ``journal``; a context manager.

    See `write_shard` for the other arguments. Leaving the block by an error drops what is not begun,
    and waits for what is.
    """

    def __init__(
        self,
        root: str,
        sources: Sequence[File],
        journal: Journal | StoreJournal,
        *,
        canonical: bool,
        prefixes: Sequence[str] | None = None,
        tier: str = "origin",
    ) -> None:
        self.root, self.sources, self.journal, self.canonical = root, sources, journal, canonical
        self.prefixes, self.tier = prefixes, tier
        self._pool = ThreadPoolExecutor(AT_ONCE)

    def submit(self, plan: ShardPlan, meter: Meter | None) -> Future[ShardInfo]:
        """The shard, kept from an interrupted run of the same job or written, in the future."""
        return self._pool.submit(self._make, plan, meter)

    def _make(self, plan: ShardPlan, meter: Meter | None) -> ShardInfo:
        kept = reuse_shard(self.root, plan, self.journal, meter)
        if kept is not None:
            return kept
        info = write_shard(
            self.root,
            plan,
            self.sources,
            canonical=self.canonical,
            prefixes=self.prefixes,
            meter=meter,
            tier=self.tier,
        )
        self.journal.add(info.path, info.nbytes, info.crc32c, durable=False)
        return info

    def __enter__(self) -> ShardPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)


@contextmanager
def open_sources(
    index: SampleIndex, paths: Sequence[str] | None = None, tier: str = "origin"
) -> Iterator[list[File]]:
    """The tars of an index, open for copying: ``paths`` in their place, where copies lie.

    Raises DataError if one is missing or has another size than when it was indexed, ArgumentError if they are
    more than this process may have open.
    """
    with open_files(paths or index.files, tier=tier) as files, ExitStack() as stack:
        tars = [stack.enter_context(content_of(file)) for file in files]
        for number, tar in enumerate(tars):
            check_size(index, number, tar)
        yield tars


def write_shard(
    root: str,
    plan: ShardPlan,
    sources: Sequence[File],
    *,
    canonical: bool,
    meter: Meter | None,
    prefixes: Sequence[str] | None = None,
    tier: str = "origin",
) -> ShardInfo:
    """Writes one shard atomically; what is read is charged to ``meter`` under ``tier``.

    canonical  the sources are shards of ours, and their headers are copied
    prefixes   per source, what the plan's keys have before those in its tar; None: nothing

    Raises DataError where a source does not hold what its index says (the headers in front of every payload
    are compared), OutputError where the shard cannot be written.
    """
    samples = plan.samples
    offsets, text = keys.to_buffers(samples.keys)
    with (
        # The index of all of a worker's shards is written beside them: their names are synced with its own.
        writing(urls.join(root, plan.name), sync_name=False) as out,
        scratch(out.file) if plan.frames else nullcontext(out.file) as tar,
    ):
        nbytes, crc32c, read, requests = _C.tar_write(
            tar.fileno(),
            [
                (file.handle, file.size, file.path, prefix)
                for file, prefix in zip(sources, prefixes or [""] * len(sources), strict=True)
            ],
            offsets,
            text,
            samples.extensions,
            samples.part_start,
            samples.part_ext,
            samples.part_size,
            samples.file,
            samples.offset,
            samples.part_offset,
            canonical,
            min(window_of(sources), plan.nbytes),
        )
        assert nbytes == plan.nbytes, f"{plan.name}: wrote {nbytes} bytes, planned {plan.nbytes}"
        if plan.frames:
            nbytes, crc32c = write_frames(tar.fileno(), plan.frames, out.file, plan.level)
        out.notes |= notes_of(crc32c)
    if meter is not None:
        meter.add(tier, read, requests)
    return _info(plan, nbytes, crc32c)


def window_of(sources: Sequence[File]) -> int:
    return LOCAL_WINDOW if all(isinstance(file, LocalFile) for file in sources) else WINDOW


def reuse_shard(
    root: str, plan: ShardPlan, journal: Journal | StoreJournal, meter: Meter | None
) -> ShardInfo | None:
    """The shard as an interrupted run of the same job finished it; None if there is none.

    It is read, as "disk", and taken only if it still sums to what that run noted; an object is taken at its
    metadata's word, for nothing changes it in place.
    """
    path = urls.join(root, plan.name)
    nbytes, expected = journal.finished(plan.name) or (-1, -1)
    if nbytes < 0 or (nbytes != plan.nbytes and not plan.frames):
        return None
    if urls.is_url(root):
        return _info(plan, nbytes, expected)
    if not os.path.isfile(path):
        return None
    with open_file(path, meter, "disk") as file:
        if file.size != nbytes:
            return None
        crc32c, read, requests = _C.crc32c_of_file(file.handle, file.size)
        file.charge(read, requests)
    return _info(plan, nbytes, crc32c) if crc32c == expected else None


def _info(plan: ShardPlan, nbytes: int, crc32c: int) -> ShardInfo:
    n = len(plan.samples.ids)
    content = plan.nbytes if plan.frames else None
    return ShardInfo(plan.name, nbytes, n, crc32c, plan.worker, plan.bin, n, None, None, content)


def describe(index: SampleIndex, shards: Sequence[ShardInfo]) -> tuple[ShardInfo, ...]:
    """``shards`` (one per file of ``index``) with live samples and score range as the index has them."""
    bounds = np.searchsorted(index.file, np.arange(len(shards) + 1)).tolist()
    described = []
    for shard, start, end in zip(shards, bounds[:-1], bounds[1:], strict=True):
        low = high = None
        if index.score is not None:
            known = index.score[start:end][~np.isnan(index.score[start:end])]
            if known.size:
                low, high = float(known.min()), float(known.max())
        described.append(replace(shard, live=end - start, score_min=low, score_max=high))
    return tuple(described)


def write_worker_index(root: str, name: str, index: SampleIndex) -> IndexInfo:
    """Writes a worker's index atomically, and says what the manifest must."""
    data = encode(index)
    crc32c = _C.crc32c(data)
    write_bytes(urls.join(root, name), data, notes_of(crc32c))
    return IndexInfo(name, len(data), index.num_samples, crc32c)


def notes_of(crc32c: int) -> dict[str, str]:
    """What goes with an object of ours in a store; `StoreJournal` reads it."""
    return {CRC32C: f"{crc32c:08x}"}
