"""Who writes which generation: every job has a number of its own, and keeps it until it is committed.

``claim-000001.json`` in the root says whose generation 1 is; its manifest, that it is complete. A manifest
without a byte stands for a generation that was removed from a store, where names that are gone could be taken
again. folder_claims.py is all this in a folder, store_claims.py in a store.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from pyimportance.io import urls
from pyimportance.io.meter import Meter
from pyimportance.io.storage import exists, read_whole
from pyimportance.shards.journal import parse

if TYPE_CHECKING:
    from pyimportance.shards.journal import Journal
    from pyimportance.shards.store_job import StoreJournal

Finished: TypeAlias = "tuple[int, int] | None"
"""Bytes and CRC32C of what a job has finished."""

_CLAIM = re.compile(r"claim-(\d{6,})\.json")
MANIFEST = re.compile(r"manifest-(\d{6,})\.json")


@dataclass(frozen=True)
class Numbers:
    """Those of a set's generations, each ascending.

    committed   complete
    unfinished  taken by jobs that have not committed
    removed     committed or given up once: nobody may have them again, for files of theirs may be in use by
                later generations
    """

    committed: Sequence[int]
    unfinished: Sequence[int]
    removed: Sequence[int]

    @staticmethod
    def of(names: Mapping[str, int]) -> Numbers:
        """By the files that lie in the root, and their bytes."""
        manifests = {int(m[1]): names[m[0]] for m in map(MANIFEST.fullmatch, names) if m}
        claimed = {int(m[1]) for m in map(_CLAIM.fullmatch, names) if m}
        committed = sorted(g for g, nbytes in manifests.items() if nbytes)
        # Whoever took a later number found these taken.
        before = set(range(max(committed, default=0))) - manifests.keys() - claimed
        removed = before | {g for g, nbytes in manifests.items() if not nbytes}
        return Numbers(committed, sorted(claimed - manifests.keys()), sorted(removed))

    @property
    def highest(self) -> int:
        return max((*self.committed, *self.unfinished, *self.removed), default=0)


class Claims(ABC):
    """The numbers of the generations in ``root``. Get one from `claims_of`."""

    def __init__(self, root: str) -> None:
        self.root = root

    @abstractmethod
    def names(self) -> dict[str, int]:
        """The files in the root itself, and their bytes."""

    @abstractmethod
    def claim(self, parent: int, job: str) -> AbstractContextManager[tuple[int, bool]]:
        """Yields (the number of this job's generation after ``parent``, whether it is committed).

        Others keep off it while the block runs.
        """

    @abstractmethod
    def claim_delta(
        self, worker: int, generation: int, job: str
    ) -> AbstractContextManager[Journal | StoreJournal]:
        """Yields this job's notes of a worker's part of its generation, while the block runs."""

    @abstractmethod
    def committing(self) -> AbstractContextManager[None]:
        """Keeps off, where that can be, who would commit or prune while the block runs."""

    @abstractmethod
    def sizes(self, paths: Iterable[str]) -> list[int]:
        """Bytes of files below the root. Raises DataError for one that is not there."""

    @abstractmethod
    def finished(self, generation: int, paths: Sequence[str], meter: Meter | None) -> list[Finished]:
        """What the generation's job noted of files that it wrote."""

    @abstractmethod
    def pruning(self) -> AbstractContextManager[None]:
        """`committing`, for the removal of generations.

        Raises OutputError where a process is at work on one that is unfinished, if that can be known.
        """

    @abstractmethod
    def check_idle(self, kept: Collection[int], given_up: Collection[int]) -> None:
        """Raises OutputError if a job may be at work on what needs a generation that is not ``kept``, but for
        those that are ``given_up``.
        """

    @abstractmethod
    def files(self) -> dict[str, int]:
        """Files in the root and in the folders of workers, no links, and their bytes."""

    @abstractmethod
    def retire(self, generation: int) -> None:
        """Removes a generation: its manifest, before any file that it names."""

    @abstractmethod
    def abandon(self, generation: int) -> None:
        """Gives up an unfinished one: its job can commit no more."""

    @abstractmethod
    def remove(self, names: Iterable[str]) -> None:
        """Removes files; those that are gone already are fine. Raises OutputError."""

    def numbers(self) -> Numbers:
        return Numbers.of(self.names())

    def claimant(self, generation: int) -> str | None:
        """The job whose generation it is."""
        head = self.head(generation)
        return None if head is None else str(head["job"])

    def head(self, generation: int) -> dict[str, Any] | None:
        """What a claim says; None where there is none, or nothing that can be read."""
        path = urls.join(self.root, claim_name(generation))
        return parse(read_whole(path, None, "index"))[0] if exists(path) else None


def claims_of(root: str, what: str = "a new generation") -> Claims:
    """The claims in a folder or a store. ArgumentError for a web server: there ``what`` cannot be done."""
    if urls.is_url(root):
        from pyimportance.shards.store_claims import StoreClaims

        urls.check_takes_files(root, what)
        return StoreClaims(root)
    from pyimportance.shards.folder_claims import FolderClaims

    return FolderClaims(root)


def claim_name(generation: int) -> str:
    return f"claim-{generation:06d}.json"
