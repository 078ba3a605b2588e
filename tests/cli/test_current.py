"""partition --current: what the scores, the samples held now and the options must have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyimportance import Partition, Scores, ShardSet
from pyimportance.shards.index import index

N = 24


def failed(outcome: Any, *words: object) -> None:
    outcome.refused(*words)


@pytest.fixture
def shards(cli: Callable, source: Path, tmp_path: Path) -> Path:
    """Shards of two workers and four bins; scores.parquet beside them has the keys."""
    Scores(np.arange(N, dtype=np.float32), keys=index(source).keys).save(tmp_path / "scores.parquet")
    made = cli(
        "shard", source, tmp_path / "shards", "--scores", tmp_path / "scores.parquet",
        "--workers", 2, "--bins", 4, "--keys", "prefix",
    )  # fmt: skip
    assert made.status == 0, made
    return tmp_path / "shards"


def test_workers_and_bins_stay_as_they_are(cli: Callable, shards: Path, tmp_path: Path) -> None:
    scores, held, p = tmp_path / "scores.parquet", tmp_path / "held", tmp_path / "p"
    told = cli("partition", scores, "-o", held, "--current", shards, "--json")
    assert (told.json["workers"], told.json["bins"]) == (2, 4)
    told = cli("partition", scores, "-o", p, "--current", held, "--json")
    assert (told.json["workers"], told.json["bins"]) == (2, 4)
    told = cli("partition", scores, "-o", p, "--current", shards, "--bins", 1, "--json")
    assert (told.json["workers"], told.json["bins"]) == (2, 1)
    told = cli("partition", scores, "-o", p, "--workers", 3, "--json")
    assert (told.json["workers"], told.json["bins"]) == (3, 1)


def test_scores_of_other_data(cli: Callable, source: Path, shards: Path, tmp_path: Path) -> None:
    def refused(scores: Scores, *words: str, current: Path = shards) -> None:
        scores.save(tmp_path / "other")
        outcome = cli("partition", tmp_path / "other", "-o", tmp_path / "p", "--current", current)
        failed(outcome, "other", current.name, "do not match", *words)
        assert not (tmp_path / "p").exists()

    keys = index(source).keys.to_pylist()
    keys[7] = "someone else"
    refused(Scores(np.zeros(N, np.float32), keys=keys), "sample 7", "'someone else'")
    refused(Scores(np.zeros(N + 1, np.float32)), "25 samples there, 24 here")
    refused(Scores(np.zeros(N, np.float32), np.arange(1, N + 1)), "with other ids")
    refused(Scores(np.zeros(N - 4, np.float32)), "20 samples there", "--prune leaves the others out")
    cli("partition", tmp_path / "scores.parquet", "-o", tmp_path / "held", "--workers", 2)
    refused(Scores(np.zeros(N - 4, np.float32)), "--prune", current=tmp_path / "held")


def test_pruning_is_asked_for_and_told(cli: Callable, shards: Path, tmp_path: Path) -> None:
    fewer = tmp_path / "fewer"
    Scores(np.arange(N - 4, dtype=np.float32)).save(fewer)
    failed(cli("partition", fewer, "-o", tmp_path / "p", "--workers", 2, "--prune"), "--prune")
    told = cli("partition", fewer, "-o", tmp_path / "p", "--current", shards, "--prune", "--json")
    assert (told.status, told.json["samples"]) == (0, N - 4)
    told = cli("repartition", shards, "--partition", tmp_path / "p", "--json")
    assert (told.status, told.json["samples"], told.json["pruned"]) == (0, N - 4, 4)
    assert ShardSet.open(shards).num_samples == N - 4


def test_an_output_is_no_input(cli: Callable, source: Path, shards: Path, tmp_path: Path) -> None:
    scores = tmp_path / "scores.parquet"
    cli("partition", scores, "-o", tmp_path / "p", "--workers", 2)
    tar = source / "train-1.tar"
    before = [path.read_bytes() for path in (scores, tmp_path / "p", tar)]
    failed(cli("partition", scores, "-o", scores, "--workers", 2), "scores.parquet", "also what is read")
    failed(cli("partition", scores, "-o", tmp_path / "p", "--current", tmp_path / "p"), "also what is read")
    failed(cli("index", source / "train-*.tar", "-o", tar), "train-1.tar", "also what is read")
    failed(cli("index", source / "train-*.tar", "-o", source), "regular file")
    assert [path.read_bytes() for path in (scores, tmp_path / "p", tar)] == before
    assert Partition.load(tmp_path / "p").num_samples == N
