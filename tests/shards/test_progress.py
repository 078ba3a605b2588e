"""What write_shards says while it is at work, and what it has read for whom."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pyimportance
from pyimportance import ArgumentError, Partition, write_shards
from pyimportance.io.meter import Meter
from pyimportance.shards import pool

Divide = Callable[..., Partition]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("compression", [None, "zstd"])
def test_it_tells_of_each_shard_as_it_ends(  # noqa: PLR0917
    workers: int, compression: Any, source: Path, tmp_path: Path, divide: Divide, monkeypatch: Any
) -> None:
    """And not when the last one is begun, of a job of hours."""
    told: list[tuple[int, int]] = []
    begun: list[int] = []  # how often it had told when a shard was begun
    submit = pool.ShardPool.submit

    def counting(*arguments: Any) -> Any:
        begun.append(len(told))
        pending = submit(*arguments)
        if compression:
            pending.result()  # threads of Python take any number
        return pending

    monkeypatch.setattr(pool.ShardPool, "submit", counting)
    monkeypatch.setattr(pool, "_BEGUN", 2)
    index = pyimportance.index(source)
    shards = write_shards(
        index,
        divide(66, workers),
        tmp_path / "out",
        shard_bytes=30_000,
        compression=compression,
        progress=lambda *done: told.append(done),
    )
    n = len(shards.shards)
    assert n > 15
    assert len(told) == len(begun) == n
    assert told == sorted(told)
    assert told[-1] == (index.payload_bytes.sum(),) * 2
    assert all(before >= number - 3 for number, before in enumerate(begun))


def test_meters_and_progress(source: Path, tmp_path: Path, divide: Divide) -> None:
    index = pyimportance.index(source)
    parts = divide(index, 3)
    meters = [Meter() for _ in range(3)]
    seen: list[tuple[int, int]] = []
    write_shards(index, parts, tmp_path / "out", meters=meters, progress=lambda *done: seen.append(done))
    for worker, meter in enumerate(meters):
        rows = index.rows_of(parts.worker(worker))
        payload, extent = index.payload_bytes[rows].sum(), index.nbytes[rows].sum()
        assert payload <= meter.bytes("origin") <= extent  # headers between parts are read, no other samples
        assert meter.requests("origin") <= len(index.part_ext)
    assert seen[-1] == (index.payload_bytes.sum(),) * 2
    with pytest.raises(ArgumentError, match=r"meters are 2; there must be one per worker \(3\)"):
        write_shards(index, parts, tmp_path / "out", meters=meters[:2])
