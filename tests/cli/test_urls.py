"""Sources and shards behind URLs, by the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest

from pyimportance import Scores, ShardSet, partition
from pyimportance.io import remote
from tests.server import Server


@pytest.fixture
def divided(tmp_path: Path) -> Path:
    partition(Scores(np.arange(24, dtype=np.float32)), 2).save(tmp_path / "partition.parquet")
    return tmp_path / "partition.parquet"


def test_from_a_web_server_to_a_folder(
    cli: Callable[..., Any], source: Path, divided: Path, tmp_path: Path
) -> None:
    root = source if source.is_dir() else source.parent
    tars = sorted(path.name for path in root.glob("*.tar"))
    with Server(root) as server:
        spec = f"{server.url}/{{{','.join(tars)}}}?signature=secret"
        made = cli("index", spec, "-o", tmp_path / "index.arrow", "--json")
        assert (made.status, made.json["samples"]) == (0, 24)
        assert b"secret" not in (tmp_path / "index.arrow").read_bytes()
        first = cli("shard", spec, tmp_path / "a", "--partition", divided, "--json")
        second = cli("shard", tmp_path / "index.arrow", tmp_path / "b", "--partition", divided, "--json")
        local = cli("shard", root, tmp_path / "c", "--partition", divided, "--json")
        assert first.json["digest"] == second.json["digest"] == local.json["digest"]
        cli("index", f"{server.url}/none.tar?secret", "-o", tmp_path / "index.arrow").refused(
            f"{server.url}/none.tar: does not exist (the server answered 404 Not Found)"
        )


def test_to_a_store(
    cli: Callable[..., Any], source: Path, divided: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = obstore.store.MemoryStore()
    monkeypatch.setattr(remote, "_store", lambda *url: store)
    made = cli("shard", source, "s3://bucket/out", "--partition", divided, "--json")
    assert (made.status, made.json["folder"], made.json["samples"]) == (0, "s3://bucket/out", 24)
    assert made.json["digest"] == ShardSet.open("s3://bucket/out").digest
    for options in ([], ["--generation", 0], ["--batch-size", 4]):
        told = cli("inspect", "s3://bucket/out", *options, "--json")
        assert (
            ("neighbours_in_batch" in told.json) == ("--batch-size" in options) == ("mixing" not in told.json)
        )
        assert told.json.items() >= made.json.items()
    said = cli("inspect", "s3://bucket/out").out
    assert "no worker has a batch of 256 (--batch-size); the largest has 12 samples" in " ".join(said.split())
    cli("inspect", "s3://bucket/out/worker-001/index-000000.arrow", "--generation", 0).refused(
        "--generation: only shards have them"
    )
    told = cli("inspect", "s3://bucket/out/worker-001/index-000000.arrow", "--json")
    assert (told.json["kind"], told.json["samples"]) == ("index", 12)
    told = cli("verify", "s3://bucket/out", "--json")
    assert (told.status, told.json["verified"], told.json["samples"]) == (0, True, 24)
    store.delete("out/" + ShardSet.open("s3://bucket/out").shards[0].path)
    cli("verify", "s3://bucket/out").refused("worker-000/g000000-bin00-000000.tar: does not exist")
    cli("inspect", "s3://bucket/none").refused("s3://bucket/none/manifest.json: does not exist")
    cli("shard", source, "https://host/out", "--partition", divided).refused(
        "out='https://host/out': web servers take no shards; s3, gs and az do"
    )
    assert not list(Path().glob("s3:*"))


def test_generations_in_a_store(
    cli: Callable[..., Any], source: Path, divided: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, url = obstore.store.MemoryStore(), "s3://bucket/out"
    monkeypatch.setattr(remote, "_store", lambda *url: store)
    cli("shard", source, url, "--partition", divided, "--json")
    cli("shard", source, tmp_path / "out", "--partition", divided, "--json")
    Scores(np.random.default_rng(0).random(24, np.float32)).save(tmp_path / "scores.parquet")
    told = {}
    for out in (url, tmp_path / "out"):
        following = tmp_path / "next.parquet"
        made = cli(
            *("partition", tmp_path / "scores.parquet", "-o", following, "--current", out),
            *("--policy", "sticky", "--k", 4, "--json"),
        )
        assert (made.status, made.json["workers"]) == (0, 2)
        moved = cli("repartition", out, "--partition", following, "--json")
        assert (moved.status, moved.json["generation"], moved.json["moved"] > 0) == (0, 1, True)
        cli("partition", tmp_path / "scores.parquet", "-o", following, "--current", f"{out}/none").refused(
            "none"
        )
        compacted = cli("compact", out, "--json")
        assert (compacted.status, compacted.json["rewritten"]) == (0, True)
        pruned = cli("prune", out, "--keep", 1, "--json")
        assert (pruned.status, pruned.json["generations"], pruned.json["files"] > 0) == (0, [0], True)
        told[out] = [made.json, moved.json, compacted.json, cli("inspect", out, "--json").json]
        assert cli("verify", out, "--repair", "--partition", following, "--json").json["verified"]
        for answer in told[out]:
            answer.pop("folder", None)
    assert told[url] == told[tmp_path / "out"]
    cli("prune", url, "--abandon", 7).refused("--abandon 7: is not unfinished; [] are")
    for command in (["compact"], ["prune"], ["verify", "--repair"], ["repartition", "--partition", divided]):
        with Server(tmp_path) as server:
            cli(command[0], f"{server.url}/out?secret", *command[1:]).refused("web servers take nothing; s3,")
