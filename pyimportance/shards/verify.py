"""verify: every byte of a generation against its manifest and its indexes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pyimportance import _C
from pyimportance.errors import ArgumentError, DataError
from pyimportance.io import urls
from pyimportance.io.frames import content_of
from pyimportance.io.meter import Meter
from pyimportance.io.storage import File, open_file
from pyimportance.shards.combine import of_file
from pyimportance.shards.index import index_of
from pyimportance.shards.listed import is_listed, payloads_not_listed, rows_not_there
from pyimportance.shards.manifest import ShardInfo
from pyimportance.shards.sample_index import SampleIndex
from pyimportance.shards.shard_set import ShardSet

_TOGETHER, _TOGETHER_BYTES = 32, 32 << 20  # that one call reads, so that threads seldom wait for each other
_PER_SHARD = 10  # problems listed of one shard; after so many the rest says nothing new


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be; ``member`` (or its key) and ``offset`` where they are known."""

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
    """Reads every shard of the generation, and compares size, CRC32C, headers and samples; payloads
    too, where the index has their checksums.

    threads  shards read at a time; None: as many as there are CPUs, at most 8
    meter    counts what was read, as "disk" and "index"
    progress called with (bytes of the tars done, of all of them)

    Finds problems rather than raising them; a damaged index is one.
    """
    shards = replace(shards)  # what others of this process have in use is not what lies on the disk
    problems: list[Problem] = []
    held: list[SampleIndex] = []
    begun: list[tuple[list[ShardInfo], Future[list[Problem]]]] = []
    threads = threads or min(8, os.cpu_count() or 1)
    done, nbytes = 0, sum(s.nbytes for s in shards.shards)
    together = min(_TOGETHER_BYTES, nbytes // (4 * threads))
    with ThreadPoolExecutor(threads) as pool:
        for worker in range(shards.workers):
            index = None
            try:
                index = shards.index(worker, meter)
                held.append(index)
            except DataError as e:
                problems.append(_problem(shards, e))
            own = [s for s in shards.shards if s.worker == worker]
            for numbers in _runs(own, together):
                some = [own[n] for n in numbers]
                begun.append((some, pool.submit(_verify_shards, shards, some, index, numbers, meter)))
        for some, found in begun:
            problems += found.result()
            for info in some:
                done += info.nbytes
                if progress is not None:
                    progress(done, nbytes)
    if len(held) == shards.workers:
        try:
            shards.worker_of(np.zeros(0, np.int64))  # finds samples that two workers hold
        except DataError as e:
            problems.append(_problem(shards, e))
    return VerifyReport(len(shards.shards), shards.num_samples, nbytes, tuple(problems))


def _runs(own: Sequence[ShardInfo], nbytes: int) -> Iterator[range]:
    """Numbers of shards that are verified by one call: of ``nbytes`` and _TOGETHER shards at most."""
    start = total = 0
    for number, info in enumerate(own):
        if number > start and (total + info.nbytes > nbytes or number - start == _TOGETHER):
            yield range(start, number)
            start, total = number, 0
        total += info.nbytes
    if own:
        yield range(start, len(own))


def _problem(shards: ShardSet, error: DataError) -> Problem:
    name = os.path.relpath(error.path, urls.public(shards.root))
    return Problem(name, error.problem, error.member, error.offset)


def _verify_shards(
    shards: ShardSet,
    infos: Sequence[ShardInfo],
    index: SampleIndex | None,
    numbers: Sequence[int],
    meter: Meter | None,
) -> list[Problem]:
    """What is wrong with some shards of a worker, whose ``index`` numbers them so."""
    problems: list[Problem] = []
    with ExitStack() as stack:
        try:
            opened = [_open(shards, info, stack, meter) for info in infos]
            read = _read(opened, index is not None and index.part_crc32c is not None)
        except DataError as e:
            if len(infos) == 1:
                return [_problem(shards, e)]
            for each in zip(infos, numbers, strict=True):
                problems += _verify_shards(shards, each[:1], index, each[1:], meter)
            return problems
        for info, number, (_, tar), found in zip(infos, numbers, opened, read, strict=True):
            problems += _problems_of(info, index, number, tar, found)
    return problems


def _open(shards: ShardSet, info: ShardInfo, stack: ExitStack, meter: Meter | None) -> tuple[File, File]:
    """(the file, the tar that it is or holds). Raises DataError, also where it has not its size."""
    file = stack.enter_context(open_file(shards.path_of(info.path), meter, "disk"))
    if file.size != info.nbytes:
        raise DataError(f"has {file.size} bytes; the manifest says {info.nbytes}", path=file.path)
    tar = stack.enter_context(content_of(file))
    if tar.size != info.content_bytes:
        problem = f"holds a tar of {tar.size} bytes; the manifest says {info.content_bytes}"
        raise DataError(problem, path=file.path)
    return file, tar


@dataclass(frozen=True)
class _Read:
    """The CRC32C of a file, and what native code found in the tar that it is or holds, or what is wrong there
    (problem, member, offset).
    """

    crc32c: int
    columns: Any
    wrong: tuple[str, str | None, int | None] | None


def _read(files: Sequence[tuple[File, File]], checksums: bool) -> list[_Read]:
    """Reads (file, tar) whole, ``checksums``: and sums each payload. Those that are plain, by one call."""
    if any(tar is not file for file, tar in files):
        return [
            _read_compressed(*each, checksums) if each[0] is not each[1] else _read([each], checksums)[0]
            for each in files
        ]
    found = []
    opened = [(file.handle, file.size, file.path) for file, _ in files]
    for (file, _), (crc32c, read, requests, columns, wrong) in zip(
        files, _C.tar_sum_and_scan(opened, checksums=checksums), strict=True
    ):
        file.charge(read, requests)
        found.append(_Read(crc32c, columns, wrong))
    return found


def _read_compressed(file: File, tar: File, checksums: bool) -> _Read:
    crc32c, read, requests = _C.crc32c_of_file(file.handle, file.size)
    file.charge(read, requests)
    try:
        opened = [(tar.handle, tar.size, tar.path)]
        ((_, read, requests, columns, wrong),) = _C.tar_sum_and_scan(opened, checksums=checksums)
    except DataError as e:  # a frame behind all headers
        return _Read(crc32c, None, (e.problem, e.member, e.offset))
    tar.charge(read, requests)
    return _Read(crc32c, columns, wrong)


def _problems_of(
    info: ShardInfo, index: SampleIndex | None, number: int, tar: File, read: _Read
) -> Iterator[Problem]:
    if read.crc32c != info.crc32c:
        yield Problem(info.path, f"has CRC32C {read.crc32c:#010x}; the manifest says {info.crc32c:#010x}")
    if read.wrong is not None:
        yield Problem(info.path, *read.wrong)
        return
    if (samples := len(read.columns["offset"])) != info.samples:
        yield Problem(info.path, f"holds {samples} samples; the manifest says {info.samples}")
    if index is not None and is_listed(index, number, tar, read.columns):  # nearly always
        return
    try:
        found = index_of([(info.path, tar)], read.columns)
    except ArgumentError as e:
        yield Problem(info.path, str(e))
        return
    if index is not None:
        yield from _compare(info.path, of_file(index, number), found)


def _compare(name: str, index: SampleIndex, found: SampleIndex) -> list[Problem]:
    """The samples of an index that a shard does not hold as the index says, and the payloads."""
    rows = rows_not_there(index, found)
    problems = [
        Problem(name, "the sample here is not as its index says", index.key(row), int(index.offset[row]))
        for row in rows[:_PER_SHARD]
    ]
    for row, part, crc32c in payloads_not_listed(index, found, rows):
        assert index.part_crc32c is not None
        member = f"{index.key(row)}.{index.extensions[index.part_ext[part]]}"
        says = f"has CRC32C {crc32c:#010x}; its index says {int(index.part_crc32c[part]):#010x}"
        problems.append(Problem(name, f"the payload here {says}", member, int(index.part_offset[part])))
    return problems[:_PER_SHARD]
