"""Generations in a real S3 server, by processes that are at it at the same time, or killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest

from pyimportance import OutputError, ShardSet, compact, prune, repartition, write_shards
from pyimportance.io import remote, upload
from pyimportance.shards.generations import write_delta
from tests.seaweed import seaweed
from tests.shards.conftest import divide, tree
from tests.shards.stores import without_notes

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
OPTIONS: Any = {"shard_bytes": 40_000}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with seaweed(tmp_path_factory.mktemp("seaweed")) as environment:
        yield environment


@pytest.fixture(autouse=True)
def server(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    remote._store.cache_clear()
    yield obstore.store.S3Store("bucket")
    remote._store.cache_clear()


def test_generations_are_those_of_a_folder(server: Any, source: Path, tmp_path: Path) -> None:
    plans = [divide(66, workers, 2, seed=workers) for workers in (3, 4)]
    made = []
    for out in ("s3://bucket/set", tmp_path / "out"):
        first = write_shards(source, plans[0], out, **OPTIONS)
        second = repartition(first, plans[1])
        third = compact(second)
        assert third.verify().ok
        write_delta(second, plans[0], 0)  # and is never finished
        if out == "s3://bucket/set":
            with pytest.raises(OutputError, match=r"generation 3 is unfinished, .* \(abandon=\[3\]\)"):
                prune(third)
        made.append([second.digest, third.digest, prune(third, abandon=[3])])
    there, here = made
    assert there[:2] == here[:2]
    assert there[2].generations == here[2].generations == (0, 1)
    left = {name: size for name, size in upload.below("s3://bucket/set").items() if size}
    assert {*without_notes(dict.fromkeys(left, ""))} == {*without_notes(tree(tmp_path / "out"))}
    index = ShardSet.open("s3://bucket/set").manifest.indexes[1].path
    obstore.delete(server, f"set/{index}")
    assert ShardSet.open("s3://bucket/set").repair(partition=plans[1]).repaired == (index,)
    assert ShardSet.open("s3://bucket/set").verify().ok


WRITER = """
import sys
from pyimportance import Partition, ShardSet, repartition
shards, plan = ShardSet.open("s3://bucket/race", generation=0), Partition.load(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(repartition(shards, plan).generation)
"""


def test_processes_at_the_same_time(source: Path, tmp_path: Path) -> None:
    write_shards(source, divide(66, 3, 2), "s3://bucket/race", **OPTIONS)
    plans = [tmp_path / "first", tmp_path / "first", tmp_path / "second"]
    for seed, path in enumerate(plans[1:], start=1):
        divide(66, 3, 2, seed=seed).save(path)
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for path in plans
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    said = []
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        said.append(process.communicate()[0])
        assert process.returncode == 0
    assert said[0] == said[1]
    assert sorted({*said}) == ["1\n", "2\n"]
    assert ShardSet.open("s3://bucket/race").generation == 2
    assert all(ShardSet.open("s3://bucket/race", generation=g).verify().ok for g in range(3))


# All of it in forks, for a process that has asked a server cannot be forked any more. Of each kill it prints
# the generation that a reader would have found then, which must be sound.
KILLER = """
import json, os, random, signal, sys, time
import pyarrow.parquet, scipy.optimize
from pyimportance import Partition, ShardSet, compact, repartition, write_shards
from pyimportance.io import upload
from pyimportance.io.storage import exists, read_whole

source, first, second, folder, kills = sys.argv[1:]
first, second = Partition.load(first), Partition.load(second)

def make(out):
    shards = write_shards(source, first, out, shard_bytes=40_000)
    compact(repartition(shards, second))

def found(out):
    generation = "nothing"
    if exists(f"{out}/manifest.json"):
        shards = ShardSet.open(out)
        assert shards.verify().ok, out
        generation = shards.generation
    print(generation, flush=True)

def contents(out):
    there = {name: read_whole(f"{out}/{name}").hex() for name in upload.below(out)}
    with open(f"{folder}/{out.rpartition('/')[2]}.json", "w") as file:
        json.dump(there, file, sort_keys=True)

def begin(do, out):
    if (child := os.fork()) == 0:
        do(out)
        os._exit(0)
    return child

def end(child):
    assert os.waitpid(child, 0)[1] == 0

start = time.monotonic()
end(begin(make, "s3://bucket/whole"))
end(begin(contents, "s3://bucket/whole"))
span, moments, done = time.monotonic() - start, random.Random(7), 0
while done < int(kills):
    out = f"s3://bucket/out-{done}"
    child = begin(make, out)
    time.sleep(moments.uniform(0, span))
    os.kill(child, signal.SIGKILL)
    if os.waitpid(child, 0)[1] != signal.SIGKILL:
        span *= 0.9  # it was faster than the first
        out += "-again"
        continue
    for do in (found, make, found, contents):
        end(begin(do, out))
    done += 1
"""


def test_killed_at_random(source: Path, tmp_path: Path) -> None:
    parts: list[Any] = [tmp_path / name for name in ("first", "second")]
    for seed, path in enumerate(parts):
        divide(66, 2 + seed, 2, seed=seed).save(path)
    kills = 12
    command = [sys.executable, "-c", KILLER, str(source), *map(str, parts), str(tmp_path), str(kills)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    said = ended.stdout.split()
    assert said[1::2] == ["2"] * kills
    assert len({*said[::2]}) > 1
    whole = json.loads((tmp_path / "whole.json").read_text())
    for number in range(kills):
        assert json.loads((tmp_path / f"out-{number}.json").read_text()) == whole, number
