"""A training job whose shards lie in a real S3 server moves them as one does whose shards lie in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyimportance import ImportanceDataset, ShardSet, write_shards
from pyimportance.io import remote
from tests.seaweed import seaweed
from tests.train.alone import N, start

pytestmark = pytest.mark.slow


def test_two_ranks(
    shards: ShardSet, run_ranks: Callable[..., list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weed").mkdir()
    with seaweed(tmp_path / "weed") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        remote._store.cache_clear()
        there = write_shards(tmp_path / "source.tar", start(), "s3://bucket/shards")
        assert there.digest == shards.digest
        told = [
            run_ranks("ranks_controller.py", 2, root, "runs", {"num_samples": N, "policy": "sticky", "k": 4})
            for root in (shards.root, there.root)
        ]
        here, ours = ShardSet.open(shards.root), ShardSet.open(there.root)
        assert (ours.digest, ours.generation) == (here.digest, 2)
        assert ours.verify().ok
        assert [s["__key__"] for s in ImportanceDataset(ours, rank=1, world_size=2)] == [
            s["__key__"] for s in ImportanceDataset(here, rank=1, world_size=2)
        ]
    remote._store.cache_clear()
    for rank in range(2):
        for said in ("seen", "failure", "generation", "current", "owners", "repartitions", "samples"):
            assert told[1][rank][said] == told[0][rank][said], said
        assert told[1][rank]["moved"] >= told[0][rank]["moved"] > 0
