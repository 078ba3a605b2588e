"""A warm-up on global reshuffles, by two real ranks: every byte counts, no observation is lost."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from pyimportance import Dynamics, Tracker, partition, score
from pyimportance.account.baselines import spans
from pyimportance.demo.digits import write_digits
from pyimportance.demo.source import ImageSource, open_source

N, EPOCHS, WARMUP = 45, 6, 2


@pytest.fixture
def ranks_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ranks", Path(__file__).parent / "ranks_warmup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def source(tmp_path: Path) -> ImageSource:
    write_digits(tmp_path / "data")
    opened = open_source(tmp_path / "data", samples=N)
    opened.save(tmp_path)
    return opened


def observed(script: ModuleType, epochs: int, history: str | None) -> Tracker:
    """What one process that sees everything records."""
    tracker, ids = Tracker(N, history=history), np.arange(N)
    for epoch in range(epochs):
        tracker.observe(ids, script.logits(ids, epoch), ids % script.CLASSES)
        tracker.end_epoch()
    return tracker


CASES = {
    "blocks": ("blocks", "loss_mean", {}, {}),
    "sticky, by the history": ("sticky(k=2)", "dual(window=2)", {"k": 2}, {"window": 2}),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_two_ranks_that_reshuffle_before_they_partition(
    source: ImageSource,
    run_ranks: Callable[..., list[Any]],
    ranks_script: ModuleType,
    tmp_path: Path,
    case: tuple[str, str, dict[str, int], dict[str, int]],
) -> None:
    policy, measure, policy_options, options = case
    settings = {
        "epochs": EPOCHS, "workers": 2, "warmup": WARMUP, "interval": 2, "warmup_on": "vanilla",
        "policies": [policy], "measure": measure, "batch_size": 8,
    }  # fmt: skip
    ranks = run_ranks("ranks_warmup.py", 2, str(tmp_path), settings)

    # Every epoch sees everything once, dealt anew while it warms up, and then as the shards say.
    for epoch in range(EPOCHS):
        everyone = sorted(i for rank in ranks for i, pad in rank["seen"][epoch] if not pad)
        assert everyone == list(range(N)), epoch
        assert len(ranks[0]["seen"][epoch]) == len(ranks[1]["seen"][epoch])
    mine = [{i for i, _ in ranks[0]["seen"][epoch]} for epoch in range(EPOCHS)]
    assert mine[0] != mine[1]
    for epoch in range(WARMUP, EPOCHS):
        for rank in (0, 1):
            owned = {i for i, owner in enumerate(ranks[0]["owners"][epoch - 1]) if owner == rank}
            assert {i for i, pad in ranks[rank]["seen"][epoch] if not pad} == owned
    assert ranks[0]["owners"][0] is None  # there were no shards before anything was scored

    # The first partition is that of the warm-up's scores.
    scores = score(observed(ranks_script, WARMUP, "memory").dynamics(), measure.partition("(")[0], **options)
    first = partition(scores, 2, policy=policy.partition("(")[0], **policy_options)
    assert ranks[0]["owners"][WARMUP - 1] == first.worker_of(np.arange(N)).tolist()

    # What both ranks hold is what one process holds, bit for bit.
    expected = observed(ranks_script, EPOCHS, None).dynamics()
    for rank in (0, 1):
        got = Dynamics.load(tmp_path / f"dynamics-{rank}.npz")
        for field in fields(Dynamics):
            if field.name not in ("history", "keys"):
                np.testing.assert_array_equal(getattr(got, field.name), getattr(expected, field.name))
    assert sum(rank["samples"] for rank in ranks) == sum(
        len(r["seen"][e]) for r in ranks for e in range(EPOCHS)
    )

    # Every byte of the warm-up is the origin's; then each sample is fetched once, and what moves.
    payload, nbytes = spans(source.train.index)[1], source.train.index.nbytes
    for rank, outcome in enumerate(ranks):
        figures, read = outcome["figures"], 0
        for epoch in range(WARMUP):
            read += int(payload[[i for i, _ in outcome["seen"][epoch]]].sum())
            assert (figures[epoch]["origin_bytes"], figures[epoch]["disk_bytes"]) == (read, 0)
            assert figures[epoch]["owned_bytes"] == 0
        own = first.worker(rank)
        fetched = figures[WARMUP]["origin_bytes"] - read
        assert payload[own].sum() <= fetched <= nbytes[own].sum()
        assert figures[WARMUP]["owned_bytes"] == nbytes[own].sum()
        assert 0 < figures[WARMUP]["disk_bytes"] < figures[WARMUP + 1]["disk_bytes"]
        last = figures[-1]
        assert last["origin_bytes"] == read + fetched + last["repartition_bytes"]
        assert (last["repartition_bytes"] > 0) == (outcome["owners"][-1] != outcome["owners"][WARMUP])


def test_a_run_that_is_all_warm_up_writes_no_shards(
    source: ImageSource, run_ranks: Callable[..., list[Any]], tmp_path: Path
) -> None:
    settings = {"epochs": 2, "workers": 2, "warmup": 2, "warmup_on": "vanilla", "policies": ["stripes"]}
    ranks = run_ranks("ranks_warmup.py", 2, str(tmp_path), settings)
    assert [rank["owners"] for rank in ranks] == [[None, None]] * 2
    for rank in ranks:
        assert rank["figures"][-1]["owned_bytes"] == 0 < rank["figures"][-1]["origin_bytes"]
