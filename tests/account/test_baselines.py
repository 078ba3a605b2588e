"""VanillaDataset: a fair global reshuffle, and every byte of it counted."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from pyimportance import ArgumentError, DataError, VanillaDataset, index
from pyimportance.account.lru_cache import LRUCache
from pyimportance.io.meter import Meter
from pyimportance.shards.sample_index import SampleIndex

N = 50
NBYTES = np.array([1 + 37 * i for i in range(N)])
# A .bin payload, its padding, the header of .cls, and one or two digits.
SPANS = -(-NBYTES // 512) * 512 + 512 + np.where(np.arange(N) < 10, 1, 2)


def payload(i: int) -> bytes:
    return bytes([i]) * (1 + 37 * i)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SampleIndex:
    folder = tmp_path_factory.mktemp("source")
    for shard in range(2):
        with tarfile.open(folder / f"{shard}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for i in range(shard * 20, 20 + shard * 30):
                for extension, data in (("bin", payload(i)), ("cls", str(i).encode())):
                    member = tarfile.TarInfo(f"k{i}.{extension}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return index(folder)


def epoch_of(datasets: list[VanillaDataset], epoch: int) -> list[list[dict]]:
    for dataset in datasets:
        dataset.set_epoch(epoch)
    return [list(dataset) for dataset in datasets]


@pytest.mark.parametrize("world_size", [1, 2, 4, 7, 60])
def test_every_sample_once_up_to_marked_padding(source: SampleIndex, world_size: int) -> None:
    ranks = [VanillaDataset(source, rank=r, world_size=world_size, seed=3) for r in range(world_size)]
    orders = []
    for epoch in range(2):
        shares = epoch_of(ranks, epoch)
        assert {len(share) for share in shares} == {len(ranks[0])} == {-(-N // world_size)}
        real = [s["__index__"] for share in shares for s in share if not s["__pad__"]]
        assert sorted(real) == list(range(N))
        orders.append(real)
    assert orders[0] != orders[1]


def test_samples_are_the_sources(source: SampleIndex) -> None:
    for sample in VanillaDataset(source):
        i = sample["__index__"]
        assert sample == {
            "__key__": f"k{i}",
            "__url__": source.files[0 if i < 20 else 1],
            "__index__": i,
            "__weight__": 1.0,
            "__pad__": False,
            "bin": payload(i),
            "cls": str(i).encode(),
        }


def test_without_a_cache_every_byte_comes_from_the_origin(source: SampleIndex) -> None:
    ranks = [VanillaDataset(source, rank=r, world_size=2) for r in range(2)]
    for epoch in range(3):
        epoch_of(ranks, epoch)
    both = ranks[0].io_report().merge(ranks[1].io_report())
    assert both.bytes() == both.bytes("origin") == 3 * int(SPANS.sum())
    assert both.requests("origin") == 3 * N
    np.testing.assert_array_equal(ranks[0].spans, SPANS)
    assert both.ranks == (0, 1)


def test_a_full_cache_fetches_a_sample_once(source: SampleIndex, tmp_path: Path) -> None:
    total, largest = int(SPANS.sum()), int(SPANS.max())
    with LRUCache(tmp_path / "cache", total, largest) as cache:
        dataset = VanillaDataset(source, cache=cache)
        epochs = [epoch_of([dataset], epoch)[0] for epoch in range(4)]
    report = dataset.io_report()
    assert report.bytes("origin") == total
    assert report.bytes("cache") == 3 * total
    for samples in epochs:
        assert all(sample["bin"] == payload(sample["__index__"]) for sample in samples)


def test_a_small_cache_saves_less_than_its_share(source: SampleIndex, tmp_path: Path) -> None:
    total, largest = int(SPANS.sum()), int(SPANS.max())
    reports = []
    for rank in range(4):
        with LRUCache(tmp_path / f"cache-{rank}", int(1.25 * total / 4), largest) as cache:
            dataset = VanillaDataset(source, rank=rank, world_size=4, cache=cache)
            for epoch in range(20):
                epoch_of([dataset], epoch)
            reports.append(dataset.io_report())
    merged = reports[0].merge(*reports[1:])
    hits = merged.bytes("cache") / merged.bytes()
    assert 0.05 < hits < 1.25 / 4
    shares = [VanillaDataset(source, rank=r, world_size=4) for r in range(4)]
    expected = 0
    for epoch in range(20):
        for share in shares:
            share.set_epoch(epoch)
            expected += int(SPANS[share.rows()[0]].sum())
    assert merged.bytes() == expected


def test_a_subset_of_the_samples(source: SampleIndex) -> None:
    ids = np.arange(1, N, 3)
    meter = Meter()
    seen = [s["__index__"] for s in VanillaDataset(source, ids=ids, meter=meter)]
    assert sorted(seen) == ids.tolist()
    assert meter.bytes("origin") == int(SPANS[ids].sum())


def test_under_a_dataloader(source: SampleIndex) -> None:
    dataset = VanillaDataset(source, rank=1, world_size=3)
    batches = list(DataLoader(dataset, batch_size=4, collate_fn=list))
    assert [len(batch) for batch in batches] == [4, 4, 4, 4, 1]
    with pytest.raises(ArgumentError, match="num_workers=0"):
        list(DataLoader(dataset, batch_size=4, num_workers=1, collate_fn=list))


def test_bad_settings(source: SampleIndex, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="rank=2: must be below world_size=2"):
        VanillaDataset(source, rank=2, world_size=2)
    with pytest.raises(ArgumentError, match="the first is 50"):
        VanillaDataset(source, ids=[3, N])
    with pytest.raises(ArgumentError, match="no samples"):
        VanillaDataset(source, ids=np.zeros(0, np.int64))


def test_a_source_that_vanished_is_named(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("k.cls"), io.BytesIO())
    dataset = VanillaDataset(index(tmp_path / "a.tar"))
    (tmp_path / "a.tar").unlink()
    with pytest.raises(DataError, match=r"a\.tar: does not exist"):
        list(dataset)


def test_tars_that_were_written_again(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"

    def write(*keys: str) -> None:
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for key in keys:
                for extension in ("bin", "cls"):
                    member = tarfile.TarInfo(f"{key}.{extension}")
                    member.size = 3
                    tar.addfile(member, io.BytesIO(key[:1].encode() * 3))

    write("a", "b", "c")
    found = index(path)
    assert len(list(VanillaDataset(found))) == 3
    write("b", "a", "c")
    with pytest.raises(
        DataError, match=r"member '[ab]\.cls', offset .*; found '[ab]\.cls' .*: index it again"
    ):
        list(VanillaDataset(found))
    path.write_bytes(path.read_bytes()[:-512])
    with pytest.raises(DataError, match=r"a\.tar: has 9728 bytes; it had 10240 when it was indexed"):
        list(VanillaDataset(found))
