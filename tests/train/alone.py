"""A controller of one process, and what it observes."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyimportance import (
    Controller,
    ImportanceDataset,
    Partition,
    Schedule,
    Scores,
    ShardSet,
    Tracker,
    partition,
)

N = 45


def start() -> Partition:
    """What training begins with."""
    return partition(Scores(np.zeros(N, np.float32)), 2, policy="random", bins=2)


def hardness() -> np.ndarray:
    return np.arange(N) * 7 % 101


def alone(shards: ShardSet, schedule: Schedule, **settings: Any) -> Controller:
    return Controller(Tracker(N), ImportanceDataset(shards, rank=0, world_size=1), schedule, **settings)


def observe_all(controller: Controller, hard: np.ndarray | None = None) -> None:
    logits = np.stack([np.zeros(N), hardness() if hard is None else hard], 1).astype(np.float32)
    controller.observe(np.arange(N), logits, np.zeros(N, np.int64))
