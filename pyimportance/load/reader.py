"""Planned rows -> samples.

The samples that a process needs of a window are read in order of (file, offset), neighbours in one request
whatever their number, and handed out in the planned order. So every byte of a sample, headers and padding
included, is read and counted exactly once, and a process holds two windows (`Recipe.window_bytes`) at the
very most, or one sample if that is larger: many workers read by one process share that room, in more
and shorter requests.

A shard is checked where it costs nothing: its length when it is opened, and that the headers of every sample
have the names and sizes that the index has. `ShardSet.verify` checks every byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyimportance.errors import DataError
from pyimportance.io.files import Files
from pyimportance.io.headers import check_headers
from pyimportance.io.meter import Meter
from pyimportance.io.storage import File
from pyimportance.load.deal import Share
from pyimportance.load.merge import Ints
from pyimportance.load.plan import EpochPlan, Recipe, Stock, most_important
from pyimportance.shards.sample_index import SampleIndex
from pyimportance.shards.shard_set import ShardSet

Sample = dict[str, Any]

_COMMON = ("__key__", "__url__", "__index__", "__weight__", "__pad__")
_AT_ONCE = 256, 2**20  # samples and bytes cut in one go: enough to pay for the NumPy calls, and cache-warm


class Holding:
    """What one worker holds of one generation, and its samples by position in an epoch.

    Opening it reads the worker's index. ``keep`` below 1 leaves only the most important samples.
    """

    def __init__(self, shards: ShardSet, worker: int, recipe: Recipe, meter: Meter) -> None:
        self.index = shards.index(worker, meter)
        self._worker, self._recipe, self._digest = worker, recipe, shards.digest
        self._rows = most_important(
            self.index.score, self.index.ids, recipe.keep, descending=shards.manifest.descending
        )
        bins = np.zeros(len(self.index), np.int32) if self.index.bin is None else self.index.bin
        self._stock = Stock(
            self.index.file[self._rows],
            self.index.offset[self._rows],
            self.index.nbytes[self._rows],
            bins[self._rows],
        )

    def plan(self, epoch: int) -> EpochPlan:
        return EpochPlan(self._stock, self._recipe, digest=self._digest, epoch=epoch, worker=self._worker)

    def stream(self, plan: EpochPlan, share: Share, files: Files, tier: str, room: int) -> Iterator[Sample]:
        """The samples of ``share``, all of them this worker's. room: bytes to hold at a time."""
        window = plan.window_of(share.position)
        for begin, end in _runs(window):
            k = int(window[begin])
            rows = self._rows[plan.window(k)[share.position[begin:end] - plan.bounds[k]]]
            for a, b in _runs(np.cumsum(self.index.nbytes[rows]) // room):
                pad = share.pad[begin + a : begin + b]
                yield from read_samples(self.index, rows[a:b], pad, files, tier)


def _runs(values: Ints) -> Iterator[tuple[int, int]]:
    """(begin, end) of the runs of equal values, none of them negative."""
    return pairwise(np.flatnonzero(np.diff(values, prepend=-1, append=-1)).tolist())


def read_samples(
    index: SampleIndex, rows: Ints, pad: NDArray[np.bool_], files: Files, tier: str
) -> Iterator[Sample]:
    """The samples of ``rows`` in that order; repeated rows are read once.

    Raises DataError naming file, member and offset where a shard is not what the index says.
    """
    order = np.lexsort((index.offset[rows], index.file[rows]))
    file, begin = index.file[rows[order]], index.offset[rows[order]]
    end = begin + index.nbytes[rows[order]]
    # Within a file only repeated rows overlap, so that a sample either continues a range or starts one.
    first = np.ones(len(rows), bool)
    first[1:] = (file[1:] != file[:-1]) | (begin[1:] > end[:-1])
    number = np.empty(len(rows), np.intp)
    number[order] = np.cumsum(first) - 1
    starts = np.flatnonzero(first)
    ranges = []
    for (a, b), start, stop in zip(
        pairwise([*starts.tolist(), len(rows)]),
        begin[starts].tolist(),
        np.maximum.reduceat(end, starts).tolist() if len(rows) else [],
        strict=True,
    ):
        lying = rows[order[a:b]]
        shard = _opened(index, lying, files, tier)
        data = shard.pread(start, stop - start)
        check_headers(index, lying, shard, data, start, ours=True)
        ranges.append(data)
    base = begin[starts][number]
    samples, nbytes = _AT_ONCE
    step = max(1, min(samples, nbytes * len(rows) // max(1, int(index.nbytes[rows].sum()))))
    for i in range(0, len(rows), step):
        part = slice(i, i + step)
        buffers = [ranges[n] for n in number[part].tolist()]
        yield from _cut(index, rows[part], base[part], buffers, pad[part].tolist())


def _opened(index: SampleIndex, rows: Ints, files: Files, tier: str) -> File:
    """The shard in which these samples lie, of the length that the index knows."""
    number = index.file[rows[0]]
    file = files.get(index.files[number], tier)
    if file.size != index.file_bytes[number]:
        raise DataError(
            f"has {file.size} bytes; {int(index.file_bytes[number])} were written",
            path=file.path,
            member=index.key(int(rows[0])),
            offset=int(index.offset[rows[0]]),
        )
    return file


def _cut(index: SampleIndex, rows: Ints, base: Ints, buffers: list[bytes], pad: list[bool]) -> list[Sample]:
    """Samples cut from ``buffers``, the ranges they lie in; base int64 [n]: where in the file these start."""
    keys: list[str] = index.keys.take(rows).to_pylist()
    urls = [index.files[f] for f in index.file[rows].tolist()]
    common = [keys, urls, index.ids[rows].tolist(), [1.0] * len(rows), pad]
    first = index.part_start[rows]
    counts = index.part_start[rows + 1] - first
    if (counts == counts[0]).all():
        parts = first[:, None] + np.arange(counts[0])
        extension = index.part_ext[parts]
        if (extension == extension[0]).all():
            # The usual case, all samples have the same parts: cut them column by column.
            begin = index.part_offset[parts] - base[:, None]
            end = begin + index.part_size[parts]
            payloads = [
                [buffer[a:b] for buffer, a, b in zip(buffers, begins, ends, strict=True)]
                for begins, ends in zip(begin.T.tolist(), end.T.tolist(), strict=True)
            ]
            names = [*_COMMON, *(index.extensions[e] for e in extension[0].tolist())]
            return [dict(zip(names, row, strict=True)) for row in zip(*common, *payloads, strict=True)]
    samples = [dict(zip(_COMMON, row, strict=True)) for row in zip(*common, strict=True)]
    for sample, buffer, start, p, count in zip(
        samples, buffers, base.tolist(), first.tolist(), counts.tolist(), strict=True
    ):
        for q in range(p, p + count):
            a, size = int(index.part_offset[q]) - start, int(index.part_size[q])
            sample[index.extensions[index.part_ext[q]]] = buffer[a : a + size]
    return samples
