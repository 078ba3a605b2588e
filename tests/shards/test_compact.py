"""compact: what it writes is what write_shards would, in a generation that needs no index to be read."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyimportance
from pyimportance import (
    ArgumentError,
    DataError,
    ImportanceDataset,
    Partition,
    Scores,
    ShardSet,
    compact,
    partition,
    repartition,
    write_shards,
)
from pyimportance.io.meter import Meter
from pyimportance.shards.compact import division

Divide = Callable[..., Partition]
SHARD_BYTES = 60_000


@pytest.fixture
def index(source: Path) -> pyimportance.SampleIndex:
    return pyimportance.index(source)


@pytest.fixture
def moved(index: pyimportance.SampleIndex, divide: Divide, tmp_path: Path) -> ShardSet:
    """Three generations, the last with other numbers of workers and bins than the first."""
    shards = write_shards(index, divide(index, 3, 2), tmp_path / "out", shard_bytes=SHARD_BYTES)
    return repartition(repartition(shards, divide(index, 3, 2, seed=1)), divide(index, 4, 3, seed=2))


def tars(shards: ShardSet) -> dict[tuple[int, int, int], bytes]:
    """(worker, bin, number) -> the bytes of the tar."""
    found = {}
    for info in shards.shards:
        number = int(info.path[-len("000000.tar") : -len(".tar")])
        found[info.worker, info.bin, number] = (Path(shards.root) / info.path).read_bytes()
    return found


def test_the_bytes_are_those_of_write_shards(
    moved: ShardSet, index: Any, divide: Divide, tmp_path: Path, read_wds: Any
) -> None:
    assert not moved.is_compact
    new = compact(moved)
    fresh = write_shards(index, divide(index, 4, 3, seed=2), tmp_path / "fresh", shard_bytes=SHARD_BYTES)
    assert tars(new) == tars(fresh)
    assert (new.generation, new.manifest.parent, new.is_compact) == (3, 2, True)
    assert new.verify().ok
    for worker in range(4):
        mine, theirs = new.index(worker), fresh.index(worker)
        for column in ("ids", "offset", "nbytes", "part_offset", "part_size", "score", "bin"):
            assert np.array_equal(getattr(mine, column), getattr(theirs, column)), column
        assert mine.keys.equals(theirs.keys)
        # What a reader finds that knows nothing of indexes.
        keys = [s["__key__"] for path in mine.files for s in read_wds(path)]
        assert keys == mine.keys.to_pylist()


def test_a_loader_finds_the_same_samples(moved: ShardSet) -> None:
    def loaded(shards: ShardSet) -> list[tuple[int, bytes]]:
        samples = [s for rank in range(4) for s in ImportanceDataset(shards, rank=rank, world_size=4)]
        return sorted((s["__index__"], s["txt"]) for s in samples if not s["__pad__"])

    before = loaded(moved)
    assert [i for i, _ in before] == list(range(66))
    assert loaded(compact(moved)) == before


def test_old_generations_stay(moved: ShardSet, tree: Any) -> None:
    before = tree(Path(moved.root))
    compact(moved)
    after = tree(Path(moved.root))
    assert {name: after[name] for name in before if name not in ("manifest.json", "job.json")}.items() <= (
        before.items()
    )
    for generation in range(3):
        assert ShardSet.open(moved.root, generation=generation).verify().ok


def test_what_would_not_change_is_returned_as_it_is(moved: ShardSet, index: Any, divide: Divide) -> None:
    new = compact(moved)
    assert compact(new) is new
    assert compact(ShardSet.open(moved.root)).digest == new.digest
    first = ShardSet.open(moved.root, generation=0)
    assert compact(first) is first
    assert compact(moved).digest == new.digest  # the same job as before, which is done


def test_bins_that_changed_in_place_are_sorted_out(index: Any, divide: Divide, tmp_path: Path) -> None:
    """Nothing changes hands, so that every tar holds live samples only; but of bins they are no more in."""
    parts = divide(index, 3, 2)
    assert parts.values is not None
    turned = replace(
        parts,
        order=np.concatenate([parts.worker(w)[::-1] for w in range(3)]),
        values=-np.concatenate(
            [parts.values[parts.offsets[2 * w] : parts.offsets[2 * w + 2]][::-1] for w in range(3)]
        ),
    )
    shards = repartition(write_shards(index, parts, tmp_path / "out", shard_bytes=SHARD_BYTES), turned)
    assert shards.is_compact
    new = compact(shards)
    assert new.generation == 2
    assert tars(new) == tars(write_shards(index, turned, tmp_path / "fresh", shard_bytes=SHARD_BYTES))


def test_another_size_of_shards(moved: ShardSet, index: Any, divide: Divide, tmp_path: Path) -> None:
    new = compact(moved, shard_bytes=20_000)
    fresh = write_shards(index, divide(index, 4, 3, seed=2), tmp_path / "fresh", shard_bytes=20_000)
    assert tars(new) == tars(fresh)
    assert new.manifest.layout.shard_bytes == 20_000
    assert compact(new) is new
    assert compact(new, shard_bytes=SHARD_BYTES).manifest.layout.shard_bytes == SHARD_BYTES
    with pytest.raises(ArgumentError, match="shard_bytes"):
        compact(new, shard_bytes=0)


@pytest.mark.parametrize("descending", [True, False])
def test_ties_and_nan_keep_their_order(index: Any, tmp_path: Path, descending: bool) -> None:
    rng = np.random.default_rng(0)

    def parts(workers: int) -> Partition:
        values = rng.integers(0, 4, len(index)).astype(np.float32)
        values[values == 3] = np.nan
        with pytest.warns(pyimportance.NaNScoresWarning):
            return partition(Scores(values=values, measure="test", descending=descending), workers, bins=2)

    shards, last = write_shards(index, parts(3), tmp_path / "out", shard_bytes=SHARD_BYTES), parts(2)
    new = compact(repartition(shards, last))
    assert tars(new) == tars(write_shards(index, last, tmp_path / "fresh", shard_bytes=SHARD_BYTES))
    again = division(new, [None] * 2)
    assert again.order.tolist() == last.order.tolist()
    assert again.offsets.tolist() == last.offsets.tolist()
    assert again.descending == descending


def test_without_scores_the_order_is_that_of_the_places(index: Any, divide: Divide, tmp_path: Path) -> None:
    a, b = (replace(divide(index, 3, 2, seed=s), values=None) for s in range(2))
    shards = repartition(write_shards(index, a, tmp_path / "out", shard_bytes=SHARD_BYTES), b)
    new = compact(shards)
    assert new.verify().ok
    for worker in range(3):
        old, now = shards.index(worker), new.index(worker)
        assert now.score is None
        assert old.bin is not None
        assert now.ids.tolist() == old.ids[np.argsort(old.bin, kind="stable")].tolist()
    assert compact(new) is new


def test_shuffled_shards_are_those_that_would_be_written(index: Any, divide: Divide, tmp_path: Path) -> None:
    first, last = divide(index, 3, 2), divide(index, 3, 2, seed=1)
    options: dict[str, Any] = {"shard_samples": 4, "order": "shuffled"}
    shards = write_shards(index, first, tmp_path / "out", **options)
    assert compact(shards) is shards
    new = compact(repartition(shards, last))
    assert compact(new) is new
    fresh = write_shards(index, last, tmp_path / "fresh", **options)
    assert [(s.bin, s.nbytes, s.crc32c) for s in new.shards] == [
        (s.bin, s.nbytes, s.crc32c) for s in fresh.shards
    ]


def test_workers_without_samples(index: Any, divide: Divide, tmp_path: Path) -> None:
    few = partition(Scores(ids=np.array([3, 60]), values=np.ones(2, np.float32)), 5)
    shards = repartition(write_shards(index, divide(index, 2), tmp_path / "out"), few)
    new = compact(shards)
    assert (new.is_compact, new.num_samples, new.verify().ok) == (True, 2, True)
    assert len(new.shards) == 2


def test_what_is_read_and_counted(moved: ShardSet) -> None:
    meters = [Meter() for _ in range(4)]
    seen: list[tuple[int, int]] = []
    new = compact(moved, meters=meters, progress=lambda *done: seen.append(done))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for worker, meter in enumerate(meters):
        index = new.index(worker)
        most = int(index.nbytes.sum())
        assert most - 511 * len(index.part_size) <= meter.bytes("disk") <= most  # but for padding at ends
        assert meter.bytes("origin") == 0
        assert meter.bytes("index") > 0
    with pytest.raises(ArgumentError, match=r"meters are 1; there must be one per worker \(4\)"):
        compact(moved, meters=meters[:1])


def test_indexes_that_do_not_fit_each_other(moved: ShardSet, monkeypatch: pytest.MonkeyPatch) -> None:
    original = ShardSet.index

    def shifted(self: ShardSet, worker: int, meter: Meter | None = None) -> Any:
        return original(self, 0, meter)

    monkeypatch.setattr(ShardSet, "index", shifted)
    with pytest.raises(DataError, match=r"out: order: sample id \d+ occurs more than once"):
        compact(moved)


def test_a_damaged_header_is_not_copied_on(moved: ShardSet) -> None:
    path = Path(moved.root) / moved.shards[0].path
    data = bytearray(path.read_bytes())
    data[int(moved.index(0).offset[0])] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="The shard is damaged"):
        compact(moved)
    assert ShardSet.open(moved.root).generation == 2


def test_moved_bytes_are_those_that_the_partitions_say(index: Any, divide: Divide, tmp_path: Path) -> None:
    """Of a repartition: what is written is what `Partition.moved_from` adds up, and what is read is too, but
    for padding at the end of a part whose neighbour stays."""
    parts = [divide(index, 3, 2, seed=s) for s in range(3)]
    shards = write_shards(index, parts[0], tmp_path / "out", shard_bytes=SHARD_BYTES)
    ids = np.concatenate([shards.index(w).ids for w in range(3)])
    sizes = np.concatenate([shards.index(w).nbytes for w in range(3)])[np.argsort(ids)]
    most = np.bincount(np.repeat(np.arange(len(index)), np.diff(index.part_start))).max()
    for old, new in itertools.pairwise(parts):
        meters = [Meter() for _ in range(3)]
        shards = repartition(shards, new, meters=meters)
        moves = new.moved_from(old, sizes)
        assert moves.bytes is not None
        total, written = 0, f"/g{shards.generation:06d}-"
        for worker, meter in enumerate(meters):
            came = int(moves.bytes[:, worker].sum() - moves.bytes[worker, worker])
            samples = int(moves.samples[:, worker].sum() - moves.samples[worker, worker])
            delta = [s for s in shards.shards if s.worker == worker and written in s.path]
            assert sum(s.nbytes - 1024 for s in delta) == came > 0
            total += came
            assert came - 511 * most * samples <= meter.bytes("origin") <= came
        assert total == moves.moved_bytes
