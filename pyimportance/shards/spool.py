"""spool: what can only be read in order -> plain tars in a directory, and their index.

The source is read once, a few of its units at a time, each from its start to its end. The directory is
itself a source: its tars, sorted by name, are the samples in order.

    spool/000000-train-00.tar               a tar as it was, decompressed
    spool/000001-train-01-000000.tar        samples as canonical tars, cut at shard_bytes
    spool/index.arrow                       the index; written last
    spool/job.json                          what it is a spool of, and what of it is finished

While a spool is written each unit has an index of its own (000000-train-00.arrow) once its tars are whole:
what has one is not read again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from pyimportance import _C
from pyimportance.checks import check_flag, check_integer
from pyimportance.errors import ArgumentError, DataError, OutputError
from pyimportance.io import atomic
from pyimportance.io.lock import locked
from pyimportance.io.meter import Meter
from pyimportance.shards import job
from pyimportance.shards import keys as key_buffers
from pyimportance.shards.combine import concatenate
from pyimportance.shards.index import Progress, scan_file
from pyimportance.shards.index_file import encode, read_index
from pyimportance.shards.journal import Journal
from pyimportance.shards.pack import write_tars
from pyimportance.shards.sample_index import SampleIndex
from pyimportance.shards.streams import tars
from pyimportance.shards.streams.recognise import recognise
from pyimportance.shards.streams.stream import Data, Samples, State, Stream, Tar, version_of

INDEX: Final = "index.arrow"
_OURS = re.compile(r"\d{6,}-[\w.-]*\.(tar|arrow)|index\.arrow")
_THREADS = 4  # units at a time


def spool(
    source: Data,
    directory: str | os.PathLike[str],
    *,
    shard_bytes: int = 256 << 20,
    allow_missing_eof: bool = False,
    meter: Meter | None = None,
    progress: Progress | None = None,
) -> SampleIndex:
    """Copies a source to plain tars in ``directory``, and indexes them: compressed tars, folders of files,
    Parquet, Hugging Face's datasets, MDS directories, iterables of samples, and tars as well (see `streams`).

    directory          new or empty, or with a spool of the same source: if finished, that is what is returned
    shard_bytes        size at which a tar of samples is full; tars of a source stay as they are
    allow_missing_eof  as in `index`
    meter              counts what is read of the source, as "origin"
    progress           called with (bytes of the source read, bytes of it in all; 0: unknown)

    Files appear whole or not at all, the index last; interrupted and started again it does not read again
    what is finished, and ends with the same bytes. A second process that is given the same waits for the
    first. A spool is taken for another source's where names, sizes or times of files differ, a dataset's
    fingerprint, or the first sample of an iterable: other data behind the same first sample cannot be told.
    A source that changes while it is read is a DataError.
    Memory: the index; for each of at most 4 units that are read at a time 16 MiB or two of the largest
    sample, and the reader's own (of zstd at most 256 MiB, of Parquet some 4 times a row group).
    Raises ArgumentError for what is no source, DataError naming file and place for one that is damaged,
    OutputError (no space; ``directory`` holds something else).
    """
    found = recognise(source)
    stream = found if isinstance(found, Stream) else tars.stream_of(found)
    return spool_stream(
        stream,
        directory,
        shard_bytes=shard_bytes,
        allow_missing_eof=allow_missing_eof,
        meter=meter,
        progress=progress,
    )


def spool_stream(
    stream: Stream,
    directory: str | os.PathLike[str],
    *,
    shard_bytes: int = 256 << 20,
    allow_missing_eof: bool = False,
    meter: Meter | None = None,
    progress: Progress | None = None,
) -> SampleIndex:
    """`spool`, for a source that was recognised already."""
    shard_bytes = check_integer("shard_bytes", shard_bytes, 1)
    check_flag("allow_missing_eof", allow_missing_eof)
    root = os.path.abspath(os.fspath(directory))
    if stream.folder is not None and _lies_in(root, stream.folder):
        raise ArgumentError(f"spool={root!r}: lies in {stream.what}, of which it would become a part")
    job.check_directory(root)
    states = [unit.state() for unit in stream.units]
    options = {"shard_bytes": shard_bytes, "allow_missing_eof": allow_missing_eof}
    digest = _digest(stream, states, options)
    atomic.make_directory(root)
    with locked(os.path.join(root, job.JOB), wait=True) as file:
        journal = Journal(file)
        _enter(journal, root, digest, stream.what)
        if not _is_whole(journal, root, INDEX):
            run = _Run(root, journal, _Counter(meter, progress, states), shard_bytes, allow_missing_eof)
            run.all_units(stream, states)
        _remove(root, lambda name: name.endswith(".arrow") and name != INDEX)
        journal.settle([INDEX])
        return _read(root, journal, INDEX)


def _lies_in(path: str, folder: str) -> bool:
    real, real_folder = os.path.realpath(path), os.path.realpath(folder)
    return os.path.commonpath([real, real_folder]) == real_folder


def _digest(stream: Stream, states: list[State], options: dict[str, Any]) -> str:
    fields = ["spool 1", version_of(stream, states), options]
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def remove_spool(directory: str) -> None:
    """Removes a spool, and the directory if nothing else is there."""
    with locked(os.path.join(directory, job.JOB)):
        _remove(directory, lambda name: True)
        os.unlink(os.path.join(directory, job.JOB))
    with suppress(OSError):
        os.rmdir(directory)


def _enter(journal: Journal, root: str, digest: str, what: str) -> None:
    """Makes ``root`` this job's own; what was half-written vanishes."""
    if journal.head is not None and journal.head["job"] == digest:
        _remove(root, lambda name: atomic.temporary_of(name) is not None)
        return
    if journal.head is not None and journal.has_finished:
        raise OutputError(
            f"{root}: holds a spool of {journal.head.get('source', 'something else')} in another state, or "
            f"by other options, than {what} is now; give an empty or new directory"
        )
    if journal.head is not None:
        _remove(root, lambda name: True)  # what a job left that ended before its first unit
    if others := sorted(set(os.listdir(root)) - {job.JOB}):
        raise OutputError(f"{root}: holds something else ({others[0]!r}); give an empty or new directory")
    journal.begin({"job": digest, "source": what})


def _remove(root: str, wanted: Callable[[str], bool]) -> None:
    for name in os.listdir(root):
        if _OURS.fullmatch(atomic.temporary_of(name) or name) and wanted(name):
            try:
                os.unlink(os.path.join(root, name))
            except OSError as e:
                raise OutputError(f"{os.path.join(root, name)}: cannot be removed ({e.strerror})") from e


def _is_whole(journal: Journal, root: str, name: str) -> bool:
    """Whether an index was finished, and is still there."""
    path = os.path.join(root, name)
    return os.path.isfile(path) and journal.crc32c(name, os.path.getsize(path)) is not None


def _read(root: str, journal: Journal, name: str) -> SampleIndex:
    """A finished index, files as absolute paths. Raises DataError if a tar of it is gone."""
    path = os.path.join(root, name)
    index = read_index(path, crc32c=journal.crc32c(name, os.path.getsize(path)))
    for file, nbytes in zip(index.files, index.file_bytes.tolist(), strict=True):
        if not _OURS.fullmatch(file):
            raise DataError(f"names {file!r}, which is no part of a spool", path=path)
        tar = os.path.join(root, file)
        if not os.path.isfile(tar) or os.path.getsize(tar) != nbytes:
            raise DataError(f"is gone or damaged; remove the spool {root}, and start again", path=tar)
    return replace(index, files=tuple(os.path.join(root, file) for file in index.files))


@dataclass
class _Run:
    """The work on a spool that is not finished."""

    root: str
    journal: Journal
    meter: _Counter
    shard_bytes: int
    allow_missing_eof: bool

    def all_units(self, stream: Stream, states: list[State]) -> None:
        work = list(zip(range(len(states)), stream.units, states, strict=True))
        with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
            try:
                done = list(pool.map(lambda w: self.unit(*w), work))
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        whole = concatenate(done)
        if whole.num_samples == 0:
            raise DataError("holds no samples (members named KEY.EXTENSION)", path=stream.what)
        whole = replace(whole, ids=np.arange(whole.num_samples, dtype=np.int64))
        self.write(INDEX, whole)

    def unit(self, number: int, unit: Samples | Tar, state: State) -> SampleIndex:
        """The unit's index, its tars relative to the root; kept from an interrupted run or made."""
        name = f"{number:06d}-{_plain(unit.name)}"
        if _is_whole(self.journal, self.root, f"{name}.arrow"):
            self.meter.skip(state.nbytes)
            index = _read(self.root, self.journal, f"{name}.arrow")
            return replace(index, files=tuple(map(os.path.basename, index.files)))
        _remove(self.root, lambda left: left.startswith(f"{number:06d}-"))  # by a run that did not finish it
        files = list(self.copy(name, unit) if isinstance(unit, Tar) else self.pack(name, unit))
        index = concatenate([self.scan(file, unit) for file in files])
        if isinstance(unit, Samples) and len(files) > 1:
            _check_keys(index, unit.where)
        if unit.state() != state:
            raise DataError("was changed while it was read", path=unit.where)
        self.write(f"{name}.arrow", index)
        return index

    def copy(self, name: str, unit: Tar) -> Iterator[str]:
        with atomic.writing(os.path.join(self.root, f"{name}.tar")) as out:
            for piece in unit.read(self.meter):
                out.write(piece)
        yield f"{name}.tar"

    def pack(self, name: str, unit: Samples) -> Iterator[str]:
        def path_of(number: int) -> str:
            return os.path.join(self.root, f"{name}-{number:06d}.tar")

        yield from map(
            os.path.basename, write_tars(unit.read(self.meter), path_of, self.shard_bytes, unit.where)
        )

    def scan(self, file: str, unit: Samples | Tar) -> SampleIndex:
        path = os.path.join(self.root, file)
        try:
            found = scan_file(path, self.allow_missing_eof)
        except DataError as e:
            os.unlink(path)  # it is what the source is, and no use to anybody
            raise DataError(e.problem, path=unit.where, member=e.member, offset=e.offset) from None
        return replace(found, files=(file,))

    def write(self, name: str, index: SampleIndex) -> None:
        data = encode(index)
        atomic.write_bytes(os.path.join(self.root, name), data)
        self.journal.add(name, len(data), _C.crc32c(data))


class _Counter(Meter):
    """Passes what is read on to the caller's meter, and tells how far the work is."""

    def __init__(self, meter: Meter | None, progress: Progress | None, states: list[State]) -> None:
        super().__init__()
        self._telling = threading.Lock()
        self._meter, self._progress = meter, progress
        self._total = sum(s.nbytes for s in states)

    def add(self, tier: str, nbytes: int, requests: int = 1) -> None:
        super().add(tier, nbytes, requests)
        if self._meter is not None:
            self._meter.add(tier, nbytes, requests)
        self.tell()

    def skip(self, nbytes: int) -> None:
        """Goes on behind what need not be read."""
        super().add("origin", nbytes, 0)
        self.tell()

    def tell(self) -> None:
        if self._progress is not None:
            with self._telling:
                self._progress(self.bytes("origin"), self._total)


def _check_keys(index: SampleIndex, where: str) -> None:
    i, j = _C.first_repeated_key(*key_buffers.to_buffers(index.keys))
    if j >= 0:
        raise DataError(f"samples {i} and {j} have this key", path=where, member=index.key(int(j)))


def _plain(name: str) -> str:
    """A unit's name as a part of a file's: short, and of ordinary characters."""
    return re.sub(r"[^\w.-]", "_", name)[:64] or "samples"
