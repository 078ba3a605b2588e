"""Generations of a set in a folder: numbers are held by locks, which end with the process.

A claim is written while the root's job.json is held, as manifests are, and held itself (shared) by every
process at work on that generation. A number whose job is not committed and has no process at work may be
taken over; what it left is removed then, and its own commit refused.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from pyimportance.errors import OutputError
from pyimportance.io import atomic
from pyimportance.io.lock import HeldError, locked
from pyimportance.io.meter import Meter
from pyimportance.io.storage import open_file, read_whole
from pyimportance.shards.claims import MANIFEST, Claims, Finished, claim_name
from pyimportance.shards.job import JOB, WORKER, own_directory
from pyimportance.shards.journal import Journal, encode, parse
from pyimportance.shards.manifest import POINTER, manifest_name, path_in, read_manifest


class FolderClaims(Claims):
    """See `Claims`."""

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Holds the root, waiting for others; removes manifests that a commit left half-written.

        Whoever writes a manifest holds the root, so that what lies half-written now is a dead process's.
        """
        with locked(os.path.join(self.root, JOB), wait=True):
            for name in os.listdir(self.root):
                target = atomic.temporary_of(name)
                if target is not None and (target == POINTER or MANIFEST.fullmatch(target)):
                    self.remove([name])
            yield

    @contextmanager
    def claim(self, parent: int, job: str) -> Iterator[tuple[int, bool]]:
        with ExitStack() as stack:
            with self.committing():
                generation, committed = self._own(parent, job)
                if generation is None:
                    generation = self._take_free(parent, job)
                if not committed:
                    path = os.path.join(self.root, claim_name(generation))
                    stack.enter_context(locked(path, shared=True))
            yield generation, committed

    @contextmanager
    def claim_delta(self, worker: int, generation: int, job: str) -> Iterator[Journal]:
        """Holds the worker's part. Raises OutputError if another process is at it."""
        directory = own_directory(self.root, worker)
        with locked(os.path.join(directory, _job_name(generation))) as file:
            for name in os.listdir(directory):
                target = atomic.temporary_of(name)
                if target is not None and _of_generation(generation).fullmatch(target):
                    self.remove([os.path.join(directory, name)])
            journal = Journal(file)
            if journal.head is None or journal.head["job"] != job:
                journal.begin({"job": job})
            yield journal

    def sizes(self, paths: Iterable[str]) -> list[int]:
        def size(path: str) -> int:
            with open_file(path_in(self.root, path)) as file:
                return file.size

        return list(map(size, paths))

    def finished(self, generation: int, paths: Sequence[str], meter: Meter | None) -> list[Finished]:
        noted: dict[str, tuple[int, int]] = {}
        for folder in dict.fromkeys(map(os.path.dirname, paths)):
            name = f"{folder}/{_job_name(generation)}"
            noted |= parse(read_whole(path_in(self.root, name), meter, "index"))[1]
        return [noted.get(path) for path in paths]

    def names(self) -> dict[str, int]:
        return _files_in(self.root)

    @contextmanager
    def pruning(self) -> Iterator[None]:
        with self.committing(), ExitStack() as stack:
            try:
                for generation in self.numbers().unfinished:
                    stack.enter_context(locked(os.path.join(self.root, claim_name(generation))))
            except HeldError as e:
                raise OutputError(f"{e}: prune when it is done") from None
            yield

    def check_idle(self, kept: Collection[int], given_up: Collection[int]) -> None:
        """Nothing: `pruning` holds what anybody could be at."""

    def files(self) -> dict[str, int]:
        found = _files_in(self.root)
        for entry in os.scandir(self.root):
            if WORKER.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                found |= {f"{entry.name}/{name}": size for name, size in _files_in(entry.path).items()}
        return found

    def retire(self, generation: int) -> None:
        for name in (claim_name(generation), manifest_name(generation)):  # else it would look unfinished
            self.remove([name])
            atomic.sync_directory(self.root)

    def abandon(self, generation: int) -> None:
        self.remove([claim_name(generation)])

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            path = os.path.join(self.root, name)
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
            except OSError as e:
                raise OutputError(f"{path}: cannot be removed ({e.strerror})") from e

    def _own(self, parent: int, job: str) -> tuple[int | None, bool]:
        """This job's number after ``parent``, if it has one, and whether it is committed."""
        numbers = self.numbers()
        for generation in numbers.committed:
            if generation > parent and read_manifest(self.root, generation)[0].job == job:
                return generation, True
        for generation in numbers.unfinished:
            if generation > parent and self.claimant(generation) == job:
                return generation, False
        return None, False

    def _take_free(self, parent: int, job: str) -> int:
        """The first number after ``parent`` that nobody committed nor is working on; now the job's."""
        numbers = self.numbers()
        taken = {*numbers.committed, *numbers.removed}
        for generation in itertools.count(parent + 1):
            if generation in taken:
                continue
            with suppress(HeldError), locked(os.path.join(self.root, claim_name(generation))) as file:
                self._remove_leftovers(generation)
                file.write(encode({"job": job}))
                return generation
        raise AssertionError("numbers do not end")

    def _remove_leftovers(self, generation: int) -> None:
        """Removes what an interrupted job wrote of a generation that no manifest names, for any worker."""
        ours = _of_generation(generation)
        for name in self.files():
            folder, _, inside = name.rpartition("/")
            if folder and ours.fullmatch(atomic.temporary_of(inside) or inside):
                self.remove([name])


def _files_in(folder: str) -> dict[str, int]:
    """Names of files, no links, and their bytes; others may be at work there."""
    found = {}
    for entry in os.scandir(folder):
        with suppress(FileNotFoundError):  # a temporary name, that has become another
            if entry.is_file(follow_symlinks=False):
                found[entry.name] = entry.stat(follow_symlinks=False).st_size
    return found


def _job_name(generation: int) -> str:
    """The notes of a job, below a worker's directory."""
    return f"job-{generation:06d}.json"


def _of_generation(generation: int) -> re.Pattern[str]:
    g = f"{generation:06d}"
    return re.compile(rf"index-{g}\.arrow|job-{g}\.json|g{g}-bin\d{{2,}}-\d{{6,}}\.tar(\.zst)?")
