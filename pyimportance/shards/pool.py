"""Writes planned shards: a few at a time, on native threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, nullcontext, suppress
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

Steps: TypeAlias = "Generator[int, None, ShardInfo]"
"""A shard on its way: it yields the task of native threads that it is at; another `next` waits for that."""
Pending: TypeAlias = "Future[ShardInfo] | Begun"
"""Its `result`, once it is asked for; that does not wait when it is `done`."""


class ShardPool:
    """Writes planned shards, a few at a time, and notes them in ``journal``; a context manager.

    sources    what to copy from, see `open_sources`
    canonical  they are shards of ours, and their headers are copied
    prefixes   per source, what the plans' keys have before those in its tar; None: nothing
    tier       what is read is charged to, of the meter given with each shard

    Native threads copy, sum and sync. What is compressed then, or sent to a store, goes through Python's as
    well. What they have finished is named and noted at the next call here; leaving the block by an error
    stops what is under way, and keeps what was finished.
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
        self.take_up()
        while len(self._begun) >= _BEGUN:
            self._begun[0].result()
            self.take_up()
        self._begun.append(Begun(self, self._make(plan, meter)))
        return self._begun[-1]

    def take_up(self) -> None:
        """Names and notes the shards that are finished, so that whoever kills this process takes few of them.

        What went wrong with one is raised by its `Begun.result`: the first in order, whichever ended first.
        """
        for begun in self._begun:
            with suppress(Exception):
                while not begun.done() and self._copier.ended(begun.task):
                    begun.go_on()
        self._begun = deque(begun for begun in self._begun if begun.info is None)

    def _make(self, plan: ShardPlan, meter: Meter | None) -> Steps:
        kept = yield from self._reused(plan, meter)
        if kept is not None:
            return kept
        info = yield from self._written(plan, meter)
        self.journal.add(info.path, info.nbytes, info.crc32c, durable=False)
        return info

    def _reused(self, plan: ShardPlan, meter: Meter | None) -> Generator[int, None, ShardInfo | None]:
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

    def _outcome(self, task: int) -> Generator[int, None, tuple[int, int, int, int]]:
        """What became of a task of the native threads: (bytes, CRC32C, bytes and requests read)."""
        try:
            yield task
            return self._copier.wait(task)
        finally:
            self._copier.forget(task)  # before anybody closes the files that it uses

    def __enter__(self) -> ShardPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stopped = True
        try:
            if kind is None:
                for begun in list(self._begun):
                    begun.result()
                stopped = False
        finally:
            with ExitStack() as last:  # all of it, from below, whatever is raised on the way
                last.callback(self._copier.close)
                last.callback(self._threads.shutdown, wait=True, cancel_futures=stopped)
                for begun in reversed(self._begun):
                    last.callback(begun.close)
                if stopped:
                    last.callback(self._copier.close)


class Begun:
    """A shard that native threads write meanwhile. ``task``: what they are at; ``info``: once it is done."""

    def __init__(self, pool: ShardPool, steps: Steps) -> None:
        self._pool, self._steps = pool, steps
        self._error: BaseException | None = None
        self.info: ShardInfo | None = None
        self.task = next(steps)  # there is one: something is summed or written

    def done(self) -> bool:
        return self.info is not None or self._error is not None

    def result(self) -> ShardInfo:
        """Raises what went wrong, each time that it is called."""
        if not self.done():
            self._pool.take_up()
        while self.info is None:
            if self._error is not None:
                raise self._error
            self.go_on()
        return self.info

    def go_on(self) -> None:
        """The step after ``task``, which is waited for."""
        try:
            self.task = next(self._steps)
        except StopIteration as e:
            self.info = e.value
        except BaseException as e:
            self._error = e
            raise

    def close(self) -> None:
        """Once the threads are stopped: takes it up if it is finished, and leaves nothing of it if not."""
        while not self.done():
            with suppress(Exception):
                self.go_on()


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
