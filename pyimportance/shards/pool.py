"""Writes planned shards: a few at a time, on native threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, TypeAlias

from pyimportance import _C
from pyimportance.io import urls
from pyimportance.io.compress import scratch, write_frames
from pyimportance.io.meter import Meter
from pyimportance.io.output import writing
from pyimportance.io.storage import File, LocalFile, open_file
from pyimportance.shards import keys
from pyimportance.shards.copy import notes_of
from pyimportance.shards.journal import Journal
from pyimportance.shards.manifest import ShardInfo
from pyimportance.shards.plan import ShardPlan

if TYPE_CHECKING:
    from pyimportance.shards.store_job import StoreJournal

# Bytes of a shard in memory at a time: of files what a cache holds, so that what is read, summed and written
# comes from memory once; of anything else what lets requests be joined.
LOCAL_WINDOW = 1 << 20
WINDOW = 16 << 20
AT_ONCE = 4  # shards: while one waits for the disk to sync, others are copied
_BEGUN = 16  # shards that are open: what the threads have to do while the next ones are planned

Steps: TypeAlias = "Generator[None, None, ShardInfo]"
"""A shard on its way: it is begun by the first `next`, and waited for by another."""
Pending: TypeAlias = "Future[ShardInfo] | Begun"
"""Its `result`, once it is asked for."""


class ShardPool:
    """Writes planned shards, a few at a time, and notes them in ``journal``; a context manager.

    sources    what to copy from, see `open_sources`
    canonical  they are shards of ours, and their headers are copied
    prefixes   per source, what the plans' keys have before those in its tar; None: nothing
    tier       what is read is charged to, of the meter given with each shard

    Native threads copy, sum and sync. What is compressed then, or sent to a store, goes through Python's as
    well. Leaving the block by an error stops what is under way.
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
        self.root, self.journal, self.tier = root, journal, tier
        self._window = LOCAL_WINDOW if all(isinstance(file, LocalFile) for file in sources) else WINDOW
        places = zip(sources, prefixes or [""] * len(sources), strict=True)
        self._copier = _C.TarCopier(
            [(file.handle, file.size, file.path, prefix) for file, prefix in places], canonical, AT_ONCE
        )
        self._begun: deque[Begun] = deque()
        self._threads = ThreadPoolExecutor(AT_ONCE)

    def submit(self, plan: ShardPlan, meter: Meter | None) -> Pending:
        """The shard, kept from an interrupted run of the same job or written, once its `result` is asked for.

        That raises DataError where a source does not hold what its index says (the headers in front of every
        payload are compared, and payloads with checksums that are known), OutputError where the shard cannot
        be written; so may this, of earlier ones.
        """
        if plan.frames or urls.is_url(self.root):
            return self._threads.submit(lambda: _end(self._make(plan, meter)))
        while len(self._begun) >= _BEGUN:
            self._begun.popleft().result()
        self._begun.append(Begun(self._make(plan, meter)))
        return self._begun[-1]

    def _make(self, plan: ShardPlan, meter: Meter | None) -> Steps:
        kept = yield from self._reused(plan, meter)
        if kept is not None:
            return kept
        info = yield from self._written(plan, meter)
        self.journal.add(info.path, info.nbytes, info.crc32c, durable=False)
        return info

    def _reused(self, plan: ShardPlan, meter: Meter | None) -> Generator[None, None, ShardInfo | None]:
        """The shard as an interrupted run of the same job finished it; None if there is none.

        It is read, as "disk", and taken only if it still sums to what that run noted; an object is taken at
        its metadata's word, for nothing changes it in place.
        """
        path = urls.join(self.root, plan.name)
        nbytes, expected = self.journal.finished(plan.name) or (-1, -1)
        if nbytes < 0 or (nbytes != plan.nbytes and not plan.frames):
            return None
        if urls.is_url(self.root):
            return _info(plan, nbytes, expected)
        if not os.path.isfile(path):
            return None
        with open_file(path, meter, "disk") as file:
            if file.size != nbytes:
                return None
            _, crc32c, read, requests = yield from self._outcome(
                self._copier.begin_sum(file.handle, file.size)
            )
            file.charge(read, requests)
        return _info(plan, nbytes, crc32c) if crc32c == expected else None

    def _written(self, plan: ShardPlan, meter: Meter | None) -> Steps:
        samples = plan.samples
        offsets, text = keys.to_buffers(samples.keys)
        # Where the tar is the file that is to be, the thread that wrote it syncs it.
        sync = not (plan.frames or urls.is_url(self.root))
        with (
            # The index of all of a worker's shards is written beside them: names are synced with its own.
            writing(urls.join(self.root, plan.name), sync=not sync, sync_name=False) as out,
            scratch(out.file) if plan.frames else nullcontext(out.file) as tar,
        ):
            task = self._copier.begin(
                tar.fileno(),
                offsets,
                text,
                samples.extensions,
                samples.part_start,
                samples.part_ext,
                samples.part_size,
                samples.file,
                samples.offset,
                samples.part_offset,
                samples.part_crc32c,
                min(self._window, plan.nbytes),
                sync,
            )
            nbytes, crc32c, read, requests = yield from self._outcome(task)
            assert nbytes == plan.nbytes, f"{plan.name}: wrote {nbytes} bytes, planned {plan.nbytes}"
            if plan.frames:
                nbytes, crc32c = write_frames(tar.fileno(), plan.frames, out.file, plan.level)
            out.notes |= notes_of(crc32c)
        if meter is not None:
            meter.add(self.tier, read, requests)
        return _info(plan, nbytes, crc32c)

    def _outcome(self, task: int) -> Generator[None, None, tuple[int, int, int, int]]:
        """What became of a task of the native threads: (bytes, CRC32C, bytes and requests read)."""
        try:
            yield
            return self._copier.wait(task)
        finally:
            self._copier.forget(task)  # before anybody closes the files that it uses

    def __enter__(self) -> ShardPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._copier.close()
        for begun in self._begun:
            begun.close() if kind is not None else begun.result()
        self._threads.shutdown(wait=True, cancel_futures=kind is not None)
        self._copier.close()


class Begun:
    """A shard that native threads write meanwhile."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._info: ShardInfo | None = None
        next(steps)  # there is one: something is summed or written

    def result(self) -> ShardInfo:
        if self._info is None:
            self._info = _end(self._steps)
        return self._info

    def close(self) -> None:
        """Ends it where it is; nothing is left of what was not finished."""
        self._steps.close()


def _end(steps: Steps) -> ShardInfo:
    try:
        while True:
            next(steps)
    except StopIteration as e:
        info: ShardInfo = e.value
        return info


def _info(plan: ShardPlan, nbytes: int, crc32c: int) -> ShardInfo:
    n = len(plan.samples.ids)
    content = plan.nbytes if plan.frames else None
    return ShardInfo(plan.name, nbytes, n, crc32c, plan.worker, plan.bin, n, None, None, content)
