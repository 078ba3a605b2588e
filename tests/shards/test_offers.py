"""What holders tell takers: rows of an index that travel, and the same bytes on disk whoever read what."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyimportance
from pyimportance import ArgumentError, DataError, Partition, SampleIndex, ShardSet, repartition, write_shards
from pyimportance.io.meter import Meter
from pyimportance.shards.combine import concatenate, empty, keep
from pyimportance.shards.generations import commit_generation, write_delta
from pyimportance.shards.offers import leaving, pack, unpack

Divide = Callable[..., Partition]


@pytest.fixture
def shards(source: Path, tmp_path: Path, divide: Divide) -> ShardSet:
    return write_shards(source, divide(66, 3, 2), tmp_path / "out", shard_bytes=60_000)


def offered(shards: ShardSet, parts: Partition, worker: int) -> list[SampleIndex]:
    """What the other workers offer to one, through bytes."""
    offers = []
    for holder in range(shards.workers):
        leaves = leaving(shards.index(holder), parts, holder)
        data = pack(shards, keep(leaves, parts.worker_of(leaves.ids) == worker))
        if data:
            offers.append(unpack(shards, data, f"worker {holder}"))
    return offers


def test_an_offer_arrives_as_it_was(shards: ShardSet, divide: Divide) -> None:
    parts = divide(60, 3, seed=1)  # six are pruned
    index = shards.index(1)
    sent = leaving(index, parts, 1)
    owner = parts.worker_of(index.ids)
    assert sent.ids.tolist() == index.ids[(owner >= 0) & (owner != 1)].tolist() != []
    got = unpack(shards, pack(shards, sent), "worker 1")
    assert shards.root.encode() not in pack(shards, sent)
    assert got.digest == sent.digest
    assert (got.files, got.score, got.bin) == (sent.files, None, None)
    assert pack(shards, empty()) == b""


def test_an_offer_is_not_trusted(shards: ShardSet, divide: Divide) -> None:
    sent = leaving(shards.index(1), divide(66, 3, seed=1), 1)
    data = pack(shards, sent)
    for wrong in (b"x", data[: len(data) // 2], data[:-100] + b"\xff" * 100):
        with pytest.raises(DataError, match="the offer of rank 1"):
            unpack(shards, wrong, "the offer of rank 1")
    for name in ("../elsewhere.tar", "worker-001/other.tar"):
        renamed = replace(sent, files=(f"{shards.root}/{name}", *sent.files[1:]))
        with pytest.raises(DataError, match=rf"offers samples of '{name}', which is no shard of these"):
            unpack(shards, pack(shards, renamed), "rank 1")
    larger = replace(sent, file_bytes=sent.file_bytes + 512)
    with pytest.raises(DataError, match="which is no shard of these"):
        unpack(shards, pack(shards, larger), "rank 1")


@pytest.mark.parametrize("shape", [(66, 3, 2), (66, 2, 1), (66, 5, 3), (40, 3, 2), (66, 70, 1)])
def test_told_or_read_the_bytes_are_the_same(
    shards: ShardSet, tmp_path: Path, divide: Divide, tree: Any, shape: tuple[int, int, int]
) -> None:
    parts = divide(*shape, seed=1)  # samples, workers, bins
    workers = range(parts.workers)
    for name in ("read", "told"):
        shutil.copytree(shards.root, tmp_path / name)
    repartition(shards, parts)
    expected = tree(Path(shards.root))
    read, told = (ShardSet.open(tmp_path / name) for name in ("read", "told"))
    commit_generation(read, parts, [write_delta(read, parts, w) for w in workers])
    assert tree(tmp_path / "read") == expected
    records = []
    for w in reversed(workers):
        comes = concatenate(offered(told, parts, w)[::-1])
        records.append(write_delta(told, parts, w, comes=comes))
    commit_generation(told, parts, records)
    assert tree(tmp_path / "told") == expected


def test_extensions_that_only_others_have(tmp_path: Path, write_tar: Any, tree: Any) -> None:
    """Nobody tells worker 0 of them, who would read of them in the index of worker 2."""
    members = [(f"{i}.{'json' if i == 5 else 'txt'}", b"%d" % i) for i in range(6)]
    source = write_tar(tmp_path / "a.tar", members)

    def parts(*order: int) -> Partition:
        return Partition(3, 1, np.array(order, np.int64), np.array([0, 2, 4, 6]))

    one, two = (write_shards(source, parts(0, 1, 2, 3, 4, 5), tmp_path / name) for name in ("one", "two"))
    new = parts(0, 2, 1, 3, 4, 5)
    repartition(one, new)
    records = [write_delta(two, new, w, comes=concatenate(offered(two, new, w))) for w in range(3)]
    assert commit_generation(two, new, records).index(0).extensions == ("txt",)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_what_is_told_is_not_read(shards: ShardSet, divide: Divide) -> None:
    parts = divide(66, 3, 2, seed=1)
    comes = concatenate(offered(shards, parts, 1))
    told, read = Meter(), Meter()
    record = write_delta(shards, parts, 1, comes=comes, meter=told)
    write_delta(shards, parts, 1, meter=read)
    assert record.moved_samples == comes.num_samples
    sizes = [info.nbytes for info in shards.manifest.indexes]
    assert (told.bytes("index"), read.bytes("index")) == (sizes[1], sum(sizes))
    meters = [Meter() for _ in range(3)]
    repartition(shards, divide(66, 3, 2, seed=2), meters=meters)
    notes = sum(p.stat().st_size for p in Path(shards.root).glob("worker-*/job-000001.json"))
    manifests = [Path(shards.root) / name for name in ("manifest.json", "manifest-000001.json")]
    commit = notes + sum(path.stat().st_size for path in manifests)
    assert [m.bytes("index") for m in meters] == [sizes[0] + commit, sizes[1], sizes[2]]


def test_what_comes_must_be_all_that_is_lacking(shards: ShardSet, divide: Divide) -> None:
    parts = divide(66, 3, 2, seed=1)
    comes = concatenate(offered(shards, parts, 1))
    some = keep(comes, np.arange(comes.num_samples) > 0)
    for wrong in (empty(), some, concatenate([comes, keep(comes, np.arange(comes.num_samples) == 3)])):
        text = f"comes: has {wrong.num_samples} samples for worker 1, not just those that it lacks of its 22"
        with pytest.raises(ArgumentError, match=text):
            write_delta(shards, parts, 1, comes=wrong)
    more = concatenate([comes, *offered(shards, parts, 0)])  # what goes to others does not matter
    assert write_delta(shards, parts, 1, comes=more).moved_samples == comes.num_samples
    with pytest.raises(ArgumentError, match=r"partition does not fit the shards: 4 of 70 ids are not there"):
        write_delta(shards, divide(70, 3, 2), 1, comes=comes)


def test_the_same_samples_whatever_they_are_a_part_of(source: Path) -> None:
    index = pyimportance.index(source)
    rare = np.flatnonzero(np.diff(index.part_start) == 1)[:2]  # .txt alone
    kept = keep(index, np.isin(np.arange(66), rare))
    assert (kept.extensions, len(kept.files)) == (("txt",), 1)
    assert keep(keep(index, index.ids < 20), np.isin(np.arange(20), rare)).digest == kept.digest
    assert keep(index, np.zeros(66, bool)).digest == empty().digest == concatenate([]).digest
