"""Generations: what moves, what stays, and that old ones remain."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyimportance
from pyimportance import ArgumentError, DataError, OutputError, Partition, ShardSet, repartition, write_shards
from pyimportance.io.meter import Meter
from pyimportance.shards.generations import commit_generation, write_delta

Divide = Callable[..., Partition]


@pytest.fixture
def index(source: Path) -> pyimportance.SampleIndex:
    return pyimportance.index(source)


@pytest.fixture
def first(index: pyimportance.SampleIndex, divide: Divide) -> Partition:
    return divide(index, 3, 2)


@pytest.fixture
def second(index: pyimportance.SampleIndex, divide: Divide) -> Partition:
    return divide(index, 3, 2, seed=1)


@pytest.fixture
def shards(index: pyimportance.SampleIndex, first: Partition, tmp_path: Path) -> ShardSet:
    return write_shards(index, first, tmp_path / "out", shard_bytes=60_000)


def contents(shards: ShardSet) -> dict[tuple[int, int], tuple[int, float, dict[str, bytes]]]:
    """(worker, id) -> bin, score, and the sample itself, read at the places that the indexes name."""
    found = {}
    for worker in range(shards.workers):
        index = shards.index(worker)
        assert index.bin is not None
        assert index.score is not None
        for row, key in enumerate(index.ids.tolist()):
            data = Path(index.files[index.file[row]]).read_bytes()
            sample = {"key": index.key(row).encode()}
            for p in range(index.part_start[row], index.part_start[row + 1]):
                start = index.part_offset[p]
                sample[index.extensions[index.part_ext[p]]] = data[start : start + index.part_size[p]]
            found[worker, key] = int(index.bin[row]), float(index.score[row]), sample
    return found


def expected(parts: Partition, samples: dict[int, dict[str, bytes]]) -> dict[Any, Any]:
    assert parts.values is not None
    score = dict(zip(parts.order.tolist(), parts.values.tolist(), strict=True))
    return {
        (w, i): (b, score[i], samples[i])
        for w in range(parts.workers)
        for b in range(parts.bins)
        for i in parts.group(w, b).tolist()
    }


def test_only_what_changed_workers_moves(
    shards: ShardSet, first: Partition, second: Partition, index: Any
) -> None:
    before = contents(shards)
    samples = {i: sample for (_, i), (_, _, sample) in before.items()}
    meters = [Meter() for _ in range(3)]
    new = repartition(shards, second, meters=meters)
    assert (new.generation, new.manifest.parent, new.num_samples) == (1, 0, 66)
    assert contents(new) == expected(second, samples)
    moved = second.worker_of(index.ids) != first.worker_of(index.ids)
    assert 0 < moved.sum() < 66
    canonical = np.concatenate([shards.index(w).nbytes for w in range(3)])
    of = np.concatenate([shards.index(w).ids for w in range(3)])
    by_id = dict(zip(of.tolist(), canonical.tolist(), strict=True))
    for worker, meter in enumerate(meters):
        comes = np.flatnonzero(moved & (second.worker_of(index.ids) == worker)).tolist()
        extent = sum(by_id[i] for i in comes)
        assert extent - 512 * 3 * len(comes) < meter.bytes("origin") <= extent  # all but padding at the ends
        assert meter.bytes("index") > 0
        delta = [s for s in new.shards if s.worker == worker and "/g000001-" in s.path]
        assert sum(s.samples for s in delta) == len(comes)
        assert sum(s.nbytes - 1024 for s in delta) == extent
    assert contents(ShardSet.open(shards.root, generation=0)) == before
    assert ShardSet.open(shards.root).digest == new.digest
    assert new.verify().ok
    assert shards.verify().ok


def test_generation_upon_generation(
    shards: ShardSet, index: Any, divide: Divide, tmp_path: Path, tree: Any
) -> None:
    samples = {i: sample for (_, i), (_, _, sample) in contents(shards).items()}
    new, parts = shards, divide(index, 3, 2)
    for seed in range(1, 6):
        parts = divide(index, 3, 2, seed=seed)
        new = repartition(new, parts)
        assert new.generation == seed
        assert contents(new) == expected(parts, samples)
        assert new.verify().ok
        assert {s.path for s in new.shards if s.live == 0} == set()
    # The same steps give the same bytes.
    again = write_shards(index, divide(index, 3, 2), tmp_path / "again", shard_bytes=60_000)
    for seed in range(1, 6):
        again = repartition(again, divide(index, 3, 2, seed=seed))
    assert tree(Path(again.root)) == tree(Path(shards.root))


def test_a_change_of_bins_moves_nothing(shards: ShardSet, first: Partition) -> None:
    assert first.values is not None
    turned = replace(
        first,
        order=np.concatenate([first.worker(w)[::-1] for w in range(3)]),
        values=np.concatenate([np.arange(22, dtype=np.float32)] * 3),
    )
    meters = [Meter() for _ in range(3)]
    new = repartition(shards, turned, meters=meters)
    assert sum(m.bytes("origin") for m in meters) == 0
    assert {s.path for s in new.shards} == {s.path for s in shards.shards}
    for worker in range(3):
        index = new.index(worker)
        assert index.bin is not None
        assert index.bin.tolist() == turned.bin_of(index.ids).tolist()


@pytest.mark.parametrize(("workers", "bins"), [(1, 1), (2, 3), (5, 1), (70, 2)])
def test_other_numbers_of_workers_and_bins(
    shards: ShardSet, index: Any, divide: Divide, workers: int, bins: int
) -> None:
    samples = {i: sample for (_, i), (_, _, sample) in contents(shards).items()}
    parts = divide(index, workers, bins, seed=3)
    new = repartition(shards, parts)
    assert (new.workers, new.bins) == (workers, bins)
    assert contents(new) == expected(parts, samples)
    assert contents(repartition(new, divide(index, 3, 2))) == contents(shards)


def test_pruned_samples_are_gone_and_cannot_come_back(shards: ShardSet, divide: Divide) -> None:
    fewer = divide(40, 3, 2)
    new = repartition(shards, fewer)
    assert new.num_samples == 40
    assert new.worker_of(np.array([39, 40], np.int64)).tolist() == [int(fewer.worker_of([39])[0]), -1]
    text = "partition does not fit the shards: 26 of 66 ids are not there; the first is"
    with pytest.raises(ArgumentError, match=text):
        repartition(new, divide(66, 3, 2))


def test_workers_write_their_deltas_alone(shards: ShardSet, second: Partition) -> None:
    records = [pickle.loads(pickle.dumps(write_delta(shards, second, w))) for w in (2, 0, 1)]
    assert ShardSet.open(shards.root).generation == 0
    new = commit_generation(shards, second, records)
    assert new.generation == ShardSet.open(shards.root).generation == 1
    assert sum(r.moved_samples for r in records) > 0
    assert repartition(shards, second).digest == new.digest


def test_again_is_the_same_generation(shards: ShardSet, second: Partition, tree: Any) -> None:
    new = repartition(shards, second)
    before = tree(Path(shards.root))
    assert repartition(shards, second).digest == new.digest
    assert tree(Path(shards.root)) == before


def test_from_an_old_generation_a_new_number(
    shards: ShardSet, second: Partition, index: Any, divide: Divide
) -> None:
    """A training run that went back to its checkpoint must not overwrite what it wrote before."""
    repartition(shards, second)
    other = repartition(shards, divide(index, 3, 2, seed=2))
    assert (other.generation, other.manifest.parent) == (2, 0)
    assert ShardSet.open(shards.root, generation=1).verify().ok
    assert other.verify().ok
    assert repartition(shards, second).generation == 1
    assert ShardSet.open(shards.root).generation == 2


def test_leftovers_of_another_partition_are_not_taken_up(
    shards: ShardSet, second: Partition, index: Any, divide: Divide
) -> None:
    write_delta(shards, second, 0)
    third = divide(index, 3, 2, seed=2)
    samples = {i: sample for (_, i), (_, _, sample) in contents(shards).items()}
    new = repartition(shards, third)
    assert new.generation == 1
    assert contents(new) == expected(third, samples)
    assert new.verify().ok


def test_records_must_fit(shards: ShardSet, first: Partition, second: Partition) -> None:
    records = [write_delta(shards, second, w) for w in range(3)]
    with pytest.raises(ArgumentError, match=r"records are of workers \[0, 1\].*expected one for each of 3"):
        commit_generation(shards, second, records[:2])
    with pytest.raises(ArgumentError, match="records were written for another partition"):
        commit_generation(shards, first, records)
    with pytest.raises(ArgumentError, match="worker is 3; the partition has workers 0 to 2"):
        write_delta(shards, second, 3)
    index = Path(shards.root) / records[1].index.path
    data = index.read_bytes()
    index.write_bytes(data[:-1])
    text = rf"index-000001\.arrow: has {len(data) - 1} bytes; {len(data)} were written"
    with pytest.raises(OutputError, match=text):
        commit_generation(shards, second, records)
    index.write_bytes(data)
    wrong = replace(records[1], index=replace(records[1].index, crc32c=0))
    with pytest.raises(OutputError, match=r"index-000001\.arrow: was written again since"):
        commit_generation(shards, second, [records[0], wrong, records[2]])
    assert commit_generation(shards, second, records).verify().ok


def test_a_damaged_header_is_not_copied_on(shards: ShardSet, second: Partition) -> None:
    for info in shards.shards:
        path = Path(shards.root) / info.path
        data = bytearray(path.read_bytes())
        data[0] ^= 1  # the first character of the first name
        path.write_bytes(data)
    with pytest.raises(DataError, match=r"found at 0: no tar header, .* checksum .* The shard is damaged"):
        repartition(shards, second)
    assert ShardSet.open(shards.root).generation == 0


def test_meters_and_progress(shards: ShardSet, second: Partition) -> None:
    with pytest.raises(ArgumentError, match=r"meters are 1; there must be one per worker \(3\)"):
        repartition(shards, second, meters=[Meter()])
    seen: list[tuple[int, int]] = []
    repartition(shards, second, progress=lambda *done: seen.append(done))
    assert seen == [(1, 3), (2, 3), (3, 3)]
