"""Where shards are cut, and the order of samples in one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyimportance import (
    ArgumentError,
    DataError,
    ImportanceDataset,
    Partition,
    ShardSet,
    compact,
    repartition,
    write_shards,
)
from pyimportance.io.meter import Meter
from pyimportance.shards.layout import Layout

Divide = Callable[..., Partition]


def ids_of(shards: ShardSet) -> list[list[int]]:
    """Sample ids, a list per shard, in the order of the tar."""
    found = []
    for worker in range(shards.workers):
        index = shards.index(worker)
        found += [index.ids[index.file == f].tolist() for f in range(len(index.files))]
    return found


def test_a_shard_is_full_at_so_many_samples_or_bytes(source: Path, tmp_path: Path, divide: Divide) -> None:
    parts = divide(66, 2, 2)
    by_samples = write_shards(source, parts, tmp_path / "samples", shard_samples=5)
    for worker in range(2):
        for bin_ in range(2):
            group = parts.group(worker, bin_).tolist()
            own = [s.samples for s in by_samples.shards if (s.worker, s.bin) == (worker, bin_)]
            assert own == [5] * (len(group) // 5) + [len(group) % 5] * (len(group) % 5 > 0)
    assert [i for shard in ids_of(by_samples) for i in shard] == parts.order.tolist()
    both = write_shards(source, parts, tmp_path / "both", shard_samples=5, shard_bytes=30_000)
    assert all(s.samples <= 5 and (s.nbytes <= 30_000 or s.samples == 1) for s in both.shards)
    assert len(both.shards) > len(by_samples.shards)
    assert by_samples.verify().ok
    assert both.verify().ok


def test_shuffled_shards_hold_the_same_samples_in_another_order(
    source: Path, tmp_path: Path, divide: Divide, tree: Any, read_tar: Any
) -> None:
    parts = divide(66, 2, 2)
    plain = write_shards(source, parts, tmp_path / "plain", shard_samples=12)
    mixed = write_shards(source, parts, tmp_path / "mixed", shard_samples=12, order="shuffled")
    assert mixed.verify().ok
    for a, b, one, two in zip(ids_of(plain), ids_of(mixed), plain.shards, mixed.shards, strict=True):
        assert sorted(a) == sorted(b)
        assert a != b
        assert (one.path, one.nbytes, one.score_min, one.score_max) == (
            two.path, two.nbytes, two.score_min, two.score_max
        )  # fmt: skip
        assert read_tar(plain.path_of(one.path)) == read_tar(mixed.path_of(two.path))
    for worker in range(2):
        index = mixed.index(worker)
        assert index.score is not None
        assert index.bin is not None
        assert parts.values is not None
        score = dict(zip(parts.order.tolist(), parts.values.tolist(), strict=True))
        assert index.score.tolist() == [score[i] for i in index.ids.tolist()]
        assert index.bin.tolist() == parts.bin_of(index.ids).tolist()
    write_shards(source, parts, tmp_path / "again", shard_samples=12, order="shuffled")
    assert tree(tmp_path / "mixed") == tree(tmp_path / "again")


@pytest.mark.parametrize(("bins", "digits"), [(2, 2), (100, 2), (101, 3), (1001, 4)])
def test_sorted_names_are_in_order_of_importance(
    bins: int, digits: int, source: Path, tmp_path: Path, divide: Divide
) -> None:
    """To who lists a folder, too: the most important bin comes first."""
    parts = divide(66, 2, bins)
    shards = write_shards(source, parts, tmp_path / "out", shard_samples=5)
    moved = repartition(shards, divide(66, 2, bins, seed=1))
    for made in (shards, moved, compact(moved)):
        new = [s for s in made.shards if f"/g{made.generation:06d}-" in s.path]
        assert new
        assert [s.path for s in new] == sorted(s.path for s in new)
        assert [(s.worker, s.bin) for s in new] == sorted((s.worker, s.bin) for s in new)
        assert {s.path.partition("-bin")[2].partition("-")[0] for s in new} == {
            f"{s.bin:0{digits}d}" for s in new
        }
        assert max(s.bin for s in new) >= bins * 9 // 10
        assert made.verify().ok


@pytest.mark.parametrize("order", ["score", "shuffled"])
def test_the_first_bins_are_the_first_bytes(order: str, source: Path, tmp_path: Path, divide: Divide) -> None:
    """Of a worker's tars, one after the other: the first bins fill the first files, and no others."""
    parts = divide(66, 2, 4)
    shards = write_shards(source, parts, tmp_path / "out", shard_samples=3, order=order)
    for worker in range(2):
        index = shards.index(worker)
        tars = [s for s in shards.shards if s.worker == worker]
        for bins in range(1, 5):
            first = [s for s in tars if s.bin < bins]
            assert first == tars[: len(first)]
            (rows,) = np.nonzero(parts.bin_of(index.ids) < bins)
            assert sorted(set(index.file[rows].tolist())) == list(range(len(first)))
            assert index.nbytes[rows].sum() == sum(s.nbytes - 1024 for s in first)  # a tar's end


def test_another_seed_is_another_order(source: Path, tmp_path: Path) -> None:
    order, offsets = np.arange(66), np.array([0, 66])
    orders = [
        ids_of(
            write_shards(source, Partition(1, 1, order, offsets, seed=s), tmp_path / f"{s}", order="shuffled")
        )
        for s in (0, 1, 1 << 127)
    ]
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert [sorted(shard) for (shard,) in orders] == [list(range(66))] * 3


def test_an_epoch_does_not_care(source: Path, tmp_path: Path, divide: Divide) -> None:
    parts = divide(66, 2, 2)
    meters = [Meter(), Meter()]
    mixed = write_shards(source, parts, tmp_path / "mixed", order="shuffled", meters=meters)
    plain = write_shards(source, parts, tmp_path / "plain")
    for keep in (1.0, 0.4):
        read = [
            {
                s["__index__"]: {k: v for k, v in s.items() if k not in ("__url__", "__weight__")}
                for s in ImportanceDataset(shards, rank=0, world_size=1, elastic=True, keep=keep)
            }
            for shards in (plain, mixed)
        ]
        assert read[0] == read[1]


def test_later_generations_keep_to_it(source: Path, tmp_path: Path, divide: Divide) -> None:
    first = write_shards(source, divide(66, 2), tmp_path / "out", shard_samples=4, order="shuffled")
    second = repartition(first, divide(66, 2, seed=1))
    new = [s for s in second.shards if "g000001" in s.path]
    assert new
    assert max(s.samples for s in new) == 4
    assert ShardSet.open(tmp_path / "out").manifest.layout == Layout(256 << 20, 4, "shuffled")
    assert second.verify().ok


def test_what_is_as_ever_is_not_said(source: Path, tmp_path: Path, divide: Divide) -> None:
    write_shards(source, divide(66, 2), tmp_path / "out")
    fields = json.loads((tmp_path / "out/manifest-000000.json").read_text())
    assert "order" not in fields
    assert "shard_samples" not in fields
    assert fields["shard_bytes"] == 256 << 20


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"shard_samples": 0}, "shard_samples=0: must be at least 1"),
        ({"shard_samples": 2.0}, "shard_samples=2.0: must be an integer of at least 1"),
        ({"order": "random"}, "order='random': allowed are 'score' and 'shuffled'"),
    ],
)
def test_bad_options(source: Path, tmp_path: Path, divide: Divide, options: Any, problem: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        write_shards(source, divide(66, 2), tmp_path / "out", **options)
    assert str(caught.value) == problem
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "value"), [("order", "up"), ("shard_samples", 0), ("shard_samples", "5")])
def test_a_manifest_that_says_something_else(
    source: Path, tmp_path: Path, divide: Divide, name: str, value: Any
) -> None:
    write_shards(source, divide(66, 2), tmp_path / "out")
    path = tmp_path / "out/manifest-000000.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(DataError, match=f"field '{name}': must be"):
        ShardSet.open(tmp_path / "out")


def test_samples_of_no_group() -> None:
    assert Layout().cuts(np.zeros(0, np.int64)) == [0]
