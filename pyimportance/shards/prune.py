"""prune: removes generations that are no longer wanted, and the files that only they need."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pyimportance.checks import check_integer
from pyimportance.errors import ArgumentError
from pyimportance.shards.claims import claims_of
from pyimportance.shards.job import WORKER
from pyimportance.shards.manifest import read_manifest, read_pointer
from pyimportance.shards.shard_set import ShardSet

# Of a generation: in the root, and below a worker's directory its index, its notes, its tars and what was
# exported of them.
_OF_ALL = re.compile(r"wids-(\d{6,})\.json")
_OURS = re.compile(
    r"index-(\d{6,})\.arrow|job-(\d{6,})\.json"
    r"|g(\d{6,})-bin\d{2,}-\d{6,}\.(?:tar|tar\.zst|json|idx|tar\.idx)"
)


@dataclass(frozen=True)
class Pruned:
    """What `prune` removed (or would): numbers of generations, and files with their bytes in all."""

    generations: tuple[int, ...]
    files: int
    nbytes: int


def prune(
    shards: ShardSet, *, keep: Iterable[int] = (), abandon: Iterable[int] = (), dry_run: bool = False
) -> Pruned:
    """Removes all generations of these shards before the current one, but for those in ``keep``.

    keep     numbers of generations: those that the checkpoints of a training run name, for example
    abandon  numbers of generations that were begun, and will not be finished: what is there of them is
             removed too, and a job that is still at one cannot commit it
    dry_run  only say what would be removed

    Tars of older generations that a kept one names stay: a repartitioned set needs them, a compact one none.
    A manifest goes before the files it names, so that no generation is ever there in part; called again after
    an interruption, it finishes. Whoever reads a generation meanwhile finds its files gone. Numbers are not
    used again. Only files that have names of ours, in folders of workers, are removed, no links; and what an
    unfinished job wrote stays for it.
    In a store manifests and claims stay, without a byte and with a hundred: they keep the numbers taken. And
    there nobody but a job itself knows whether it is at work: one that was begun, from a generation that
    would be removed, has to be finished or named in ``abandon``. Jobs may begin and commit meanwhile: either
    they find the generation gone that they begin from, or they are seen.
    Raises ArgumentError for a number that is not there, DataError where a manifest that is kept is damaged,
    OutputError where a process is, or in a store may be, at work on a new generation, or something cannot be
    removed; all but the last before any file is.
    """
    root, claims = shards.root, claims_of(shards.root, "prune")
    with claims.pruning():
        current, _ = read_pointer(root)
        numbers = claims.numbers()
        given_up = {check_integer("abandon", g, 0) for g in abandon}
        kept = {check_integer("keep", g, 0) for g in keep} | {g for g in numbers.committed if g >= current}
        if missing := sorted(kept - set(numbers.committed)):
            raise ArgumentError(f"keep={missing[0]}: is no generation that is there ({numbers.committed})")
        if missing := sorted(given_up - set(numbers.unfinished)):
            raise ArgumentError(f"abandon={missing[0]}: is not unfinished; {numbers.unfinished} are")
        needed = _needed(root, kept)
        claims.check_idle(kept, given_up)
        gone = [g for g in numbers.committed if g not in kept]
        if not dry_run:
            for generation in sorted(given_up):
                claims.abandon(generation)
            for generation in gone:
                claims.retire(generation)
            # Who has begun since has either not found what is gone, or is seen now.
            claims.check_idle(kept, given_up)
            needed |= _needed(root, set(claims.numbers().committed) - kept)
        files = _of(claims.files(), {*gone, *given_up, *numbers.removed}, needed)
        if not dry_run:
            claims.remove(files)
    return Pruned(tuple(gone), len(files), sum(files.values()))


def _needed(root: str, generations: Iterable[int]) -> set[str]:
    """The tars that generations name, without what follows the first dot."""
    return {s.path.partition(".")[0] for g in generations for s in read_manifest(root, g)[0].shards}


def _of(files: Mapping[str, int], generations: set[int], needed: set[str]) -> dict[str, int]:
    """The files that are of these generations, but for tars that are needed and what was exported of them."""
    found = {}
    for path, nbytes in sorted(files.items()):
        folder, _, name = path.rpartition("/")
        if folder and not WORKER.fullmatch(folder):
            continue
        match = (_OURS if folder else _OF_ALL).fullmatch(name)
        if match is None or path.partition(".")[0] in needed:
            continue
        if int(match[match.lastindex or 0]) in generations:
            found[path] = nbytes
    return found
