"""Lost indexes: made anew to the byte from what survives, or not at all, with what was missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import pyimportance
from pyimportance import Partition, ShardSet, compact, prune, repartition, write_shards
from pyimportance.shards.index_file import decode

Divide = Callable[..., Partition]


@pytest.fixture
def index(source: Path) -> pyimportance.SampleIndex:
    return pyimportance.index(source)


@pytest.fixture
def first(index: pyimportance.SampleIndex, divide: Divide, tmp_path: Path) -> ShardSet:
    return write_shards(index, divide(66, 3, 2), tmp_path / "out", shard_bytes=60_000)


def lose(shards: ShardSet, *workers: int) -> dict[Path, bytes]:
    """Removes or damages indexes; what they were."""
    lost = {}
    for worker in workers:
        path = Path(shards.path_of(shards.manifest.indexes[worker].path))
        lost[path] = path.read_bytes()
        if worker % 2:
            path.write_bytes(lost[path][: len(lost[path]) // 2])
        else:
            path.unlink()
    return lost


def check(shards: ShardSet, lost: dict[Path, bytes], **at_hand: Any) -> None:
    report = shards.repair(**at_hand)
    assert report.problems == ()
    assert report.repaired == tuple(str(path.relative_to(shards.root)) for path in lost)
    assert {path: path.read_bytes() for path in lost} == lost
    assert shards.verify().ok
    assert shards.repair().repaired == ()


def why_not(shards: ShardSet, lost: dict[Path, bytes], **at_hand: Any) -> str:
    before = {p: p.read_bytes() for p in Path(shards.root).rglob("*") if p.is_file()}
    report = shards.repair(**at_hand)
    assert {p: p.read_bytes() for p in Path(shards.root).rglob("*") if p.is_file()} == before
    assert (report.ok, report.repaired) == (False, ())
    assert [p.file for p in report.problems] == [str(path.relative_to(shards.root)) for path in lost]
    return report.problems[0].problem


def test_of_a_first_generation_by_its_partition(first: ShardSet, divide: Divide) -> None:
    check(first, lose(first, 0, 1, 2), partition=divide(66, 3, 2))


def test_by_an_index_of_the_source(index: Any, divide: Divide, tmp_path: Path) -> None:
    """The order in a shard is not the partition's, and keys are not the source's."""
    parts = divide(66, 3, 2)
    shards = write_shards(index, parts, tmp_path / "out", order="shuffled", keys="prefix")
    lost = lose(shards, 0, 1, 2)
    text = why_not(shards, lost, partition=parts)
    assert text.startswith("cannot be made anew: the ids of 22 of 22 samples are not known, of 'data-0")
    check(shards, lost, partition=parts, source=index)


def test_after_repartitions(first: ShardSet, divide: Divide) -> None:
    """By the ids in the indexes of other generations; those of all of a generation may be lost."""
    second = repartition(first, divide(66, 4, 2, seed=1))
    third = repartition(second, divide(66, 4, 3, seed=2))
    for shards, parts in ((third, divide(66, 4, 3, seed=2)), (second, divide(66, 4, 2, seed=1))):
        check(shards, lose(shards, 0, 1, 2, 3), partition=parts)


def test_after_compact_alone(first: ShardSet, divide: Divide) -> None:
    new = compact(repartition(first, divide(66, 4, 2, seed=1)))
    prune(new)
    check(new, lose(new, 0, 1, 2, 3), partition=divide(66, 4, 2, seed=1))


def test_without_scores_other_indexes_are_enough(index: Any, divide: Divide, tmp_path: Path) -> None:
    a, b = (replace(divide(66, 3, seed=s), values=None) for s in range(2))
    shards = repartition(write_shards(index, a, tmp_path / "out"), b)
    check(shards, lose(shards, 1))
    lost = lose(shards, 1, 2)
    text = why_not(shards, lost)
    assert text.startswith("cannot be made anew: which 22 of ")
    assert text.endswith("samples of its tars it lists is not known; give the partition")
    check(shards, lost, partition=b)


def test_a_worker_without_samples_and_one_without_some_extension(
    tmp_path: Path, write_tar: Any, divide: Divide
) -> None:
    source = write_tar(tmp_path / "a.tar", [("a.x", b"1"), ("b.x", b"2"), ("b.y", b"3")])
    parts = divide(2, 3)
    shards = write_shards(source, parts, tmp_path / "out")
    for worker in range(3):
        check(shards, lose(shards, worker), partition=parts)
    lost = lose(shards, 0, 1, 2)
    check(shards, lost, partition=parts, source=pyimportance.index(source))


def test_what_is_missing_is_said(first: ShardSet, divide: Divide, tmp_path: Path) -> None:
    lost = lose(first, 1)
    assert why_not(first, lost) == (
        "cannot be made anew: the ids of 22 of 22 samples are not known, of "
        f"{first_key(lost)[:200]!r} for one; give the source that the shards were written from"
    )
    text = why_not(first, lost, source=pyimportance.index(tmp_path / "source"))
    assert "the scores of 22 samples are in no other file; give the partition" in text
    assert "the partition is of 2 workers and 2 bins" in why_not(first, lost, partition=divide(66, 2, 2))
    text = why_not(first, lost, partition=divide(66, 3, 2, seed=1))
    assert "does not sum to what the manifest says: the partition is another one" in text
    tar = Path(first.path_of(next(s.path for s in first.shards if s.worker == 1)))
    shutil.copy(tar, tmp_path / "saved.tar")
    data = bytearray(tar.read_bytes())
    data[0] ^= 1
    tar.write_bytes(data)
    text = why_not(first, lost, partition=divide(66, 3, 2))
    assert text.startswith(f"cannot be made anew: worker-001/{tar.name} is damaged (no tar header")
    shutil.copy(tmp_path / "saved.tar", tar)
    check(first, lost, partition=divide(66, 3, 2))


def first_key(lost: dict[Path, bytes]) -> str:
    ((path, data),) = lost.items()
    return decode(data, str(path)).key(0)
