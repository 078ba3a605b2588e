"""One writer at a time, and only where nothing lies but its own unfinished work."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from pyimportance.errors import DataError, OutputError
from pyimportance.io import atomic, urls
from pyimportance.io.lock import locked
from pyimportance.io.storage import File, exists, open_file
from pyimportance.shards.journal import FORMAT, Journal
from pyimportance.shards.manifest import (
    POINTER,
    is_committed,
    manifest_name,
    read_manifest,
    worker_directory,
)

if TYPE_CHECKING:
    from pyimportance.order.values import Partition
    from pyimportance.shards.sample_index import SampleIndex

Versions: TypeAlias = "Mapping[str, int | str | None]"
JOB: Final = "job.json"
_AT_ONCE: Final = 16  # tars whose version is asked for
WORKER: Final = re.compile(r"worker-\d{3,}")
INSIDE: Final = re.compile(r"index-000000\.arrow|g000000-bin\d{2,}-\d{6,}\.tar(\.zst)?")


def digest(partition: Partition, **options: Any) -> str:
    """SHA-256 of all that decides the bytes of a run: the partition, and JSON-like options."""
    state = hashlib.sha256()
    fields = {
        "format": [FORMAT, 1],
        "workers": partition.workers,
        "bins": partition.bins,
        "measure": partition.measure,
        "descending": partition.descending,
        "policy": partition.policy,
        "seed": partition.seed,
        **options,
    }
    state.update(json.dumps(fields, sort_keys=True).encode() + b"\0")
    for array in (partition.order, partition.offsets, partition.values):
        state.update(b"none" if array is None else array.tobytes())
    return state.hexdigest()


def versions_of(index: SampleIndex, files: Sequence[File] = ()) -> dict[str, int | str | None]:
    """The version of each tar of a source, see `File`; a tar that is not there is left out.

    files  the tars, if they are open
    """
    if not files:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = pool.map(_version_of, index.files)
            return {name: v for name, v in zip(index.relative_files, found, strict=True) if v is not None}
    return {name: file.version for name, file in zip(index.relative_files, files, strict=True)}


def _version_of(path: str) -> int | str | None:
    with suppress(DataError), open_file(path) as file:
        return file.version
    return None


@contextmanager
def claim(out: str, job: str, versions: Versions, workers: int, resume: bool) -> Iterator[Journal | None]:
    """Makes ``out`` this job's own while the block runs; yields its notes, None if the job is finished.

    ``versions`` are those of the source's tars: a digest tells names and sizes apart, not contents.
    Raises OutputError, with nothing touched, if ``out`` holds anything else: other files, another job's
    shards, this job's from tars that were changed since, with ``resume=False`` any shards, or work of a
    process that is still at it. What a job left that ended before its first shard is nobody's work.
    """
    check_directory(out)
    atomic.make_directory(out)
    with locked(os.path.join(out, JOB)) as file:
        journal = Journal(file)
        is_new = _enter(journal, out, job, versions)
        if not is_new and not resume:
            raise OutputError(f"{out}: holds shards already, and resume is False")
        finished = is_finished(out)
        if finished:
            check_finished(out, job)
        else:
            _check_contents(out, workers)
        yield None if finished else journal


def check_directory(out: str) -> None:
    """Raises OutputError if ``out`` is neither empty nor a directory of shards, or cannot be made."""
    if os.path.exists(out) and not os.path.isdir(out):
        raise OutputError(f"{out}: is a file; give a directory")
    if os.path.isdir(out) and (entries := sorted(os.listdir(out))) and JOB not in entries:
        raise OutputError(f"{out}: holds something else ({entries[0]!r}); give an empty or new directory")
    atomic.check_makable(out)


def is_finished(out: str) -> bool:
    """Whether a first generation is complete there."""
    return exists(urls.join(out, POINTER))


def _enter(journal: Journal, out: str, job: str, versions: Versions) -> bool:
    """Writes the job down where nothing is; True if so. Raises OutputError if another job is there."""
    if journal.head is None:
        others = sorted(set(os.listdir(out)) - {JOB})
        if others:
            raise OutputError(f"{out}: {JOB} is damaged, and other files are there ({others[0]!r})")
    if journal.head is None or (not journal.has_finished and _clear(out)):
        journal.begin({"job": job, "changed": dict(versions)})
        return True
    check_head(out, journal.head, job, versions, finished=is_finished(out))
    return False


def check_head(
    out: str, head: Mapping[str, Any] | None, job: str, versions: Versions, *, finished: bool
) -> None:
    """Raises OutputError if what is in ``out`` is not this job's, or was made from an earlier state."""
    if head is None:
        raise OutputError(f"{out}: {JOB} is damaged")
    if head["job"] != job:
        shards = "the shards" if finished else "unfinished shards"
        raise OutputError(
            f"{out}: holds {shards} of another job (other data, partition or options); "
            "give an empty or new directory"
        )
    known = head.get("changed")
    known = known if isinstance(known, dict) else {}
    for name, version in versions.items():
        if known.get(name, version) != version:
            raise OutputError(
                f"{out}: holds shards made from an earlier state of {name}, which was changed since; "
                "give an empty or new directory"
            )


def check_finished(out: str, job: str) -> None:
    if not is_committed(out, 0):
        raise OutputError(f"{out}: holds later generations of these shards, and the first one was pruned")
    manifest, _ = read_manifest(out, 0)
    if manifest.job != job:
        raise DataError(f"field 'job' differs from {JOB}", path=urls.join(out, manifest_name(0)))


def _clear(out: str) -> bool:
    """Removes what a job left that ended before its first file: empty folders of workers, half-written files.

    False, with nothing touched, if anything else is there.
    """
    try:
        half, whole = _contents(out, WORKER.fullmatch)
    except OutputError:
        return False
    if whole != [os.path.join(out, JOB)]:
        return False
    for path in half:
        os.unlink(path)
    for entry in os.scandir(out):
        if entry.is_dir(follow_symlinks=False):
            with suppress(OSError):  # somebody else's file came meanwhile: `_check_contents` tells
                os.rmdir(entry.path)
    return True


def _check_contents(out: str, workers: int) -> None:
    """Removes what a killed run left half-written. Raises OutputError before that if anything is not ours."""
    half, _ = _contents(out, {worker_directory(w) for w in range(workers)}.__contains__)
    for path in half:
        os.unlink(path)


def _contents(out: str, is_worker: Callable[[str], object]) -> tuple[list[str], list[str]]:
    """(half-written files, whole ones) of a first generation. Raises OutputError if anything is not ours."""
    half: list[str] = []
    whole: list[str] = []
    for entry in sorted(os.scandir(out), key=lambda e: e.name):
        if entry.is_dir(follow_symlinks=False) and is_worker(entry.name):
            for name in sorted(os.listdir(entry.path)):
                _sort_out(os.path.join(entry.path, name), INSIDE.fullmatch, half, whole)
        else:
            _sort_out(entry.path, {JOB, manifest_name(0), POINTER}.__contains__, half, whole)
    return half, whole


def _sort_out(path: str, is_ours: Callable[[str], object], half: list[str], whole: list[str]) -> None:
    name = os.path.basename(path)
    target = atomic.temporary_of(name)
    plain = os.path.isfile(path) and not os.path.islink(path)
    if not plain or not is_ours(target or name):
        raise OutputError(f"{path}: is no part of this job; give an empty or new directory")
    (whole if target is None else half).append(path)


def own_directory(root: str, worker: int) -> str:
    """A worker's directory, made if need be; a store has none. OutputError if a link stands in its place."""
    path = urls.join(root, worker_directory(worker))
    if urls.is_url(root):
        return path
    if os.path.islink(path):
        raise OutputError(f"{path}: is a link; shards are written below {root} only")
    atomic.make_directory(path)
    return path
