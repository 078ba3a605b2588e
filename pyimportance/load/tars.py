"""Tars that were not written by us, read as if they were the shards of one worker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from pyimportance.errors import ArgumentError
from pyimportance.io.meter import Meter
from pyimportance.shards.sample_index import BLOCK, SampleIndex


@dataclass(frozen=True, eq=False)
class Tars:
    """What a loader asks of a generation of shards, of tars as they were found; ids are those of the index.

    Any number of ranks share the one worker, whose samples are then dealt to them batch by batch.

    names: large_string [P], what parts are called in the tars where that is not what the index says; or None
    part_begin: int64 [P], where the first header of each part is, where others that are not of the index lie
        between; or None: where the part before it ends
    """

    samples: SampleIndex
    names: Any = None
    part_begin: NDArray[np.int64] | None = None

    generation: ClassVar[int] = 0
    workers: ClassVar[int] = 1
    bins: ClassVar[int] = 1
    measure: ClassVar[str] = "custom"
    descending: ClassVar[bool] = True
    tier: ClassVar[str] = "origin"

    @property
    def root(self) -> str:
        """Names them in errors."""
        folders = {os.path.dirname(file) for file in self.samples.files}
        return self.samples.files[0] if len(folders) > 1 else folders.pop() or "."

    @property
    def digest(self) -> str:
        return self.samples.digest

    @property
    def id_bound(self) -> int:
        return int(self.samples.ids.max(initial=-1)) + 1

    @property
    def samples_per_worker(self) -> tuple[int, ...]:
        return (len(self.samples),)

    def index(self, worker: int, meter: Meter | None = None) -> SampleIndex:
        return self.samples

    def worker_of(self, ids: NDArray[np.int64]) -> NDArray[np.int32]:
        """0, or -1 for ids that are not there."""
        return np.isin(ids, self.samples.ids).astype(np.int32) - np.int32(1)


def bounds_of_parts(index: SampleIndex) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(begin, end) of each part with its headers and padding. Headers begin where the part before ends: parts
    lie in the order in which they are listed.
    """
    end = index.part_offset + -(-index.part_size // BLOCK) * BLOCK
    begin = np.concatenate([end[:1] * 0, end[:-1]])
    begin[index.part_start[:-1]] = index.offset
    return begin, end


class Narrowed(NamedTuple):
    """An index of some parts of the samples, which lie in ``nbytes`` bytes from ``offset`` on, among others.

    part_begin  int64 [P]: where the first header of each part is; None: where the part before it ends
    parts       int64 [P]: which ones they are of the index before; None: all
    """

    samples: SampleIndex
    part_begin: NDArray[np.int64] | None = None
    parts: NDArray[np.int64] | None = None


Select = Callable[[str], bool] | frozenset[str]
"""Of parts: a function of their names, or their extensions."""


def check_select(select: Any) -> Select | None:
    """``select_files`` as data sets take it."""
    if select is None or callable(select):
        return cast("Select | None", select)
    if isinstance(select, Iterable) and not isinstance(select, str | bytes):
        extensions = list(select)
        if extensions and all(isinstance(extension, str) for extension in extensions):
            return frozenset(extensions)
    raise ArgumentError(f"select_files={select!r}: must be a list of extensions, or a function of a name")


def narrowed(index: SampleIndex, select: Select, part_begin: NDArray[np.int64] | None = None) -> Narrowed:
    """Those parts alone that ``select`` asks for; part_begin: as `Tars` has it.

    Raises ArgumentError where nothing would be left of a sample.
    """
    keep = selected(index, select)
    start = np.concatenate([np.zeros(1, np.int64), np.cumsum(keep)])[index.part_start]
    if (empty := np.flatnonzero(start[1:] == start[:-1])).size:
        raise ArgumentError(
            f"select_files leaves nothing of sample {index.key(int(empty[0]))!r}, nor of {empty.size - 1} "
            "others; to leave out whole samples use .select(), or keep="
        )
    begin, end = bounds_of_parts(index)
    if part_begin is not None:
        begin = part_begin
    which = np.flatnonzero(keep)
    first, last = which[start[:-1]], which[start[1:] - 1]
    some = replace(
        index,
        offset=begin[first],
        nbytes=end[last] - begin[first],
        part_start=start,
        part_ext=index.part_ext[which],
        part_offset=index.part_offset[which],
        part_size=index.part_size[which],
        part_crc32c=None if index.part_crc32c is None else index.part_crc32c[which],
    )
    return Narrowed(some, begin[which], which)


def selected(index: SampleIndex, select: Select) -> NDArray[np.bool_]:
    """bool [P]: of each part, whether ``select`` asks for it."""
    if isinstance(select, frozenset):
        return np.array([extension in select for extension in index.extensions], bool)[index.part_ext]
    keys = index.keys.to_pylist()
    rows = np.repeat(np.arange(len(index)), np.diff(index.part_start)).tolist()
    extensions = map(index.extensions.__getitem__, index.part_ext.tolist())
    names = (f"{keys[row]}.{extension}" for row, extension in zip(rows, extensions, strict=True))
    return np.fromiter(map(bool, map(select, names)), bool, len(index.part_ext))
