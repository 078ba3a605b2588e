"""compact, prune and export on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pyimportance import Partition, Scores, ShardSet, partition

N = 24


def parts(seed: int, workers: int = 3) -> Partition:
    return partition(Scores(np.random.default_rng(seed).random(N, np.float32)), workers, bins=2)


@pytest.fixture
def moved(cli: Callable, source: Path, tmp_path: Path) -> Path:
    for seed, command in enumerate((("shard", source, tmp_path / "out"), ("repartition", tmp_path / "out"))):
        parts(seed).save(tmp_path / "p")
        assert cli(*command, "--partition", tmp_path / "p").status == 0
    return tmp_path / "out"


def test_compact_and_prune(cli: Callable, moved: Path) -> None:
    told = cli("compact", moved, "--json")
    assert (told.status, told.err) == (0, "")
    assert (told.json["generation"], told.json["rewritten"], told.json["samples"]) == (2, True, N)
    assert ShardSet.open(moved).is_compact
    assert cli("inspect", moved, "--json").json["compact"] is told.json["compact"] is True
    again = cli("compact", moved, "--json").json
    assert again == told.json | {"rewritten": False}
    smaller = cli("compact", moved, "--shard-bytes", 4096, "--json").json
    assert (smaller["generation"], smaller["rewritten"]) == (3, True)
    assert smaller["tars"] > told.json["tars"]

    would = cli("prune", moved, "--keep", 2, "--dry-run", "--json").json
    assert (would["removed"], would["generations"]) == (False, [0, 1])
    assert cli("prune", moved, "--keep", 2, "--json").json == would | {"removed": True}
    assert sorted(p.name for p in moved.glob("manifest-*")) == [
        "manifest-000002.json",
        "manifest-000003.json",
    ]
    assert cli("verify", moved).status == 0
    assert "removed" in cli("prune", moved).out


def test_export(cli: Callable, moved: Path) -> None:
    refused = cli("export", moved, "dali")
    assert (refused.status, refused.out) == (2, "")
    assert "is not compact: its tars still hold samples that moved away" in refused.err
    first = cli("export", moved, "dali", "--generation", 0, "--json").json
    assert (first["generation"], first["files"]) == (0, len(ShardSet.open(moved, generation=0).shards))
    old = cli("inspect", moved, "--generation", 0, "--json").json
    assert (old["generation"], old["compact"]) == (0, True)
    assert cli("verify", moved, "--generation", 0, "--json").json["generation"] == 0
    cli("verify", moved, "--generation", 9).refused("holds no generation 9; the current one is 1")
    cli("compact", moved)
    told = cli("export", moved, "energon", "--json").json
    assert told["files"] == len(ShardSet.open(moved).shards) + 1
    assert told["last"] == str(moved / ".nv-meta" / ".info.json")
    assert cli("export", moved, "wids").status == 0


def test_repair(cli: Callable, moved: Path, tmp_path: Path, source: Path) -> None:
    lost = moved / "worker-001" / "index-000001.arrow"
    data = lost.read_bytes()
    lost.write_bytes(b"")
    told = cli("verify", moved, "--repair", "--json")
    assert told.status == 2
    assert (
        "worker-001/index-000001.arrow: cannot be made anew: the scores of 8 samples are in no other"
        in told.err
    )
    assert (told.json["repaired"], told.json["verified"]) == ([], False)
    fixed = cli("verify", moved, "--repair", "--partition", tmp_path / "p", "--source", source, "--json")
    assert (fixed.status, fixed.json["repaired"]) == (0, ["worker-001/index-000001.arrow"])
    assert lost.read_bytes() == data
    assert cli("verify", moved, "--repair", "--json").json["repaired"] == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("prune", "--keep", "7"), "--keep 7: is no generation that is there ([0, 1])"),
        (("compact", "--shard-bytes", "0"), "--shard-bytes 0: must be at least 1"),
        (("verify", "--partition", "p"), "--partition: only --repair uses it"),
        (("export", "squash"), "format='squash': allowed are 'dali', 'wids', 'webshart', 'energon'"),
    ],
)
def test_bad_input(cli: Callable, moved: Path, arguments: tuple[str, ...], text: str) -> None:
    command, *options = arguments
    ended = cli(command, moved, *options)
    assert ended.status == 2
    assert text in ended.err
    assert ended.err.count("\n") == 1
    assert ShardSet.open(moved).generation == 1
