"""Estimates against what the copier then does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyimportance import ArgumentError, Partition, index, write_shards
from pyimportance.io.meter import Meter
from pyimportance.shards.estimate import Costs, estimate
from pyimportance.shards.layout import Layout
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
    assert found.spool.seconds == pytest.approx(4 * 0.5 / 3 + size / 2e3 + size / 1e5 + copied + out / 1e5)
    assert (found.spool.requests, found.spool.bytes) == (4, size)


def test_nothing_to_do(source: Path) -> None:
    none = Partition(2, 1, np.zeros(0, np.int64), np.zeros(3, np.int64))
    found = estimate(index(source), none)
    assert found.shards == (0, 0)
    assert (found.direct.requests, found.direct.bytes, found.largest) == (0, 0, 0)


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
