"""The README's commands, run one after the other as they stand there."""

from __future__ import annotations

import io
import re
import runpy
import shlex
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyimportance import Partition, Scores, ShardSet, Tracker, score
from pyimportance.demo import run

ROOT = Path(__file__).parents[2]
N = 120
LONG = ("demo", "bench")  # trains for minutes, and measures for as long: only what they are told is looked at


def commands() -> list[list[str]]:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## On the command line")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return [shlex.split(line, comments=True) for line in block.splitlines()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with what the commands begin with."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for shard in range(3):
        with tarfile.open(tmp_path / "data" / f"train-{shard:03d}.tar", "w") as tar:
            for i in range(shard * 40, shard * 40 + 40):
                member = tarfile.TarInfo(f"{i:04d}.cls")
                member.size = 1
                tar.addfile(member, io.BytesIO(b"%d" % (i % 2)))
    for name, factor in (("dynamics", 7), ("later", 11)):
        tracker = Tracker(N)
        hard = (np.arange(N) * factor % 101).astype(np.float32)
        tracker.observe(np.arange(N), np.stack([np.zeros(N, np.float32), hard], 1), np.zeros(N, np.int64))
        tracker.end_epoch()
        tracker.dynamics().save(tmp_path / f"{name}.npz")
        if name == "later":
            score(tracker.dynamics()).save(tmp_path / "new-scores.parquet")
    return tmp_path


def test_the_commands(cli: Callable, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    def demo(config: Any, *_: Any, data: Path, **__: Any) -> dict[str, Any]:
        told.append((config.seeds, data))
        raise SystemExit(0)

    monkeypatch.setattr(run, "run_demo", demo)
    monkeypatch.setattr(runpy, "run_path", lambda path, **_: told.append(path))
    monkeypatch.setattr("sys.argv", ["pyimportance"])
    monkeypatch.setattr("sys.path", list(sys.path))
    ran = []
    for program, *arguments in commands():
        assert program == "pyimportance"
        outcome = cli(*arguments)
        assert (outcome.status, outcome.err) == (0, ""), (arguments, outcome)
        ran.append(arguments[0])
    assert len(ran) == len(commands()) > 0
    assert set(ran) == {
        *(
            "index",
            "score",
            "partition",
            "shard",
            "verify",
            "inspect",
            "repartition",
            "compact",
            "export",
            "plan",
        ),
        *LONG,
    }
    assert told == [(5, Path("DIR")), str(ROOT / "bench" / "bench_observe.py")]
    first, second = (ShardSet.open("shards", generation=g) for g in (0, 1))
    assert (first.workers, first.bins, first.policy) == (8, 4, "stripes")
    plan = Partition.load("next.parquet")
    assert second.policy == plan.policy == "sticky(k=16)"
    assert second.worker_of(np.arange(N)).tolist() == plan.worker_of(np.arange(N)).tolist()
    scores = Scores.load("scores.parquet")
    for shards, values in ((first, scores), (second, Scores.load("new-scores.parquet"))):
        index = shards.index(3)
        assert index.score is not None
        assert index.score.tolist() == values.values[index.ids].tolist()
