"""Ranks that see different samples hold the same state, bit for bit that of one process that saw all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyimportance import Tracker
from pyimportance.score import state
from tests.score.ranks_exchange import EPOCHS, SAMPLES, observe, order_of

Ranks = Callable[..., list[Any]]
SCRIPT = "ranks_exchange.py"


def in_one_process() -> Tracker:
    """Every epoch in its order, as a single process would see it."""
    tracker = Tracker(SAMPLES, history="memory")
    for epoch in range(EPOCHS):
        observe(tracker, epoch, order_of(epoch), 16)
        tracker.end_epoch()
    return tracker


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_equal_one_process(run_ranks: Ranks, tmp_path: Path, world: int) -> None:
    run_ranks(SCRIPT, world, "shares", str(tmp_path))
    want = in_one_process().state_dict()
    history = b"".join(want["history"].values())
    for rank in range(world):
        with np.load(tmp_path / f"rank{rank}.npz") as got:
            assert set(got.files) == {"history", *state.zeros(1, state.KINDS["logits"])}
            assert got["history"].tobytes() == history
            for name, column in want["columns"].items():
                assert got[name].tobytes() == column, (rank, name)


def test_the_lowest_rank_stands_and_idle_ranks_take_part(run_ranks: Ranks) -> None:
    assert run_ranks(SCRIPT, 3, "idle") == [[[0, 1, 2, 0], [0.0, 11.0, 25.5, 0.0], 2, 3]] * 3


def test_ranks_that_differ_are_the_same_error_on_all(run_ranks: Ranks) -> None:
    said = [
        "end_epoch: the ranks differ in num_samples: [4, 5]",
        "end_epoch: the ranks differ in epoch: [0, 1]",
        "end_epoch: the ranks differ in what was observed (1: losses, 2: logits, 3: and features): [2, 1]",
    ]
    assert run_ranks(SCRIPT, 2, "differ") == [[*said, 0, [0]]] * 2


def test_a_group(run_ranks: Ranks) -> None:
    no_member = "group: this process is not a member of it"
    assert run_ranks(SCRIPT, 3, "pair") == [[1, 1, 0], [1, 1, 0], no_member]


def test_of_logits_the_lowest_rank_stands(run_ranks: Ranks) -> None:
    assert run_ranks(SCRIPT, 3, "logits") == [[2.0, 3.0, 1.0]] * 3


def test_a_history_that_one_rank_cannot_write_fails_on_all_and_can_be_tried_again(
    run_ranks: Ranks, tmp_path: Path
) -> None:
    first, second = run_ranks(SCRIPT, 2, "unwritable", str(tmp_path))
    assert first[0].startswith("end_epoch: writing the history failed on rank 1: OutputError: ")
    assert "history1/epoch-000000.npy: cannot be written" in first[0]
    assert "history1/epoch-000000.npy: cannot be written" in second[0]
    assert first[1:] == second[1:] == [[1.0, 2.0, 0.0, 5.0], 2, [1.0, 2.0, 5.0]]


def test_another_runs_history_on_one_rank_fails_on_all(run_ranks: Ranks, tmp_path: Path) -> None:
    first, second = run_ranks(SCRIPT, 2, "another_run", str(tmp_path))
    why = "history: the directory holds epochs 7 to 7 of another run; must be empty"
    assert first.startswith(f"end_epoch: a check before it failed on rank 1: ArgumentError: {why}")
    assert second.startswith(why)
