"""How small zstd makes a job's shards: an estimate, from a small part of its samples."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pyimportance.io.compress import frame_of
from pyimportance.io.frames import content_of
from pyimportance.io.headers import check_size
from pyimportance.io.meter import Meter
from pyimportance.io.storage import open_file
from pyimportance.shards.layout import Zstd
from pyimportance.shards.plan import ShardPlan
from pyimportance.shards.work import Work

_BYTES: Final = 16 << 20  # that are compressed, of all
_FRAME: Final = 2 << 20  # of one frame: what comes later in a larger one adds little
_FRAMES: Final = 32
_AT_ONCE: Final = 16  # reads: they may go to a server


@dataclass(frozen=True)
class Ratio:
    """What was found of a part of a job's tars.

    value      compressed bytes of a byte
    sampled    bytes that were compressed to find it; of the source, whose headers are nearly those of shards
    bandwidth  bytes per second that one thread compressed
    """

    value: float
    sampled: int
    bandwidth: float


class Sampler:
    """Chooses samples for `measure` from shards as they are planned: runs of neighbours, such as frames are
    cut of, at even distances in all that is written.
    """

    def __init__(self, work: Work, compression: Zstd) -> None:
        self._frame = min(compression.frame_bytes, _FRAME)
        frames = min(max(_BYTES // self._frame, 1), _FRAMES)
        total = int(work.index.nbytes[work.rows].sum())
        self._marks = ((np.arange(frames) + 0.5) * (total / frames)).astype(np.int64)
        self._done = 0
        self.level = compression.level
        self.runs: list[NDArray[np.int64]] = []
        """Sample ids of each."""

    def look_at(self, plan: ShardPlan) -> None:
        end = plan.offset + plan.sample_bytes
        for mark in self._marks[(self._marks >= self._done) & (self._marks < self._done + int(end[-1]))]:
            first = int(np.searchsorted(end, mark - self._done, side="right"))
            last = int(np.searchsorted(end, plan.offset[first] + self._frame, side="right"))
            self.runs.append(plan.samples.ids[first : max(last, first + 1)])
        self._done += int(end[-1])


def measure(work: Work, sampler: Sampler, meter: Meter | None = None) -> Ratio | None:
    """Reads the samples that were chosen, of one too large for a frame the beginning, and compresses them run
    by run; None where there is none. Raises DataError.
    """
    index = work.index
    rows = [index.rows_of(run) for run in sampler.runs]
    with ExitStack() as stack, ThreadPoolExecutor(_AT_ONCE) as pool:
        tars = {}
        for number in np.unique(index.file[np.concatenate(rows)]).tolist() if rows else ():
            tars[number] = stack.enter_context(content_of(open_file(index.files[number], meter, "origin")))
            check_size(index, number, tars[number])

        def read(row: int) -> bytes:
            nbytes = min(int(index.nbytes[row]), _FRAME)
            return tars[int(index.file[row])].pread(int(index.offset[row]), nbytes)

        return _compressed((list(pool.map(read, run.tolist())) for run in rows), sampler.level)


def _compressed(runs: Iterator[Sequence[bytes]], level: int) -> Ratio | None:
    before = after = 0
    seconds = 0.0
    for run in runs:
        data = b"".join(run)
        start = time.perf_counter()
        after += len(frame_of(data, level))
        seconds += time.perf_counter() - start
        before += len(data)
    return Ratio(after / before, before, before / max(seconds, 1e-9)) if before else None
