"""prune in a store: as in a folder, and whatever a job that nobody sees at work does meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
from pyimportance.shards.claims import claims_of
from pyimportance.shards.generations import commit_generation, write_delta
from tests.shards.conftest import divide, tree
from tests.shards.stores import OPTIONS, URL, interrupt_everywhere, objects, without_notes, written


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
