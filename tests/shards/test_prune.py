"""prune: what it removes, what it leaves, and that a generation is never there in part."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pyimportance
from pyimportance import (
    ArgumentError,
    DataError,
    OutputError,
    Partition,
    ShardSet,
    compact,
    prune,
    repartition,
    write_shards,
)
from pyimportance.shards.claims import claims_of
from pyimportance.shards.generations import write_delta
from pyimportance.shards.prune import Pruned

Divide = Callable[..., Partition]


@pytest.fixture
def moved(source: Path, divide: Divide, tmp_path: Path) -> ShardSet:
    """Generations 0, 1 and 2, the last with fewer workers."""
    index = pyimportance.index(source)
    shards = write_shards(index, divide(index, 3, 2), tmp_path / "out", shard_bytes=60_000)
    return repartition(repartition(shards, divide(index, 3, 2, seed=1)), divide(index, 2, 2, seed=2))


def generations(shards: ShardSet) -> list[int]:
    return claims_of(shards.root).numbers().committed


def test_what_a_repartitioned_set_needs_stays(moved: ShardSet) -> None:
    needed = {s.path for s in moved.shards} | {i.path for i in moved.manifest.indexes}
    assert any("/g000000-" in path for path in needed)
    before = {p for p in Path(moved.root).rglob("*") if p.is_file()}
    nbytes = sum(p.stat().st_size for p in before)
    would = prune(moved, dry_run=True)
    assert generations(moved) == [0, 1, 2]
    assert prune(moved) == would
    assert generations(moved) == [2]
    after = {p for p in Path(moved.root).rglob("*") if p.is_file()}
    assert after < before
    own = {str(p.relative_to(moved.root)) for p in after if p.parent.name.startswith("worker")}
    assert own == needed | {f"worker-00{w}/job-000002.json" for w in range(2)}
    assert would.generations == (0, 1)
    manifests = len({"manifest-000000.json", "manifest-000001.json", "claim-000001.json"})
    assert would.files == len(before) - len(after) - manifests
    assert 0 < would.nbytes < nbytes
    assert ShardSet.open(moved.root).verify().ok
    assert prune(moved) == Pruned((), 0, 0)
    with pytest.raises(DataError, match="holds no generation 1; the current one is 2"):
        ShardSet.open(moved.root, generation=1)


def test_after_compact_nothing_else_is_left(moved: ShardSet) -> None:
    new = compact(moved)
    prune(new)
    own = {str(p.relative_to(new.root)) for p in Path(new.root).rglob("worker-*/*")}
    names = {s.path for s in new.shards} | {i.path for i in new.manifest.indexes}
    assert own == names | {f"worker-00{w}/job-000003.json" for w in range(2)}
    assert new.verify().ok


def test_generations_that_are_kept(moved: ShardSet, divide: Divide) -> None:
    last = repartition(moved, divide(66, 4, seed=3))
    assert prune(last, keep=[1]).generations == (0, 2)
    assert generations(moved) == [1, 3]
    for generation in (1, 3):
        assert ShardSet.open(moved.root, generation=generation).verify().ok
    with pytest.raises(ArgumentError, match=r"keep=0: is no generation that is there \(\[1, 3\]\)"):
        prune(last, keep=[0])


def test_numbers_are_not_used_again(moved: ShardSet, divide: Divide) -> None:
    """A generation that a later one takes tars from must not be written anew."""
    second = ShardSet.open(moved.root, generation=1)
    prune(moved, keep=[1])
    other = repartition(second, divide(66, 3, 2, seed=5))
    assert (other.generation, other.manifest.parent) == (3, 1)
    prune(other, keep=[1])
    again = repartition(second, divide(66, 2, 2, seed=2))  # what generation 2 was
    assert (again.generation, again.manifest.parent) == (4, 1)
    for generation in (1, 3, 4):
        assert ShardSet.open(moved.root, generation=generation).verify().ok


def test_interrupted_anywhere_it_finishes(
    moved: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tree: Any
) -> None:
    class StopHereError(Exception):
        """An interruption at a known place."""

    root, unlink = Path(moved.root), os.unlink
    new = compact(moved)
    shutil.copytree(root, tmp_path / "whole")
    prune(ShardSet.open(tmp_path / "whole"), keep=[1])
    whole = tree(tmp_path / "whole")
    shutil.copytree(root, tmp_path / "saved")
    for stop in range(100):
        left = stop

        def some(path: str) -> None:
            nonlocal left
            if left == 0:
                raise StopHereError
            left -= 1
            unlink(path)

        with monkeypatch.context() as patch:
            patch.setattr("pyimportance.shards.folder_claims.os.unlink", some)
            try:
                prune(new, keep=[1])
            except StopHereError:
                pass
            else:
                break
        for generation in generations(new):  # whatever is said to be there is
            assert ShardSet.open(root, generation=generation).verify().ok, stop
        assert claims_of(str(root)).numbers().unfinished == []
        prune(ShardSet.open(root), keep=[1])
        assert tree(root) == whole, stop
        shutil.rmtree(root)
        shutil.copytree(tmp_path / "saved", root)
    assert stop > 10
    assert tree(root) == whole


def test_what_is_not_ours_stays(moved: ShardSet, tmp_path: Path, divide: Divide) -> None:
    root, new = Path(moved.root), compact(moved)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "g000000-bin00-000000.tar").write_text("precious")
    strange = [
        root / "notes.txt",
        root / "worker-000" / "photo.jpg",
        root / "worker-000" / "g000000-bin00-000000.txt",
        root / "other" / "g000000-bin00-000000.tar",
    ]
    for path in strange:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    (root / "worker-007").symlink_to(tmp_path / "precious")
    (root / "worker-000" / "g000000-bin00-000077.tar").symlink_to(tmp_path / "precious")
    exported = root / "worker-000" / "g000000-bin00-000000.tar.idx"
    exported.write_text("of a tar that goes")
    unfinished = write_delta(new, divide(66, 2, 2, seed=9), 0)
    prune(new)
    assert all(path.read_text() == "mine" for path in strange)
    assert (root / "worker-000" / "g000000-bin00-000077.tar").is_symlink()
    assert [p.read_text() for p in (tmp_path / "precious").iterdir()] == ["precious"]
    assert not exported.exists()
    assert all((root / info.path).exists() for info in unfinished.shards)
    assert new.verify().ok


def test_a_process_at_work(moved: ShardSet) -> None:
    before = set(Path(moved.root).rglob("*"))
    with (
        claims_of(moved.root).claim(2, "f" * 64),
        pytest.raises(OutputError, match=r"claim-000003\.json: another process is writing here: prune when"),
    ):
        prune(moved)
    assert set(Path(moved.root).rglob("*")) >= before


def test_a_damaged_manifest_of_a_kept_generation(moved: ShardSet, tree: Any) -> None:
    (Path(moved.root) / "manifest-000001.json").write_text("{")
    before = tree(Path(moved.root))
    with pytest.raises(DataError, match=r"manifest-000001\.json: is no JSON"):
        prune(moved, keep=[1])
    assert tree(Path(moved.root)) == before


def test_the_first_job_after_its_generation_is_gone(moved: ShardSet, source: Path, divide: Divide) -> None:
    prune(compact(moved))
    with pytest.raises(OutputError, match="holds later generations of these shards, and the first one was"):
        write_shards(source, divide(66, 3, 2), moved.root, shard_bytes=60_000)
