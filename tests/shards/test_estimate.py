"""Estimates against what the copier then does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyimportance import ArgumentError, DataError, Partition, index, write_shards
from pyimportance.io.meter import Meter
from pyimportance.shards.estimate import Costs, estimate
from pyimportance.shards.layout import Layout, Zstd
from tests.server import Server

Divide = Callable[..., Partition]


@pytest.fixture
def large(tmp_path: Path, write_tar: Any) -> Path:
    """Samples of all sizes up to some windows, and long names."""
    folder = tmp_path / "large"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        members = []
        for i in range(200):
            key = f"{number}-{i:03d}" if i % 9 else f"{'long/' * 40}{number}-{i:03d}"
            members += [(f"{key}.txt", b"x" * (i % 3)), (f"{key}.bin", rng.bytes(int(rng.integers(60_000))))]
        members.append((f"{number}-big.bin", rng.bytes(40 << 20 if number == 1 else 3 << 20)))
        write_tar(folder / f"{number}.tar", members, dialect=2)
    return folder


@pytest.mark.parametrize(
    "layout", [Layout(), Layout(shard_bytes=3 << 20), Layout(shard_samples=7, order="shuffled")]
)
def test_requests_bytes_and_shards_are_what_comes(
    large: Path, tmp_path: Path, divide: Divide, layout: Layout
) -> None:
    whole = index(large)
    parts = divide(whole, 4, 3)
    found = estimate(whole, parts, layout=layout)
    meters = [Meter() for _ in range(4)]
    shards = write_shards(
        whole,
        parts,
        tmp_path / "out",
        shard_bytes=layout.shard_bytes,
        shard_samples=layout.shard_samples,
        order=layout.order,
        meters=meters,
    )
    requests, nbytes = sum(m.requests("origin") for m in meters), sum(m.bytes("origin") for m in meters)
    assert found.direct.bytes == pytest.approx(nbytes, rel=0.001)
    assert found.direct.requests == pytest.approx(requests, rel=0.02)
    sizes = [[s.nbytes for s in shards.shards if s.worker == w] for w in range(4)]
    assert found.shards == tuple(map(len, sizes))
    assert found.bytes == tuple(map(sum, sizes))
    assert (found.smallest, found.largest) == (min(map(min, sizes)), max(map(max, sizes)))
    assert found.direct.space == sum(found.bytes)
    assert found.spool.space == sum(found.bytes) + sum(p.stat().st_size for p in large.iterdir())
    assert found.cheaper == "direct"  # on one disk, reading twice never pays


@pytest.mark.parametrize("zstd", [Zstd(), Zstd(level=9, frame_bytes=20_000), Zstd(frame_bytes=1 << 30)])
def test_compressed_shards_are_estimated_by_a_part_of_them(
    zstd: Zstd, tmp_path: Path, write_tar: Any, divide: Divide
) -> None:
    """Samples that compress to anything between nothing and all."""
    rng = np.random.default_rng(0)
    members = []
    for i in range(2000):
        text = bytes(rng.integers(97, 97 + 1 + i % 26, int(rng.integers(20_000)), np.uint8))
        members += [(f"{i:04d}.txt", text), (f"{i:04d}.cls", b"1")]
    whole = index(write_tar(tmp_path / "a.tar", members))
    parts = divide(whole, 3, 4)
    plain = estimate(whole, parts)
    found = estimate(whole, parts, layout=Layout(compression=zstd))
    shards = write_shards(
        whole, parts, tmp_path / "out", compression="zstd", level=zstd.level, frame_bytes=zstd.frame_bytes
    )
    right = sum(s.nbytes for s in shards.shards)
    assert found.stored_bytes == pytest.approx(right, rel=0.05)
    assert found.compression is not None
    assert 0 < found.compression.sampled <= 16 << 20
    sizes = [sum(s.content_bytes for s in shards.shards if s.worker == w) for w in range(3)]
    assert found.bytes == plain.bytes == tuple(sizes)
    assert plain.stored_bytes == sum(plain.bytes)
    # Tars are written and read back before they are compressed, four at a time.
    assert found.direct.disk_bytes == found.stored_bytes + 2 * sum(found.bytes)
    tars = sorted(s.content_bytes for s in shards.shards)
    assert found.direct.space == found.stored_bytes + sum(tars[-4:])
    assert found.direct.seconds > sum(found.bytes) / found.compression.bandwidth / 64


def test_a_large_sample_is_not_read_whole_to_estimate_its_compression(
    tmp_path: Path, write_tar: Any, divide: Divide, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyimportance.io.storage import LocalFile

    whole = index(write_tar(tmp_path / "a.tar", [("a.x", bytes(30 << 20)), ("b.x", b"1")]))
    asked, read = [], LocalFile.pread
    monkeypatch.setattr(LocalFile, "pread", lambda f, at, n: asked.append(n) or read(f, at, n))
    found = estimate(whole, divide(whole, 1), layout=Layout(compression=Zstd()))
    assert found.compression is not None
    assert max(asked) <= 2 << 20
    assert found.compression.value < 0.001
    (tmp_path / "a.tar").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.tar: has 0 bytes"):
        estimate(whole, divide(whole, 1), layout=Layout(compression=Zstd()))


def test_of_urls(source: Path, tmp_path: Path, divide: Divide) -> None:
    with Server(source) as server:
        whole = index(f"{server.url}/data-{{000..003}}.tar")
        parts = divide(whole, 2, 2)
        found = estimate(whole, parts)
        meters = [Meter(), Meter()]
        write_shards(whole, parts, tmp_path / "out", meters=meters, exchange="direct")
        assert found.direct.bytes == sum(m.bytes("origin") for m in meters)
        assert found.direct.requests == sum(m.requests("origin") for m in meters)
        meters = [Meter(), Meter()]
        write_shards(whole, parts, tmp_path / "other", meters=meters, exchange="spool")
        assert found.spool.bytes == meters[0].bytes("origin")
        assert found.spool.requests == meters[0].requests("origin")
    assert (found.costs.latency, found.costs.at_once) == (0.03, 32)
    assert found.cheaper == "spool"  # 66 small samples of 4 small tars
    few = Partition(1, 1, np.arange(1), np.array([0, 1]))
    assert estimate(whole, few, costs=Costs.of(whole.files, bandwidth=1e4)).cheaper == "direct"


def test_seconds_are_as_stated(source: Path, divide: Divide) -> None:
    whole = index(source)
    parts = divide(66, 2)
    costs = Costs(latency=0.5, bandwidth=2e3, at_once=3, disk_latency=0.25, disk_bandwidth=1e5)
    found = estimate(whole, parts, costs=costs)
    out, size = sum(found.bytes), int(whole.file_bytes.sum())
    d = found.direct
    assert d.seconds == pytest.approx(d.requests * 0.5 / 3 + d.bytes / 2e3 + out / 1e5)
    copied = d.requests * 0.25 / 3 + d.bytes / 1e5
    spooled = 2 * size / 1e5  # written, and read back to be summed
    assert found.spool.seconds == pytest.approx(4 * 0.5 / 3 + size / 2e3 + spooled + copied + out / 1e5)
    assert found.spool.disk_bytes == 2 * size + d.bytes + out
    assert (found.spool.requests, found.spool.bytes) == (4, size)


def test_nothing_to_do(source: Path) -> None:
    none = Partition(2, 1, np.zeros(0, np.int64), np.zeros(3, np.int64))
    found = estimate(index(source), none)
    assert found.shards == (0, 0)
    assert (found.direct.requests, found.direct.bytes, found.largest) == (0, 0, 0)
    assert estimate(index(source), none, layout=Layout(compression=Zstd())).compression is None


@pytest.mark.parametrize(
    ("known", "problem"),
    [
        ({"latency": -1}, "latency=-1: must be a finite number >= 0"),
        ({"bandwidth": 0}, "bandwidth=0: must be a finite number > 0"),
        ({"at_once": 0}, "at_once=0: must be at least 1"),
    ],
)
def test_no_costs(known: Any, problem: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        Costs.of((), **known)
    assert str(caught.value) == problem


def test_a_partition_of_something_else(source: Path, divide: Divide) -> None:
    with pytest.raises(ArgumentError, match="partition does not fit the source"):
        estimate(index(source), divide(67, 2))
