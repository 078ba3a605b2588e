"""One rank of test_controller.py: a training loop whose losses are known, so that the partitions are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from torch import distributed as dist

from pyimportance import Controller, ImportanceDataset, PyimportanceError, Schedule, ShardSet, Tracker
from pyimportance.train import controller as module
from pyimportance.train import moves

BATCH = 8


def hardness(ids: np.ndarray) -> np.ndarray:
    """A loss per sample that orders them by (7 id) mod 101, hardest last."""
    return (ids * 7 % 101).astype(np.float32) + 1


def epochs(controller: Controller, dataset: ImportanceDataset, count: int) -> list[list[int]]:
    seen = []
    for _ in range(count):
        dataset.set_epoch(controller.epoch)
        samples = list(dataset)
        seen.append([s["__index__"] for s in samples if not s["__pad__"]])
        for start in range(0, len(samples), BATCH):
            batch = samples[start : start + BATCH]
            ids = np.array([s["__index__"] for s in batch])
            logits = np.stack([np.zeros(len(ids)), hardness(ids)], 1).astype(np.float32)
            mask = np.array([not s["__pad__"] for s in batch])
            controller.observe(ids, logits, np.zeros(len(ids), np.int64), mask=mask)
        controller.end_epoch()
    return seen


def main(rank: int, size: int, root: str, case: str, settings: dict[str, Any]) -> dict[str, Any]:
    generation = 0 if case == "generations" and rank == 1 else None
    dataset = ImportanceDataset(ShardSet.open(root, generation=generation), batch_size=BATCH, elastic=False)
    schedule = Schedule(warmup=2, interval=2, total=7)
    tracker = Tracker(settings.pop("num_samples"))
    step = settings.pop("step", None)
    controller = Controller(tracker, dataset, schedule, **settings)
    before = dataset.shards.digest
    failure, index = None, ShardSet.index
    if case == "fails":

        def broken(*_: Any, **__: Any) -> None:
            raise OSError(28, "No space left on device", f"{root}/worker-001")

        if step == "commit_generation" and rank == 0:  # nobody else commits
            module.commit_generation = broken
        elif step == "score" and rank == 1:
            controller.score = broken  # type: ignore[method-assign]
        elif step in ("leaving", "unpack", "write_delta") and rank == 1:
            setattr(moves, step, broken)
        elif step == "index" and rank == 1:
            ShardSet.index = broken  # type: ignore[method-assign]
        elif step == "open" and rank == 1:
            module.ShardSet = SimpleNamespace(open=broken)
    elif case == "disagree":
        # Each rank keeps its observations for itself, so their scores differ.
        group = [dist.new_group([r]) for r in range(size)][rank]
        tracker.end_epoch = lambda _=None: Tracker.end_epoch(tracker, group)  # type: ignore[method-assign]
    try:
        seen = epochs(controller, dataset, 7)
    except (PyimportanceError, OSError) as error:
        seen, failure = [], f"{type(error).__name__}: {error}"
    ShardSet.index = index  # type: ignore[method-assign]
    shards = dataset.shards
    counted = {  # before anything is read for the test
        "moved": controller.meter.bytes("origin"),
        "report": controller.io_report().counts[0].tolist(),
        "parts": [dataset.counts().tolist(), controller.meter.counts.tolist()],
    }
    return counted | {
        "seen": seen,
        "failure": failure,
        "unchanged": shards.digest == before,
        "generation": shards.generation,
        "current": type(shards).open(root).generation,
        "owners": [int(w) for w in shards.worker_of(np.arange(tracker_size(tracker)))],
        "repartitions": controller.repartitions,
        "samples": controller.samples,
        "seconds": [controller.observe_seconds, controller.commit_seconds, controller.repartition_seconds],
    }


def tracker_size(tracker: Tracker) -> int:
    return int(tracker.dynamics().num_samples)
