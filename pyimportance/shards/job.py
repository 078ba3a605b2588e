"""One writer at a time, and only where nothing lies but its own unfinished work."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from pyimportance.errors import DataError, OutputError
from pyimportance.io import atomic
from pyimportance.io.lock import LockedFile, locked
from pyimportance.shards.manifest import POINTER, manifest_name, read_manifest, worker_directory

if TYPE_CHECKING:
    from pyimportance.order.values import Partition

JOB: Final = "job.json"
_FORMAT: Final = "pyimportance-job"


def digest(partition: Partition, **options: Any) -> str:
    """SHA-256 of all that decides the bytes of a run: the partition, and JSON-like options."""
    state = hashlib.sha256()
    fields = {
        "format": [_FORMAT, 1],
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


@contextmanager
def claim(out: str, job: str, workers: int, resume: bool) -> Iterator[bool]:
    """Makes ``out`` this job's own while the block runs; yields whether it holds the finished job already.

    Raises OutputError, with nothing touched, if ``out`` holds anything else: other files, another job's
    shards, with ``resume=False`` any shards, or work of a process that is still at it.
    """
    if os.path.exists(out) and not os.path.isdir(out):
        raise OutputError(f"{out}: is a file; give a directory")
    if os.path.isdir(out) and (entries := sorted(os.listdir(out))) and JOB not in entries:
        raise OutputError(f"{out}: holds something else ({entries[0]!r}); give an empty or new directory")
    atomic.make_directory(out)
    with locked(os.path.join(out, JOB)) as file:
        is_new = _enter(file, out, job)
        if not is_new and not resume:
            raise OutputError(f"{out}: holds shards already, and resume is False")
        finished = os.path.exists(os.path.join(out, POINTER))
        if finished:
            _check_finished(out, job)
        else:
            _check_contents(out, workers)
        yield finished


def _enter(file: LockedFile, out: str, job: str) -> bool:
    """Writes the job down where nothing is; True if so. Raises OutputError if another job is there."""
    found = _job_in(file)
    if found == job:
        return False
    if found is not None:
        raise OutputError(f"{out}: holds the shards of another job (other data, partition or options)")
    others = sorted(set(os.listdir(out)) - {JOB})
    if others:
        raise OutputError(f"{out}: {JOB} is damaged, and other files are there ({others[0]!r})")
    file.write(encode_job(job))
    return True


def encode_job(job: str) -> bytes:
    return (json.dumps({"format": _FORMAT, "job": job}) + "\n").encode()


def _job_in(file: LockedFile) -> str | None:
    with suppress(ValueError):
        fields = json.loads(file.read())
        if isinstance(fields, dict) and fields.get("format") == _FORMAT:
            return str(fields.get("job"))
    return None


def _check_finished(out: str, job: str) -> None:
    manifest, _ = read_manifest(out, 0)
    if manifest.job != job:
        raise DataError(f"field 'job' differs from {JOB}", path=os.path.join(out, manifest_name(0)))


def _check_contents(out: str, workers: int) -> None:
    """Removes what a killed run left half-written. Raises OutputError before that if anything is not ours."""
    inside = re.compile(r"index-000000\.arrow|g000000-bin\d{2,}-\d{6,}\.tar")
    directories = {worker_directory(w) for w in range(workers)}
    half: list[str] = []
    for entry in sorted(os.scandir(out), key=lambda e: e.name):
        if entry.is_dir(follow_symlinks=False) and entry.name in directories:
            for name in sorted(os.listdir(entry.path)):
                _sort_out(os.path.join(entry.path, name), inside.fullmatch, half)
        else:
            _sort_out(entry.path, {JOB, manifest_name(0), POINTER}.__contains__, half)
    for path in half:
        os.unlink(path)


def _sort_out(path: str, is_ours: Any, half: list[str]) -> None:
    name = os.path.basename(path)
    target = atomic.temporary_of(name)
    plain = os.path.isfile(path) and not os.path.islink(path)
    if not plain or not is_ours(target or name):
        raise OutputError(f"{path}: is no part of this job; give an empty or new directory")
    if target is not None:
        half.append(path)


@contextmanager
def claim_delta(root: str, worker: int, generation: int, job: str) -> Iterator[None]:
    """Makes a worker's part of a generation that is not committed this job's own while the block runs.

    What an interrupted run of another job left of that generation is removed; no manifest names it.
    """
    directory = os.path.join(root, worker_directory(worker))
    atomic.make_directory(directory)
    with locked(os.path.join(directory, f"job-{generation:06d}.json")) as file:
        ours = re.compile(rf"index-{generation:06d}\.arrow|g{generation:06d}-bin\d{{2,}}-\d{{6,}}\.tar")
        same = _job_in(file) == job
        if not same:
            # Emptied first: were this process killed half-way, the next one must not trust what is left.
            file.write(b"")
        for name in os.listdir(directory):
            target = atomic.temporary_of(name)
            if ours.fullmatch(target or name) and (target is not None or not same):
                os.unlink(os.path.join(directory, name))
        if not same:
            file.write(encode_job(job))
        yield
