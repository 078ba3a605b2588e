"""Partition on disk: whole, the same again, and nothing else taken for one."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pyimportance import DataError, OutputError, Partition

PARTITION = Partition(
    workers=2,
    bins=2,
    order=np.array([4, 2**40, 0, 3]),
    offsets=np.array([0, 1, 2, 2, 4]),
    values=np.array([2.0, -0.0, np.inf, np.nan], np.float32),
    measure="forgetting",
    descending=False,
    policy="sticky(k=16)",
    seed=7,
)


@pytest.mark.parametrize("scored", [True, False])
def test_round_trip(tmp_path: Path, scored: bool) -> None:
    before = PARTITION if scored else Partition(2, 2, PARTITION.order, PARTITION.offsets)
    before.save(tmp_path / "p.parquet")
    after = Partition.load(tmp_path / "p.parquet")
    for name in ("workers", "bins", "measure", "descending", "policy", "seed"):
        assert getattr(after, name) == getattr(before, name)
    np.testing.assert_array_equal(after.order, before.order)
    np.testing.assert_array_equal(after.offsets, before.offsets)
    if before.values is None:
        assert after.values is None
    else:
        assert after.values is not None
        assert after.values.tobytes() == before.values.tobytes()
    assert [p.name for p in tmp_path.iterdir()] == ["p.parquet"]


def test_empty_round_trip(tmp_path: Path) -> None:
    Partition(3, 2, np.empty(0, np.int64), np.zeros(7, np.int64)).save(tmp_path / "p.parquet")
    assert Partition.load(tmp_path / "p.parquet").num_samples == 0


def test_the_same_partition_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        PARTITION.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_any_parquet_reader_reads_it(tmp_path: Path) -> None:
    PARTITION.save(tmp_path / "p.parquet")
    table = pq.read_table(tmp_path / "p.parquet").to_pydict()
    assert table["id"] == [4, 2**40, 0, 3]
    assert table["worker"] == [0, 0, 1, 1]
    assert table["bin"] == [0, 1, 1, 1]


def test_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="folder"):
        PARTITION.save(tmp_path / "folder")
    with pytest.raises(OutputError, match="absent"):
        PARTITION.save(tmp_path / "absent" / "p.parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.parquet: does not exist"):
        Partition.load(tmp_path / "absent.parquet")


def test_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    PARTITION.save(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"p\.parquet: not a Parquet file"):
        Partition.load(path)


def write(path: Path, metadata: dict[str, Any] | bytes | None = None, **columns: Any) -> None:
    """A Parquet file like PARTITION's, but for the given metadata or columns (None: left out)."""
    scalars = {
        "version": 1,
        "workers": 2,
        "bins": 2,
        "measure": "",
        "descending": True,
        "policy": "",
        "seed": 0,
    }
    data: dict[str, Any] = {
        "id": pa.array([4, 2, 0, 3], pa.int64()),
        "worker": pa.array([0, 0, 1, 1], pa.int32()),
        "bin": pa.array([0, 1, 1, 1], pa.int32()),
    }
    kept = {name: column for name, column in {**data, **columns}.items() if column is not None}
    text = metadata if isinstance(metadata, bytes) else json.dumps({**scalars, **(metadata or {})}).encode()
    table = pa.table(kept).replace_schema_metadata({b"pyimportance.partition": text} if text else None)
    pq.write_table(table, path)


INT32 = pa.int32()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"metadata": b""}, "not a partition: its schema metadata has no 'pyimportance.partition'"),
        ({"metadata": b"{"}, "the metadata 'pyimportance.partition' is not JSON"),
        ({"metadata": b"[1]"}, "pyimportance.partition format version None; this release reads 1"),
        ({"metadata": b"\xff"}, "the metadata 'pyimportance.partition' is not JSON"),
        ({"metadata": b"[" * 100_000}, "the metadata 'pyimportance.partition' is not JSON"),
        ({"metadata": {"measure": "\ud800"}}, "the metadata 'pyimportance.partition' is not JSON"),
        ({"metadata": {"version": True}}, "pyimportance.partition format version True"),
        ({"metadata": {"version": 1.0}}, "pyimportance.partition format version 1.0"),
        ({"metadata": {"workers": 2**31 - 1, "bins": 1}}, "their product must be at most 4194304"),
        ({"metadata": {"version": 2}}, "pyimportance.partition format version 2; this release reads 1"),
        ({"metadata": {"workers": "2"}}, "metadata 'workers' is '2'; must be of type int"),
        ({"metadata": {"workers": True}}, "metadata 'workers' is True; must be of type int"),
        ({"metadata": {"bins": 0}}, "bins=0: must be at least 1"),
        (
            {"metadata": {"workers": 2**40}},
            "workers=1099511627776, bins=2: their product must be at most 4194304",
        ),
        ({"metadata": {"workers": 1}}, "row 2: worker 1, bin 1; there are 1 workers of 2 bins"),
        ({"metadata": {"seed": -1}}, "seed=-1: must be at least 0"),
        ({"id": None}, "there is no column 'id'"),
        ({"id": pa.array([4.0, 2.0, 0.0, 3.0])}, "column 'id' is double with 0 nulls; must be int64 without"),
        ({"id": pa.array([4, None, 0, 3])}, "column 'id' is int64 with 1 nulls"),
        ({"id": pa.array([4, 2, 4, 3])}, "order: sample id 4 occurs more than once"),
        ({"id": pa.array([4, 2, -1, 3])}, "order: sample id -1 is negative"),
        ({"bin": pa.array([0, 1, 1, -1], INT32)}, "row 3: worker 1, bin -1"),
        ({"worker": pa.array([0, 1, 0, 1], INT32)}, "row 2: rows must be sorted by worker, then bin"),
        ({"score": pa.array([1.0] * 4, pa.float64())}, "column 'score' is double"),
    ],
)
def test_untrusted_files(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    path = tmp_path / "p.parquet"
    write(path)
    assert Partition.load(path).num_samples == 4  # the file is good but for the change
    write(path, **change)
    with pytest.raises(DataError, match=r"p\.parquet: ") as error:
        Partition.load(path)
    assert text in str(error.value)


def test_a_column_there_twice(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    PARTITION.save(path)
    table = pq.read_table(path)
    pq.write_table(table.append_column("id", table.column("id")), path)
    with pytest.raises(DataError, match=r"p\.parquet: there are 2 columns 'id'"):
        Partition.load(path)


def test_any_damaged_byte_is_a_data_error_or_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    PARTITION.save(path)
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(500):
        bad = bytearray(good)
        for at in rng.integers(0, len(good), rng.integers(1, 4)):
            bad[at] = rng.integers(256)
        path.write_bytes(bad)
        with contextlib.suppress(DataError):
            Partition.load(path)
