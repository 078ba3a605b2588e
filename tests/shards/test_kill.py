"""Killed at random moments, in the middle of a write or between two, each job resumes to the same bytes.

(`test_resume.py` kills before and after every rename.)
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyimportance import Partition

Divide = Callable[..., Partition]
ROOT = Path(__file__).parents[2]

# Of each kill it prints what was there then: nothing, or the generation that a reader would have found, which
# must be sound.
KILLER = """
import os, sys
import pyarrow.parquet, scipy.optimize
from pyimportance import Partition, ShardSet, compact, repartition, write_shards
from tests.shards.kills import kill_at_random

source, first, second, folder, kills = sys.argv[1:]
first, second = Partition.load(first), Partition.load(second)

def make(out):
    shards = write_shards(source, first, out, shard_bytes=40_000)
    compact(repartition(shards, second))

def found(out):
    if not os.path.exists(f"{out}/manifest.json"):
        return "nothing"
    shards = ShardSet.open(out)
    assert shards.verify().ok, out
    return shards.generation

def check(out):
    assert ShardSet.open(out).generation == 2

kill_at_random(make, found, check, folder, int(kills))
"""


@pytest.mark.parametrize("kills", [4, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_killed_at_random(kills: int, source: Path, tmp_path: Path, divide: Divide) -> None:
    parts: list[Any] = [tmp_path / name for name in ("first", "second")]
    for seed, path in enumerate(parts):
        divide(66, 2 + seed, 2, seed=seed).save(path)
    command = [sys.executable, "-c", KILLER, str(source), *map(str, parts), str(tmp_path), str(kills)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    found = ended.stdout.split()
    assert len(found) == kills
    if kills == 100:  # in each of the jobs, but for the last moment of compact
        assert set(found) >= {"nothing", "0", "1"}
