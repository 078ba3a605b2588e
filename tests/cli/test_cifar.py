"""Real images through the commands, and read back by webdataset."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pyimportance import Scores, ShardSet, Tracker
from tests.shards.conftest import read_wds


def test_webdataset_reads_what_was_in_the_source(cli: Callable, test_data: Path, tmp_path: Path) -> None:
    """Every key and every byte, the most important samples first."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("train-003.tar", "train-007.tar"):
        shutil.copy(test_data / "cifar10" / name, source)
    index, dynamics, scores = tmp_path / "index.arrow", tmp_path / "dynamics.npz", tmp_path / "scores.parquet"
    indexed = cli("index", source / "train-*.tar", "-o", index, "--json").json
    N = indexed["samples"]
    tracker = Tracker(N)
    logits = np.random.default_rng(0).normal(size=(N, 10)).astype(np.float32)
    tracker.observe(np.arange(N), logits, np.arange(N) % 10)
    tracker.end_epoch()
    tracker.dynamics().save(dynamics)
    cli("score", dynamics, "--index", index, "-o", scores, "--json")
    out = tmp_path / "shards"
    arguments = ("--workers", 3, "--bins", 2, "--shard-bytes", 2**21, "--json")
    written = cli("shard", index, out, "--scores", scores, *arguments)
    assert (written.status, written.json["samples"]) == (0, N)

    expected = [sample for tar in sorted(source.iterdir()) for sample in read_wds(tar)]
    assert len(expected) == N
    values, shards, seen = Scores.load(scores).values, ShardSet.open(out), []
    number = {sample["__key__"]: i for i, sample in enumerate(expected)}
    for worker in range(3):
        for bin_ in range(2):
            tars = [s.path for s in shards.shards if (s.worker, s.bin) == (worker, bin_)]
            assert len(tars) > 1
            samples = [sample for tar in tars for sample in read_wds(out / tar)]
            ids = [number[sample["__key__"]] for sample in samples]
            assert samples == [expected[i] for i in ids]
            assert (np.diff(values[ids]) <= 0).all()
            seen += ids
    assert sorted(seen) == list(range(N))
