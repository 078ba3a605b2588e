"""The files of a spool, and the work on one that is not finished; see spool.py."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from pyimportance import _C
from pyimportance.errors import DataError, OutputError
from pyimportance.io import atomic
from pyimportance.io.meter import Meter
from pyimportance.shards import keys as key_buffers
from pyimportance.shards.combine import concatenate
from pyimportance.shards.index import Progress, scan_copy
from pyimportance.shards.index_file import encode, read_index
from pyimportance.shards.journal import Journal
from pyimportance.shards.pack import write_tars
from pyimportance.shards.sample_index import SampleIndex
from pyimportance.shards.streams.stream import Samples, State, Stream, Tar

T = TypeVar("T")

INDEX: Final = "index.arrow"
_OURS = re.compile(r"\d{6,}-[\w.-]*\.(tar|arrow)|index\.arrow")
_THREADS = 4  # units at a time


def remove(root: str, wanted: Callable[[str], bool]) -> None:
    """Removes files of a spool, half-written ones too, whose names are ``wanted``."""
    for name in os.listdir(root):
        if _OURS.fullmatch(atomic.temporary_of(name) or name) and wanted(name):
            try:
                os.unlink(os.path.join(root, name))
            except OSError as e:
                raise OutputError(f"{os.path.join(root, name)}: cannot be removed ({e.strerror})") from e


def is_whole(journal: Journal, root: str, name: str) -> bool:
    """Whether an index was finished, and is still there."""
    path = os.path.join(root, name)
    return os.path.isfile(path) and journal.crc32c(name, os.path.getsize(path)) is not None


def read(root: str, journal: Journal, name: str) -> SampleIndex:
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
class Run:
    """The work on a spool that is not finished."""

    root: str
    journal: Journal
    meter: Counter
    shard_bytes: int
    allow_missing_eof: bool
    keep: bool = True  # the tars; otherwise each is removed once it is indexed
    failed: threading.Event = field(default_factory=threading.Event)

    def all_units(self, stream: Stream, states: list[State]) -> SampleIndex:
        """The index of all, its tars relative to the root."""
        work = list(zip(range(len(states)), stream.units, states, strict=True))
        with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
            try:
                done = list(pool.map(lambda w: self.unit(*w), work))
            except BaseException:
                self.failed.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        whole = concatenate(done, numbered=True)
        if whole.num_samples == 0:
            raise DataError("holds no samples (members named KEY.EXTENSION)", path=stream.what)
        self.write(INDEX, whole)
        return whole

    def unit(self, number: int, unit: Samples | Tar, state: State) -> SampleIndex:
        """The unit's index, its tars relative to the root; kept from an interrupted run or made."""
        name = f"{number:06d}-{_plain(unit.name)}"
        if is_whole(self.journal, self.root, f"{name}.arrow"):
            self.meter.skip(state.nbytes)
            index = read(self.root, self.journal, f"{name}.arrow")
            return replace(index, files=tuple(map(os.path.basename, index.files)))
        remove(self.root, lambda left: left.startswith(f"{number:06d}-"))  # by a run that did not finish it
        files = self.copy(name, unit) if isinstance(unit, Tar) else self.pack(name, unit)
        index = concatenate([self.scan(file, crc32c, unit) for file, crc32c in files])
        if isinstance(unit, Samples) and len(index.files) > 1:
            _check_keys(index, unit.where)
        if unit.state() != state:
            raise DataError("was changed while it was read", path=unit.where)
        self.write(f"{name}.arrow", index)
        return index

    def copy(self, name: str, unit: Tar) -> Iterator[tuple[str, int]]:
        crc32c = 0
        with atomic.writing(os.path.join(self.root, f"{name}.tar")) as out:
            for piece in self.unless_failed(unit.read(self.meter)):
                out.write(piece)
                crc32c = _C.crc32c(piece, crc32c)
        yield f"{name}.tar", crc32c

    def pack(self, name: str, unit: Samples) -> Iterator[tuple[str, int]]:
        def path_of(number: int) -> str:
            return os.path.join(self.root, f"{name}-{number:06d}.tar")

        samples = self.unless_failed(unit.read(self.meter))
        for path, crc32c in write_tars(samples, path_of, self.shard_bytes, unit.where):
            yield os.path.basename(path), crc32c

    def unless_failed(self, items: Iterator[T]) -> Iterator[T]:
        """``items``, until another unit fails or the caller is interrupted, so that nobody waits for long."""
        for item in items:
            if self.failed.is_set():
                raise _StoppedError
            yield item

    def scan(self, file: str, crc32c: int, unit: Samples | Tar) -> SampleIndex:
        """The samples of a tar that sums to what was written: what they sum to is compared when they are
        copied.
        """
        path = os.path.join(self.root, file)
        try:
            got, found = scan_copy(path, self.allow_missing_eof)
        except DataError as e:
            os.unlink(path)  # it is what the source is, and no use to anybody
            raise DataError(e.problem, path=unit.where, member=e.member, offset=e.offset) from None
        if got != crc32c:
            os.unlink(path)
            raise OutputError(f"{path}: has CRC32C {got:#010x}; {crc32c:#010x} was written to it")
        if not self.keep:
            os.unlink(path)
        return replace(found, files=(file,))

    def write(self, name: str, index: SampleIndex) -> None:
        data = encode(index)
        atomic.write_bytes(os.path.join(self.root, name), data)
        self.journal.add(name, len(data), _C.crc32c(data))


class _StoppedError(Exception):
    """Of a unit whose outcome nobody waits for any more."""


class Counter(Meter):
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
