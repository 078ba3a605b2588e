"""prune: removes generations that are no longer wanted, and the files that only they need."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from pyimportance.checks import check_integer
from pyimportance.errors import ArgumentError, OutputError
from pyimportance.io import atomic
from pyimportance.io.lock import HeldError, locked
from pyimportance.shards import claims
from pyimportance.shards.job import WORKER
from pyimportance.shards.manifest import manifest_name, read_manifest, read_pointer
from pyimportance.shards.shard_set import ShardSet

# Of a generation, below a worker's directory: its index, its notes, its tars and what was exported of them.
_OURS = re.compile(
    r"index-(?P<index>\d{6,})\.arrow|job-(?P<job>\d{6,})\.json"
    r"|(?P<stem>g(?P<tar>\d{6,})-bin\d{2,}-\d{6,})\.(tar|tar\.zst|json|idx|tar\.idx)"
)


@dataclass(frozen=True)
class Pruned:
    """What `prune` removed (or would): numbers of generations, and files with their bytes in all."""

    generations: tuple[int, ...]
    files: int
    nbytes: int


def prune(shards: ShardSet, *, keep: Iterable[int] = (), dry_run: bool = False) -> Pruned:
    """Removes all generations of these shards before the current one, but for those in ``keep``.

    keep     numbers of generations: those that the checkpoints of a training run name, for example
    dry_run  only say what would be removed

    Tars of older generations that a kept one names stay: a repartitioned set needs them, a compact one none.
    A manifest goes before the files it names, so that no generation is ever there in part; called again after
    an interruption, it finishes. Whoever reads a generation meanwhile finds its files gone. Numbers are not
    used again. Only files that have names of ours, in folders of workers, are removed, no links; and what an
    unfinished job wrote stays for it.
    Raises ArgumentError for a number that is not there, DataError where a manifest that is kept is damaged,
    OutputError where a process is at work on a new generation, or something cannot be removed; all but the
    last before anything is.
    """
    root = shards.root
    with claims.holding(root), ExitStack() as stack:
        current, _ = read_pointer(root)
        there = claims.committed(root)
        kept = {check_integer("keep", g, 0) for g in keep} | {g for g in there if g >= current}
        if missing := sorted(kept - set(there)):
            raise ArgumentError(f"keep={missing[0]}: is no generation that is there ({there})")
        shards_of_kept = (s for g in kept for s in read_manifest(root, g)[0].shards)
        needed = {s.path.partition(".")[0] for s in shards_of_kept}
        try:
            for generation in claims.unfinished(root):
                stack.enter_context(locked(os.path.join(root, claims.claim_name(generation))))
        except HeldError as e:
            raise OutputError(f"{e}: prune when it is done") from None
        gone = [g for g in there if g not in kept]
        files = list(_files(root, {*gone, *claims.pruned(root)}, needed))
        nbytes = sum(os.path.getsize(path) for path in files)
        if not dry_run:
            for generation in gone:
                _remove(os.path.join(root, claims.claim_name(generation)))  # else it would look unfinished
                atomic.sync_directory(root)
                _remove(os.path.join(root, manifest_name(generation)))
                atomic.sync_directory(root)
            for path in files:
                _remove(path)
    return Pruned(tuple(gone), len(files), nbytes)


def _files(root: str, generations: set[int], needed: set[str]) -> Iterator[str]:
    """What lies there of these generations, but for tars that are needed and what was exported of them."""
    for path in sorted(os.path.join(root, f"wids-{g:06d}.json") for g in generations):
        if os.path.isfile(path) and not os.path.islink(path):
            yield path
    for directory in sorted(os.scandir(root), key=lambda e: e.name):
        if not WORKER.fullmatch(directory.name) or not directory.is_dir(follow_symlinks=False):
            continue
        for entry in sorted(os.scandir(directory.path), key=lambda e: e.name):
            match = _OURS.fullmatch(entry.name)
            if match is None or not entry.is_file(follow_symlinks=False):
                continue
            of_tar = match["stem"] is not None and f"{directory.name}/{match['stem']}" in needed
            if int(match["index"] or match["job"] or match["tar"]) in generations and not of_tar:
                yield entry.path


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as e:
        raise OutputError(f"{path}: cannot be removed ({e.strerror})") from e
