"""Generations of a set in a store, where nobody knows who else is at work: every name is written once.

    claim-N.json     created by the job that has number N, once and for all: it says the job, and the number
                     it was begun from. Another job takes another number, so that no two write to one name
    manifest-N.json  created by N's job, which commits it; or, empty, by who gives N up or removes it

Creating is one conditional request (If-None-Match), of which the store lets one through. So a commit and the
decision that there will be none exclude each other, whoever dies in between. Twins of a job write the same
bytes: that they do at once does no harm.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from pyimportance.errors import DataError, OutputError
from pyimportance.io import upload, urls
from pyimportance.io.meter import Meter
from pyimportance.shards.claims import Claims, Finished, Numbers, claim_name
from pyimportance.shards.journal import encode
from pyimportance.shards.manifest import manifest_name, worker_directory
from pyimportance.shards.store_job import StoreJournal

_AT_ONCE: Final = 16  # objects whose notes are asked for


class StoreClaims(Claims):
    """See `Claims`."""

    @contextmanager
    def claim(self, parent: int, job: str) -> Iterator[tuple[int, bool]]:
        """Numbers are never taken over: what a job left that is not begun again is for `prune` to remove."""
        claim = encode({"job": job, "parent": parent})
        while True:
            numbers = self.numbers()
            generation = self._own(numbers, parent, job)
            if generation is None:
                generation = max(parent, numbers.highest) + 1
                if not upload.create(urls.join(self.root, claim_name(generation)), claim):
                    continue  # another's, or a twin's
                # A prune that does not see the claim has removed the parent before: one sees the other.
                if parent not in self.numbers().committed:
                    self.abandon(generation)
                    path = urls.join(self.root, manifest_name(parent))
                    raise DataError("was removed meanwhile, by a prune", path=urls.public(path))
            break
        yield generation, generation in numbers.committed

    @contextmanager
    def claim_delta(self, worker: int, generation: int, job: str) -> Iterator[StoreJournal]:
        folder = worker_directory(worker)
        there = upload.below(urls.join(self.root, folder))
        yield StoreJournal(self.root, {f"{folder}/{name}": nbytes for name, nbytes in there.items()})

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Holds nothing: a commit is one request."""
        yield

    def sizes(self, paths: Iterable[str]) -> list[int]:
        there = upload.below(self.root)
        for path in (paths := list(paths)):
            if path not in there:
                raise DataError("does not exist", path=urls.public(urls.join(self.root, path)))
        return [there[path] for path in paths]

    def finished(self, generation: int, paths: Sequence[str], meter: Meter | None) -> list[Finished]:
        """As the objects' own notes say; these are not counted."""
        journal = StoreJournal(self.root, dict(zip(paths, self.sizes(paths), strict=True)))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(journal.finished, paths))

    def names(self) -> dict[str, int]:
        return upload.inside(self.root)

    @contextmanager
    def pruning(self) -> Iterator[None]:
        """Holds nothing, see `check_idle`."""
        yield

    def check_idle(self, kept: Collection[int], given_up: Collection[int]) -> None:
        """An unfinished generation counts as being written: only its job knows."""
        for generation in sorted({*self.numbers().unfinished} - {*given_up}):
            if (self.head(generation) or {}).get("parent") not in kept:
                raise OutputError(
                    f"{urls.public(self.root)}: generation {generation} is unfinished, and made from one "
                    f"that would be removed; prune when it is done, or give it up (abandon=[{generation}])"
                )

    def files(self) -> dict[str, int]:
        return upload.below(self.root)

    def retire(self, generation: int) -> None:
        upload.put(urls.join(self.root, manifest_name(generation)), b"")

    def abandon(self, generation: int) -> None:
        """Raises OutputError if it was committed meanwhile."""
        path = urls.join(self.root, manifest_name(generation))
        if not upload.create(path, b"") and self.names()[manifest_name(generation)]:
            raise OutputError(f"{urls.public(path)}: was committed meanwhile")

    def remove(self, names: Iterable[str]) -> None:
        upload.delete([urls.join(self.root, name) for name in names])

    def _own(self, numbers: Numbers, parent: int, job: str) -> int | None:
        """This job's number after ``parent``, if it has one that was not removed."""
        for generation in (*numbers.committed, *numbers.unfinished):
            if generation > parent and self.claimant(generation) == job:
                return generation
        return None
