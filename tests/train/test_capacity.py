"""Machines of unequal capacity, and classes that are divided one by one: what a controller makes of them."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyimportance import (
    ArgumentError,
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
from tests.train.alone import N, alone

CAPACITY = [1, 2, 3]


def test_unequal_machines_take_batches_in_proportion(
    run_ranks: Callable[..., list[Any]], tmp_path: Path
) -> None:
    path, count = tmp_path / "source.tar", 121
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for i in range(count):
            tar.addfile(tarfile.TarInfo(f"{i:04d}.txt"))
    start = partition(Scores(np.zeros(count, np.float32)), 3, policy="random")
    write_shards(index(path), start, tmp_path / "shards")
    classes = (np.arange(count) * 5 % 17 < 6).astype(int)
    settings = {"num_samples": count, "capacity": CAPACITY, "classes": classes.tolist()}
    ranks = run_ranks("ranks_capacity.py", 3, str(tmp_path / "shards"), settings)
    for epoch in range(3):
        told = [rank["epochs"][epoch] for rank in ranks]
        assert len({t["batches"] for t in told}) == 1
        assert sorted(i for t in told for i in t["seen"]) == list(range(count))
        for t in told:  # the mean that DDP would make of the ranks' losses is that over the round's samples
            np.testing.assert_allclose(t["means"], t["of_all"], rtol=1e-5)
        assert sum(np.multiply(told[0]["of_all"], told[0]["samples"])) == pytest.approx(
            sum(range(1, count + 1)), rel=1e-5
        )
    # Even shards in the first epoch, what the capacity says from then on: 121 samples by largest remainder.
    assert [[rank["epochs"][e]["own"] for rank in ranks] for e in range(3)] == [[6] * 3, [3, 6, 9], [3, 6, 9]]
    assert [len(rank["epochs"][2]["seen"]) for rank in ranks] == [20, 40, 61]
    of = ShardSet.open(tmp_path / "shards")
    assert of.policy == "stratified(sticky(k=2))"
    for c in (0, 1):
        inside = np.bincount(of.worker_of(np.flatnonzero(classes == c)), minlength=3)
        assert np.abs(inside - np.array(CAPACITY) / 6 * (classes == c).sum()).max() < 2


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"capacity": [1, 2, 3]},
            r"capacity: int64 of shape \[3\]; must be numbers, one for each of 2 workers",
        ),
        ({"capacity": [0, 0]}, "capacity: all 2 are 0, which can hold no samples"),
        ({"classes": [0] * (N - 1)}, r"classes: int64 of shape \[44\]; .* one for each of 45 samples"),
    ],
)
def test_capacity_and_classes_that_do_not_fit(shards: ShardSet, settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        alone(shards, Schedule(warmup=1, interval=1), **settings)


def test_a_capacity_that_ranks_would_have_to_pad_for(shards: ShardSet) -> None:
    dataset, schedule = ImportanceDataset(shards, rank=1, world_size=2), Schedule(warmup=1, interval=1)
    with pytest.raises(
        ArgumentError, match="capacity: ranks get shares of 1 to 2, but the data set has equalize='pad'"
    ):
        Controller(Tracker(N), dataset, schedule, capacity=[1, 2])
    Controller(Tracker(N), dataset, schedule, capacity=[2, 2])
    alone(shards, schedule, capacity=[1, 2])  # all of them are this process's


def test_a_state_is_of_one_capacity_and_classes(shards: ShardSet) -> None:
    schedule = Schedule(warmup=1, interval=1)
    given: dict[str, Any] = {"capacity": [1, 2], "classes": np.arange(N) % 3}
    state = alone(shards, schedule, **given).state_dict()
    alone(shards, schedule, **given).load_state_dict(state)
    for name, other in (("capacity", [2, 1]), ("classes", np.arange(N) % 2)):
        with pytest.raises(ArgumentError, match=f"state: saved with {name}="):
            alone(shards, schedule, **{**given, name: other}).load_state_dict(state)
