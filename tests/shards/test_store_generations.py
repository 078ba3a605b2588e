"""Generations of a set in a store: a folder's bytes, whoever is interrupted, and whoever else is at work."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest

from pyimportance import (
    ArgumentError,
    DataError,
    OutputError,
    ShardSet,
    compact,
    prune,
    repartition,
    write_shards,
)
from pyimportance.io import upload
from pyimportance.io.meter import Meter
from pyimportance.shards import manifest
from pyimportance.shards.generations import commit_generation, write_delta
from tests.shards.conftest import divide, tree
from tests.shards.stores import (
    OPTIONS,
    URL,
    interrupt_everywhere,
    objects,
    restore,
    save,
    without_notes,
    written,
)


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_a_store_gets_what_a_folder_gets(
    store: Any, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: Any
) -> None:
    first, second = divide(66, 3, 2), divide(66, 4, 2, seed=1)
    sets, meters = [], []
    for out in (tmp_path / "out", URL):
        names = written(monkeypatch)
        meters.append([Meter() for _ in range(4)])
        shards = write_shards(source, first, out, compression=compression, **OPTIONS)
        moved = repartition(shards, second, meters=meters[-1])
        assert ShardSet.open(out).digest == moved.digest
        sets.append(compact(moved))
        assert ShardSet.open(out, generation=1).digest == moved.digest
    local, ours = sets
    assert ours.digest == local.digest
    assert without_notes(objects(store)) == without_notes(tree(tmp_path / "out"))
    here, there = (sum(m.bytes("origin") for m in each) for each in meters)
    assert here <= there < sum(s.nbytes for s in moved.shards)  # there, ranges that lie close are joined
    assert [n for n in names if n[-1] in "!~"] == [
        *("job.json!", "manifest.json!", "claim-000001.json!", "manifest-000001.json!", "manifest.json~"),
        *("claim-000002.json!", "manifest-000002.json!", "manifest.json~"),
    ]
    assert len(names) == len(set(names)) + 1  # of the pointer alone there are more
    assert ours.verify().ok
    assert repartition(ShardSet.open(URL, generation=0), second).digest == moved.digest
    assert ShardSet.open(URL).generation == 2


def test_interrupted_anywhere_a_repartition_is_finished(
    store: Any, small: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, seen = divide(66, 2, seed=1), []

    def sound() -> None:
        there = ShardSet.open(URL)
        seen.append(there.generation)
        assert there.verify().ok

    assert interrupt_everywhere(monkeypatch, store, lambda: repartition(small, plan), sound) == 7
    assert seen == sorted(seen[: len(seen) // 2]) + sorted(seen[len(seen) // 2 :])
    assert {*seen} == {0, 1}


def test_what_was_finished_is_not_written_again(
    store: Any, shards: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = divide(66, 3, 2, seed=1)
    records = [write_delta(shards, plan, worker) for worker in range(3)]
    names, meters = written(monkeypatch), [Meter() for _ in range(3)]
    new = repartition(shards, plan, meters=meters)
    assert not [name for name in names if name.endswith(".tar")]
    assert sum(meter.bytes("origin") for meter in meters) == 0
    assert commit_generation(shards, plan, records).digest == new.digest
    del names[:]
    assert repartition(shards, plan).digest == new.digest
    assert names == []


def test_twins_and_others_at_the_same_time(store: Any, shards: ShardSet) -> None:
    plans = [divide(66, 3, 2, seed=1 + i // 2) for i in range(6)]
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda plan: repartition(shards, plan), plans))
    assert [new.digest for new in made[::2]] == [new.digest for new in made[1::2]]
    assert sorted(new.generation for new in made[::2]) == [1, 2, 3]
    for new, plan in zip(made, plans, strict=True):
        again = ShardSet.open(URL, generation=new.generation)
        assert (again.digest, again.manifest.parent) == (new.digest, 0)
        assert again.verify().ok
        assert again.worker_of(np.arange(66)).tolist() == plan.worker_of(np.arange(66)).tolist()
    assert ShardSet.open(URL).generation == 3


@pytest.mark.parametrize("twin", [False, True])
def test_a_race_for_a_number(
    store: Any, shards: ShardSet, monkeypatch: pytest.MonkeyPatch, twin: bool
) -> None:
    first, second = divide(66, 3, 2, seed=1), divide(66, 3, 2, seed=2)
    other = []

    def begins(name: str) -> None:
        if name.endswith("claim-000001.json") and not other:
            monkeypatch.undo()
            monkeypatch.setattr("pyimportance.io.remote._store", lambda *url: store)
            other.append(write_delta(shards, first if twin else second, 0))

    written(monkeypatch, begins)
    new = repartition(shards, first)
    assert (other[0].generation, new.generation) == (1, 1 if twin else 2)
    assert new.verify().ok
    if not twin:
        last = repartition(shards, second)
        assert (last.generation, last.verify().ok) == (1, True)
        assert ShardSet.open(URL).generation == 2  # which was there before


def test_a_race_for_the_pointer(store: Any, shards: ShardSet, monkeypatch: pytest.MonkeyPatch) -> None:
    plans = [divide(66, 3, 2, seed=seed) for seed in (1, 2)]
    first, second = ([write_delta(shards, plan, worker) for worker in range(3)] for plan in plans)

    def other(name: str) -> None:
        if name.endswith("/manifest.json"):
            monkeypatch.undo()
            monkeypatch.setattr("pyimportance.io.remote._store", lambda *url: store)
            assert commit_generation(shards, plans[1], second).generation == 2

    written(monkeypatch, other)
    assert commit_generation(shards, plans[0], first).generation == 1
    assert ShardSet.open(URL).generation == 2


def test_a_store_that_tells_no_versions(
    store: Any, shards: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = obstore.head

    def without(store: Any, name: str) -> Any:
        found = head(store, name)
        return {**found, "e_tag": None} if name.endswith("/manifest.json") else found

    problem = r"out/manifest\.json: cannot be replaced safely: its server tells"
    with monkeypatch.context() as patch:
        patch.setattr(obstore, "head", without)
        patch.setattr(manifest, "read_pointer", lambda *where: (0, ""))  # that checks versions, too
        with pytest.raises(OutputError, match=problem):
            repartition(shards, divide(66, 3, 2, seed=1))
    assert ShardSet.open(URL).generation == 0


def test_records_of_objects_that_are_others_now(store: Any, shards: ShardSet) -> None:
    plan = divide(66, 3, 2, seed=1)
    records = [write_delta(shards, plan, worker) for worker in range(3)]
    tar, index = f"deep/out/{records[1].shards[-1].path}", f"deep/out/{records[1].index.path}"
    assert "/g000001-" in tar
    saved = save(store)
    for name in (tar, index):
        was, noted = saved[name]
        for data, notes, problem in (
            (was, {}, "was written again since, by another job"),
            (was, {"crc32c": "00000000"}, "was written again since, by another job"),
            (was[:-512], noted, "was written again since, by another job"),
            (None, None, "does not exist"),
        ):
            obstore.delete(store, name)
            if data is not None:
                obstore.put(store, name, data, attributes=notes)
            with pytest.raises((OutputError, DataError), match=rf"{name}: {problem}"):
                commit_generation(shards, plan, records)
        restore(store, saved)
    old = f"deep/out/{next(s.path for s in records[0].shards if '/g000000-' in s.path)}"
    obstore.put(store, old, b"")
    with pytest.raises(OutputError, match=rf"{old}: has 0 bytes; \d+ were written"):
        commit_generation(shards, plan, records)
    restore(store, saved)
    assert commit_generation(shards, plan, records).verify().ok
    with pytest.raises(ArgumentError, match="records were written for another partition"):
        commit_generation(shards, divide(66, 3, 2, seed=2), records)


def test_an_index_is_made_anew(store: Any, shards: ShardSet, source: Path) -> None:
    plan = divide(66, 3, 2, seed=1)
    new = repartition(shards, plan)
    before = save(store)
    for worker in (0, 2):
        obstore.delete(store, f"deep/out/{new.manifest.indexes[worker].path}")
    obstore.put(store, f"deep/out/{new.manifest.indexes[1].path}", b"damaged")
    report = ShardSet.open(URL).repair()
    assert [p.file for p in report.problems] == [i.path for i in new.manifest.indexes]
    report = ShardSet.open(URL).repair(partition=plan)
    assert (report.ok, len(report.repaired)) == (True, 3)
    assert save(store) == before


def test_a_folder_of_a_url_may_end_in_a_slash(store: Any, shards: ShardSet) -> None:
    opened = ShardSet.open(URL + "/")
    new = compact(repartition(opened, divide(66, 3, 2, seed=1)))
    assert prune(new).generations == (0, 1)
    assert ShardSet.open(URL).verify().ok
    assert repartition(replace(new, root=URL), divide(66, 3, 2)).generation == 3
    assert not [name for name in upload.below("s3://bucket") if "//" in name]
