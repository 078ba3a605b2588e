"""verify: every byte of a generation against its manifest and its indexes."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pyimportance import _C
from pyimportance.errors import ArgumentError, DataError
from pyimportance.io import urls
from pyimportance.io.frames import content_of
from pyimportance.io.meter import Meter
from pyimportance.io.storage import File, open_file
from pyimportance.shards.combine import of_file, parts_of
from pyimportance.shards.index import index_of
from pyimportance.shards.manifest import ShardInfo
from pyimportance.shards.sample_index import SampleIndex
from pyimportance.shards.shard_set import ShardSet

_PER_SHARD = 10  # problems listed of one shard; after so many the rest says nothing new


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be; ``member`` (a key) and ``offset`` where they are known."""

    file: str
    problem: str
    member: str | None = None
    offset: int | None = None

    def __str__(self) -> str:
        return str(DataError(self.problem, path=self.file, member=self.member, offset=self.offset))


@dataclass(frozen=True)
class VerifyReport:
    """What was looked at, and everything that is wrong with it."""

    shards: int
    samples: int
    nbytes: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        return not self.problems

    def __str__(self) -> str:
        seen = f"{self.shards} shards, {self.samples} samples, {self.nbytes} bytes"
        if self.ok:
            return f"{seen}: sound"
        return "\n".join([f"{seen}: {len(self.problems)} problems", *map(str, self.problems)])


def verify(
    shards: ShardSet,
    *,
    threads: int | None = None,
    meter: Meter | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Reads every shard of the generation, and compares size, CRC32C, headers and samples.

    threads  shards read at a time; None: as many as there are CPUs, at most 8
    meter    counts what was read, as "disk" and "index"
    progress called with (bytes of the tars done, of all of them)

    Finds problems rather than raising them; a damaged index is one.
    """
    shards = replace(shards)  # what others of this process have in use is not what lies on the disk
    problems: list[Problem] = []
    held: list[SampleIndex] = []
    done, nbytes = 0, sum(s.nbytes for s in shards.shards)
    with ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1)) as pool:
        for worker in range(shards.workers):
            index = None
            try:
                index = shards.index(worker, meter)
                held.append(index)
            except DataError as e:
                problems.append(_problem(shards, e))
            own = [s for s in shards.shards if s.worker == worker]
            verified = pool.map(partial(_verify_shard, shards, own, index, meter), range(len(own)))
            for info, found in zip(own, verified, strict=True):
                problems += found
                done += info.nbytes
                if progress is not None:
                    progress(done, nbytes)
    if len(held) == shards.workers:
        try:
            shards.worker_of(np.zeros(0, np.int64))  # finds samples that two workers hold
        except DataError as e:
            problems.append(_problem(shards, e))
    return VerifyReport(len(shards.shards), shards.num_samples, nbytes, tuple(problems))


def _problem(shards: ShardSet, error: DataError) -> Problem:
    name = os.path.relpath(error.path, urls.public(shards.root))
    return Problem(name, error.problem, error.member, error.offset)


def _verify_shard(
    shards: ShardSet, own: list[ShardInfo], index: SampleIndex | None, meter: Meter | None, number: int
) -> list[Problem]:
    info = own[number]
    try:
        path = shards.path_of(info.path)
        with open_file(path, meter, "disk") as file:
            if file.size != info.nbytes:
                return [Problem(info.path, f"has {file.size} bytes; the manifest says {info.nbytes}")]
            with content_of(file) as tar:
                if tar.size != info.content_bytes:
                    problem = f"holds a tar of {tar.size} bytes; the manifest says {info.content_bytes}"
                    return [Problem(info.path, problem)]
                crc32c, columns, wrong = _read(file, tar)
        found = None if columns is None else index_of(path, tar, columns)
    except DataError as e:
        return [_problem(shards, e)]
    except ArgumentError as e:
        return [Problem(info.path, str(e))]
    problems = []
    if crc32c != info.crc32c:
        problem = f"has CRC32C {crc32c:#010x}; the manifest says {info.crc32c:#010x}"
        problems.append(Problem(info.path, problem))
    if wrong is not None:
        problems.append(Problem(info.path, *wrong))
    if found is None:
        return problems
    if found.num_samples != info.samples:
        problem = f"holds {found.num_samples} samples; the manifest says {info.samples}"
        problems.append(Problem(info.path, problem))
    return problems + ([] if index is None else _compare(info.path, of_file(index, number), found))


def _read(file: File, tar: File) -> tuple[int, Any, tuple[str, str | None, int | None] | None]:
    """(CRC32C of ``file``, what native code found in ``tar``, which is it or in it, what is wrong there)"""
    if tar is file:
        crc32c, read, requests, columns, wrong = _C.tar_sum_and_scan(file.handle, file.size)
        file.charge(read, requests)
        return crc32c, columns, wrong
    crc32c, read, requests = _C.crc32c_of_file(file.handle, file.size)
    file.charge(read, requests)
    try:
        _, read, requests, columns, wrong = _C.tar_sum_and_scan(tar.handle, tar.size)
    except DataError as e:  # a frame behind all headers
        return crc32c, None, (e.problem, e.member, e.offset)
    tar.charge(read, requests)
    return crc32c, columns, wrong


def _compare(name: str, index: SampleIndex, found: SampleIndex) -> list[Problem]:
    """The samples of an index that a shard does not hold as the index says."""
    if _equal(index, found):  # nearly always, but for what moved away since
        return []
    own = np.flatnonzero(np.isin(index.offset, found.offset))
    rows = np.searchsorted(found.offset, index.offset[own])
    same = found.nbytes[rows] == index.nbytes[own]
    same &= np.asarray(pc.equal(found.keys.take(pa.array(rows)), index.keys.take(pa.array(own))))
    same &= np.diff(found.part_start)[rows] == np.diff(index.part_start)[own]
    own, rows = own[same], rows[same]
    sound = np.zeros(index.num_samples, bool)
    sound[own] = _same_parts(index, own, found, rows)
    return [
        Problem(name, "the sample here is not as its index says", index.key(row), int(index.offset[row]))
        for row in np.flatnonzero(~sound)[:_PER_SHARD].tolist()
    ]


def _equal(a: SampleIndex, b: SampleIndex) -> bool:
    columns = ("offset", "nbytes", "part_start", "part_offset", "part_size")
    if not all(np.array_equal(getattr(a, name), getattr(b, name)) for name in columns):
        return False
    return bool(a.keys.equals(b.keys)) and np.array_equal(_recoded(a, b), b.part_ext)


def _recoded(a: SampleIndex, b: SampleIndex) -> NDArray[np.int32]:
    """``a.part_ext`` by the extensions of ``b``; -1 where it has none such."""
    code = {extension: i for i, extension in enumerate(b.extensions)}
    return np.array([code.get(extension, -1) for extension in a.extensions], np.int32)[a.part_ext]


def _same_parts(
    a: SampleIndex, a_rows: NDArray[np.int64], b: SampleIndex, b_rows: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """bool [n]: whether samples with as many parts have the same ones (both list them in file order)."""
    start, p = parts_of(a, a_rows)
    _, q = parts_of(b, b_rows)
    equal = (_recoded(a, b)[p] == b.part_ext[q]) & (a.part_size[p] == b.part_size[q])
    equal &= a.part_offset[p] == b.part_offset[q]
    if a.frame is not None and b.frame is not None:
        equal &= np.repeat(a.frame[a_rows] == b.frame[b_rows], np.diff(start))
    wrong = np.concatenate([np.zeros(1, np.int64), np.cumsum(~equal)])
    same: NDArray[np.bool_] = wrong[start[1:]] == wrong[start[:-1]]
    return same
