"""Generations of a set in a store: a folder's bytes, whoever is interrupted, and whoever else is at work."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
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
from pyimportance.shards.claims import claims_of
from pyimportance.shards.generations import commit_generation, write_delta
from tests.shards.conftest import divide, tree
from tests.shards.stores import URL, objects, written

OPTIONS: Any = {"shard_bytes": 40_000}


@pytest.fixture
def shards(store: Any, source: Path) -> ShardSet:
    return write_shards(source, divide(66, 3, 2), URL, **OPTIONS)


@pytest.fixture
def small(store: Any, source: Path) -> ShardSet:
    """Of few objects."""
    return write_shards(source, divide(66, 2), URL)


def without_notes(files: dict[str, str]) -> dict[str, str]:
    """Files of the format, of all that lies in a folder or a store."""
    return {n: f for n, f in files.items() if not n.rpartition("/")[2].startswith(("job", "claim"))}


def save(store: Any) -> dict[str, tuple[bytes, Any]]:
    """All that is in a store, for `restore`."""
    found = {}
    for listed in obstore.list(store).collect():
        got = obstore.get(store, listed["path"])
        found[listed["path"]] = bytes(got.bytes()), got.attributes
    return found


def restore(store: Any, saved: dict[str, tuple[bytes, Any]]) -> None:
    for listed in obstore.list(store).collect():
        obstore.delete(store, listed["path"])
    for name, (data, attributes) in saved.items():
        obstore.put(store, name, data, attributes=attributes)


class Gone:
    """Kills what is at work at the ``at``-th request to change something, before it or before its answer."""

    def __init__(self, at: int, *, answered: bool) -> None:
        self.left, self.answered, self.struck = at, answered, False

    def before(self, name: str) -> None:
        self.left -= 1
        if self.struck or (self.left < 0 and not self.answered):
            self.strike()

    def after(self, name: str) -> None:
        if self.left < 0:
            self.strike()

    def strike(self) -> None:
        self.struck = True
        raise obstore.exceptions.GenericError("it is gone")


def interrupt_everywhere(
    monkeypatch: pytest.MonkeyPatch, store: Any, work: Callable[[], object], check: Callable[[], object]
) -> int:
    """Stops ``work`` at each of its requests, calls ``check``, and ``work`` again, which gives the same."""
    before = save(store)
    work()
    whole, at = objects(store), 0
    for answered in (False, True):
        for at in range(1000):
            restore(store, before)
            gone = Gone(at, answered=answered)
            with monkeypatch.context() as patch:
                written(patch, gone.before, gone.after)
                with suppress(OutputError):
                    work()
            if not gone.struck:
                break
            check()
            work()
            assert objects(store) == whole, (at, answered)
    return at


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


def test_what_is_pruned(store: Any, shards: ShardSet, source: Path, tmp_path: Path) -> None:
    local = write_shards(source, divide(66, 3, 2), tmp_path / "out", **OPTIONS)
    for seed in (1, 2):
        shards = repartition(shards, divide(66, 3, 2, seed=seed))
        local = repartition(local, divide(66, 3, 2, seed=seed))
    there = ShardSet.open(URL, generation=1)
    obstore.put(store, "deep/out/worker-000/g000001-bin00-000000.txt", b"")
    obstore.put(store, "deep/out/notes/g000001-bin00-000000.tar", b"")
    before = objects(store)
    would = prune(shards, dry_run=True)
    assert objects(store) == before
    assert prune(shards) == would
    assert would.generations == prune(local).generations == (0, 1)
    after = objects(store)
    for name in (
        "worker-000/g000001-bin00-000000.txt",
        "notes/g000001-bin00-000000.tar",
        "claim-000001.json",
        "claim-000002.json",
        "job.json",
    ):
        assert after.pop(name) == before[name]
    for generation in range(2):
        assert after.pop(f"manifest-00000{generation}.json").startswith("0 bytes")
    assert without_notes(after) == without_notes(tree(tmp_path / "out"))
    assert ShardSet.open(URL).verify().ok
    assert prune(shards).files == 0
    with pytest.raises(DataError, match=r"manifest-000001\.json: stands for a generation that was removed"):
        ShardSet.open(URL, generation=1)
    with pytest.raises(DataError, match=r"manifest-000001\.json: was removed meanwhile, by a prune"):
        repartition(there, divide(66, 3, 2, seed=3))
    assert claims_of(URL).numbers().unfinished == []
    with pytest.raises(OutputError, match="holds later generations of these shards, and the first one was"):
        write_shards(source, divide(66, 3, 2), URL, **OPTIONS)
    new = repartition(shards, divide(66, 3, 2, seed=1))
    assert (new.generation, new.manifest.parent) == (4, 2)  # numbers are not used again
    with pytest.raises(ArgumentError, match=r"keep=1: is no generation that is there \(\[2, 4\]\)"):
        prune(new, keep=[1])
    assert prune(new, keep=[2]).files == 0


def test_interrupted_anywhere_a_prune_is_finished(
    store: Any, small: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = repartition(small, divide(66, 2, seed=1))
    last = compact(repartition(second, divide(66, 1, seed=2)))
    write_delta(small, divide(66, 3, seed=3), 0)

    def sound() -> None:
        for generation in (there := claims_of(URL).numbers()).committed:
            assert ShardSet.open(URL, generation=generation).verify().ok
        assert {1, 3} <= {*there.committed}

    def work() -> None:
        unfinished = claims_of(URL).numbers().unfinished
        prune(ShardSet.open(URL), keep=[1], abandon=unfinished)

    assert interrupt_everywhere(monkeypatch, store, work, sound) == 9
    assert last.verify().ok


def test_an_unfinished_generation_stands_in_the_way_of_a_prune(store: Any, shards: ShardSet) -> None:
    old = divide(66, 3, 2, seed=5)
    second = repartition(shards, divide(66, 3, 2, seed=1))
    begun = [write_delta(shards, old, worker) for worker in range(3)]
    write_delta(second, old, 0)
    before = objects(store)
    with pytest.raises(OutputError, match=r"generation 2 is unfinished, .* give it up \(abandon=\[2\]\)"):
        prune(second)
    for numbers in ([0], [1], [7]):
        with pytest.raises(ArgumentError, match=rf"abandon={numbers[0]}: is not unfinished; \[2, 3\] are"):
            prune(second, abandon=numbers)
    assert objects(store) == before
    assert prune(second, keep=[0], dry_run=True).files == 0  # what it needs is kept
    assert prune(second, keep=[0]).files == 0
    gone = prune(second, abandon=[2])
    assert (gone.generations, gone.files > 3) == ((0,), True)
    left = [name for name in objects(store) if "g000002-" in name or "index-000002" in name]
    assert left == []
    with pytest.raises(OutputError, match=r"manifest-000002\.json: the generation was given up"):
        commit_generation(shards, old, begun)
    new = repartition(second, old)  # what was begun from the current one
    assert (new.generation, new.verify().ok) == (3, True)


def test_a_commit_is_given_up_at_the_last_moment(
    store: Any, shards: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = divide(66, 3, 2, seed=1)
    records = [write_delta(shards, plan, worker) for worker in range(3)]

    def given_up(name: str) -> None:
        if name.endswith("manifest-000001.json"):
            monkeypatch.undo()
            monkeypatch.setattr("pyimportance.io.remote._store", lambda *url: store)
            prune(shards, abandon=[1])

    written(monkeypatch, given_up)
    with pytest.raises(OutputError, match=r"manifest-000001\.json: the generation was given up; write the"):
        commit_generation(shards, plan, records)
    assert ShardSet.open(URL).digest == shards.digest
    new = repartition(shards, plan)
    assert (new.generation, new.verify().ok) == (2, True)


def test_a_commit_is_there_before_it_is_given_up(
    store: Any, shards: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = divide(66, 3, 2, seed=1)
    write_delta(shards, plan, 0)

    def committed(name: str) -> None:
        if name.endswith("manifest-000001.json"):
            monkeypatch.undo()
            monkeypatch.setattr("pyimportance.io.remote._store", lambda *url: store)
            repartition(shards, plan)

    written(monkeypatch, committed)
    with pytest.raises(OutputError, match=r"manifest-000001\.json: was committed meanwhile"):
        prune(shards, abandon=[1])
    assert ShardSet.open(URL).verify().ok


@pytest.mark.parametrize("commits", [False, True])
def test_jobs_that_begin_while_a_prune_is_at_it(
    store: Any, shards: ShardSet, monkeypatch: pytest.MonkeyPatch, commits: bool
) -> None:
    """Just before generation 0 goes, from which they begin, and after nobody was seen at work."""
    second = repartition(shards, divide(66, 3, 2, seed=1))
    plan, begun = divide(66, 3, 2, seed=2), []

    def begins(name: str) -> None:
        if name.endswith("manifest-000000.json"):
            monkeypatch.undo()
            monkeypatch.setattr("pyimportance.io.remote._store", lambda *url: store)
            records = [write_delta(shards, plan, worker) for worker in range(3)]
            begun.append(commit_generation(shards, plan, records) if commits else records)

    written(monkeypatch, begins)
    if commits:
        prune(second)
        assert begun[0].generation == 2
    else:
        with pytest.raises(OutputError, match="generation 2 is unfinished, and made from one that would be"):
            prune(second)
        assert commit_generation(shards, plan, begun[0]).generation == 2
    assert claims_of(URL).numbers().committed == [1, 2]
    for generation in (1, 2):
        assert ShardSet.open(URL, generation=generation).verify().ok
    prune(ShardSet.open(URL))
    assert ShardSet.open(URL).verify().ok


def test_a_set_that_was_copied_from_a_store_to_a_folder(store: Any, shards: ShardSet, tmp_path: Path) -> None:
    second = repartition(shards, divide(66, 3, 2, seed=1))
    prune(second)
    for name in objects(store):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(obstore.get(store, f"deep/out/{name}").bytes()))
    local = ShardSet.open(tmp_path)
    assert local.digest == second.digest
    with pytest.raises(DataError, match=r"manifest-000000\.json: stands for a generation that was removed"):
        ShardSet.open(tmp_path, generation=0)
    assert prune(local).generations == ()
    assert repartition(local, divide(66, 2, seed=2)).generation == 2
    assert prune(ShardSet.open(tmp_path)).generations == (1,)
    assert ShardSet.open(tmp_path).verify().ok


def test_a_folder_of_a_url_may_end_in_a_slash(store: Any, shards: ShardSet) -> None:
    opened = ShardSet.open(URL + "/")
    new = compact(repartition(opened, divide(66, 3, 2, seed=1)))
    assert prune(new).generations == (0, 1)
    assert ShardSet.open(URL).verify().ok
    assert repartition(replace(new, root=URL), divide(66, 3, 2)).generation == 3
    assert not [name for name in upload.below("s3://bucket") if "//" in name]
