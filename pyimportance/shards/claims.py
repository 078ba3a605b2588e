"""Who writes which generation: every job has a number of its own, and keeps it until it is committed.

``claim-000001.json`` in the root says whose generation 1 is. It is written while the root's job.json is held,
as manifests are, and held itself (shared) by every process at work on that generation. A number whose job is
not committed and has no process at work may be taken over; what it left is removed then, and its own commit
refused.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from pyimportance.errors import OutputError
from pyimportance.io import atomic
from pyimportance.io.lock import HeldError, locked
from pyimportance.io.storage import read_whole
from pyimportance.shards.job import JOB, WORKER, own_directory
from pyimportance.shards.journal import Journal, encode, parse
from pyimportance.shards.manifest import POINTER, local, read_manifest

_CLAIM = re.compile(r"claim-(\d{6,})\.json")
_MANIFEST = re.compile(r"manifest-(\d{6,})\.json")


@contextmanager
def holding(root: str) -> Iterator[None]:
    """Holds the root, waiting for others; removes manifests that a commit left half-written.

    Whoever writes a manifest holds the root, so that what lies half-written now is a dead process's.
    """
    with locked(os.path.join(local(root, "a new generation or its removal"), JOB), wait=True):
        for name in os.listdir(root):
            target = atomic.temporary_of(name)
            if target is not None and (target == POINTER or _MANIFEST.fullmatch(target)):
                _remove(os.path.join(root, name))
        yield


@contextmanager
def claim_generation(root: str, parent: int, job: str) -> Iterator[tuple[int, bool]]:
    """Yields (the number of this job's generation, whether it is committed); others keep off meanwhile."""
    with ExitStack() as stack:
        with holding(root):
            generation, committed = _own(root, parent, job)
            if generation is None:
                generation = _take_free(root, parent, job)
            if not committed:
                stack.enter_context(locked(os.path.join(root, claim_name(generation)), shared=True))
        yield generation, committed


def claimant(root: str, generation: int) -> str | None:
    """The job whose generation it is."""
    path = os.path.join(root, claim_name(generation))
    if not os.path.isfile(path):
        return None
    head, _, _ = parse(read_whole(path, None, "index"))
    return None if head is None else str(head["job"])


@contextmanager
def claim_delta(root: str, worker: int, generation: int, job: str) -> Iterator[Journal]:
    """Holds a worker's part of a claimed generation while the block runs; yields the job's notes.

    Raises OutputError if another process is at it.
    """
    directory = own_directory(root, worker)
    with locked(os.path.join(directory, delta_job_name(generation))) as file:
        for name in os.listdir(directory):
            target = atomic.temporary_of(name)
            if target is not None and _of_generation(generation).fullmatch(target):
                _remove(os.path.join(directory, name))
        journal = Journal(file)
        if journal.head is None or journal.head["job"] != job:
            journal.begin({"job": job})
        yield journal


def committed(root: str) -> list[int]:
    """The numbers of the generations that are complete, ascending."""
    return _numbers(root, _MANIFEST)


def unfinished(root: str) -> list[int]:
    """The numbers that jobs took, and have not committed."""
    return sorted(set(_numbers(root, _CLAIM)) - set(committed(root)))


def pruned(root: str) -> list[int]:
    """The numbers that were committed once: whoever took a later one found them taken. Nobody may have them
    again, for files of theirs may be in use by later generations.
    """
    there = set(_numbers(root, _MANIFEST)) | set(_numbers(root, _CLAIM))
    return sorted(set(range(max(committed(root), default=0))) - there)


def claim_name(generation: int) -> str:
    return f"claim-{generation:06d}.json"


def delta_job_name(generation: int) -> str:
    """Below a worker's directory."""
    return f"job-{generation:06d}.json"


def _own(root: str, parent: int, job: str) -> tuple[int | None, bool]:
    """This job's number after ``parent``, if it has one, and whether it is committed."""
    for generation in committed(root):
        if generation > parent and read_manifest(root, generation)[0].job == job:
            return generation, True
    for generation in unfinished(root):
        if generation > parent and claimant(root, generation) == job:
            return generation, False
    return None, False


def _numbers(root: str, pattern: re.Pattern[str]) -> list[int]:
    return sorted(int(m[1]) for n in os.listdir(root) if (m := pattern.fullmatch(n)))


def _take_free(root: str, parent: int, job: str) -> int:
    """The first number after ``parent`` that nobody committed nor is working on; now the job's."""
    taken = {*committed(root), *pruned(root)}
    for generation in itertools.count(parent + 1):
        if generation in taken:
            continue
        with suppress(HeldError), locked(os.path.join(root, claim_name(generation))) as file:
            _remove_leftovers(root, generation)
            file.write(encode({"job": job}))
            return generation
    raise AssertionError("numbers do not end")


def _remove_leftovers(root: str, generation: int) -> None:
    """Removes what an interrupted job wrote of a generation that no manifest names, for whatever worker."""
    ours = _of_generation(generation)
    for directory in os.scandir(root):
        if not WORKER.fullmatch(directory.name) or not directory.is_dir(follow_symlinks=False):
            continue
        for entry in os.scandir(directory.path):
            if ours.fullmatch(atomic.temporary_of(entry.name) or entry.name):
                _remove(entry.path)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError as e:
        raise OutputError(f"{path}: cannot be removed ({e.strerror})") from e


def _of_generation(generation: int) -> re.Pattern[str]:
    g = f"{generation:06d}"
    return re.compile(rf"index-{g}\.arrow|job-{g}\.json|g{g}-bin\d{{2,}}-\d{{6,}}\.tar(\.zst)?")
