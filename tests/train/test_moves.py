"""What ranks read and tell of indexes: to the byte, on real ranks, beside what reading all of them costs."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyimportance import (
    Controller,
    ImportanceDataset,
    Schedule,
    Scores,
    ShardSet,
    Tracker,
    index,
    partition,
    write_shards,
)
from pyimportance.io.meter import TIERS
from pyimportance.shards.combine import concatenate, keep
from pyimportance.shards.delta import DeltaRecord
from pyimportance.shards.generations import write_delta
from pyimportance.shards.offers import leaving, pack
from pyimportance.train import controller as module

N, INDEX = 600, TIERS.index("index")


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., ShardSet]:
    """Shards of some of N samples, divided at random."""

    def make(workers: int, ids: np.ndarray) -> ShardSet:
        with tarfile.open(tmp_path / "source.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for i in range(N):
                member = tarfile.TarInfo(f"{i:04d}.txt")
                member.size = i
                tar.addfile(member, io.BytesIO(bytes(i)))
        start = partition(Scores(np.zeros(len(ids), np.float32), ids), workers, policy="random")
        return write_shards(index(tmp_path / "source.tar"), start, tmp_path / "shards")

    return make


def tree(root: Path) -> dict[str, str]:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()[:16] for p in files}


def size_of(root: Path, *names: str) -> int:
    return sum((root / name).stat().st_size for name in names)


def told(old: ShardSet, new: Any, home: list[range], rank: int) -> int:
    """Bytes of the rows that the other ranks send one, where ``new`` says who owns what."""
    mine, total = home[rank], 0
    for other, workers in enumerate(home):
        if other != rank and len(workers):
            leaves = concatenate([leaving(old.index(w), new, w) for w in workers])
            total += len(pack(old, keep(leaves, np.isin(new.worker_of(leaves.ids), mine))))
    return total


EVERY = np.arange(N)


@pytest.mark.parametrize(
    "case",
    [
        (2, [range(1), range(1, 2)], EVERY),
        (4, [range(w, w + 1) for w in range(4)], EVERY),
        (2, [range(2), range(2, 4)], EVERY[EVERY % 3 > 0]),  # two workers a rank; a third is pruned
        (4, [range(1), range(0), range(1, 2), range(0)], EVERY),  # two ranks a worker: the first is in charge
    ],
    ids=["2", "4", "2 of 2 workers", "4 of half a worker"],
)
def test_ranks_read_their_own_indexes_and_are_told_of_others(
    make: Callable[..., ShardSet],
    run_ranks: Callable[..., list[Any]],
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[int, list[range], np.ndarray],
) -> None:
    ranks, home, ids = case
    workers = home[-1].stop or home[-2].stop
    shards = make(workers, ids)
    root = Path(shards.root)
    copy = shutil.copytree(root, root.parent / "copy")
    settings = {"num_samples": N, "policy": "stripes"}
    outcomes = run_ranks("ranks_controller.py", ranks, str(root), "runs", settings)
    generations = [ShardSet.open(root, generation=g) for g in range(3)]
    sizes = [[info.nbytes for info in g.manifest.indexes] for g in generations]
    pointer, manifests = size_of(root, "manifest.json"), [f"manifest-00000{g}.json" for g in range(3)]
    read = [w if len(w) else home[r - 1] for r, w in enumerate(home)]  # who shares a worker reads it too
    for rank, outcome in enumerate(outcomes):
        dataset, controller = (np.array(counts)[INDEX, 0] for counts in outcome["parts"])
        assert dataset == sum(sizes[g][w] for g in range(3) for w in read[rank])  # once each
        own = sum(shards.manifest.indexes[w].samples for w in home[rank])
        expected = 16 * (len(ids) - own)  # who holds what, told once: ids and sizes
        for old, new in pairwise(generations):
            expected += told(old, new, home, rank) + pointer + size_of(root, manifests[new.generation])
            if rank == 0:  # it commits
                notes = [f"worker-{w:03d}/job-{new.generation:06d}.json" for w in range(workers)]
                expected += pointer + size_of(root, manifests[new.generation], *notes)
        assert controller == expected
        # Reading everybody's: at the start, and for each worker's delta.
        before = sum(sizes[0]) + len(home[rank]) * (sum(sizes[0]) + sum(sizes[1]))
        assert controller < 0.3 * before
    assert generations[1].shards != generations[0].shards
    monkeypatch.setattr(module, "write_deltas", by_reading)
    train_alone(copy, ids)
    assert tree(copy) == tree(root)


def by_reading(old: ShardSet, plan: Any, *_: Any) -> list[DeltaRecord]:
    """All deltas by a process that is told nothing, and reads all indexes."""
    return [write_delta(old, plan, worker) for worker in range(plan.workers)]


def train_alone(root: Path, ids: np.ndarray) -> None:
    """What ranks_controller.py does, in one process."""
    dataset = ImportanceDataset(root, rank=0, world_size=1)
    controller = Controller(Tracker(N), dataset, Schedule(warmup=2, interval=2, total=7), policy="stripes")
    for _ in range(7):
        logits = np.stack([np.zeros(len(ids)), ids * 7 % 101 + 1], 1).astype(np.float32)
        controller.observe(ids, logits, np.zeros(len(ids), np.int64))
        controller.end_epoch()
