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

# Forks a process per run, so that what takes time to import is imported once. Of each kill it prints what was
# there then: nothing, or the generation that a reader would have found, which must be sound.
KILLER = """
import hashlib, os, random, signal, sys, time
import pyarrow.parquet, scipy.optimize
from pyimportance import Partition, ShardSet, compact, repartition, write_shards

source, first, second, folder, kills = sys.argv[1:]
first, second = Partition.load(first), Partition.load(second)

def make(out):
    shards = write_shards(source, first, out, shard_bytes=40_000)
    compact(repartition(shards, second))

def begin(out):
    child = os.fork()
    if child == 0:
        make(out)
        os._exit(0)
    return child

def tree(root):
    paths = [os.path.join(at, name) for at, _, names in os.walk(root) for name in names]
    return {os.path.relpath(path, root): hashlib.sha256(open(path, "rb").read()).digest() for path in paths}

start = time.monotonic()
assert os.waitpid(begin(f"{folder}/whole"), 0)[1] == 0
span, whole = time.monotonic() - start, tree(f"{folder}/whole")
moments = random.Random(7)
done = 0
while done < int(kills):
    out = f"{folder}/out-{done}"
    child = begin(out)
    time.sleep(moments.uniform(0, span))
    os.kill(child, signal.SIGKILL)
    if os.waitpid(child, 0)[1] != signal.SIGKILL:
        span *= 0.9  # it was faster than the first
        continue
    found = "nothing"
    if os.path.exists(f"{out}/manifest.json"):
        shards = ShardSet.open(out)
        assert shards.verify().ok, done
        found = shards.generation
    assert os.waitpid(begin(out), 0)[1] == 0, done
    assert tree(out) == whole, done
    assert ShardSet.open(out).generation == 2
    print(found)
    done += 1
"""


@pytest.mark.parametrize("kills", [4, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_killed_at_random(kills: int, source: Path, tmp_path: Path, divide: Divide) -> None:
    parts: list[Any] = [tmp_path / name for name in ("first", "second")]
    for seed, path in enumerate(parts):
        divide(66, 2 + seed, 2, seed=seed).save(path)
    command = [sys.executable, "-c", KILLER, str(source), *map(str, parts), str(tmp_path), str(kills)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found = ended.stdout.split()
    assert len(found) == kills
    if kills == 100:  # in each of the jobs, but for the last moment of compact
        assert set(found) >= {"nothing", "0", "1"}
