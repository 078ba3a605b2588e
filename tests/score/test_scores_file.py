"""A Scores file that somebody else made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pyimportance import DataError, Scores

SCALARS = {"version": 1, "measure": "aum", "descending": False, "metadata": {}}


def write(path: Path, scalars: Any = None, key: pa.Array | None = None) -> None:
    """A file of three scores, but for the given scalars (bytes: as they are) or keys."""
    columns = {
        "id": pa.array([0, 1, 2], pa.int64()),
        "key": pa.array(["a", "b", "c"], pa.large_string()) if key is None else key,
        "score": pa.array([1.0, 2.0, 3.0], pa.float32()),
    }
    text = scalars if isinstance(scalars, bytes) else json.dumps({**SCALARS, **(scalars or {})}).encode()
    pq.write_table(pa.table(columns).replace_schema_metadata({b"pyimportance.scores": text}), path)


def not_utf8() -> pa.Array:
    """Three large strings, the second of which is no text."""
    binary = pa.array([b"a", b"\xff\xfe", b"c"], pa.large_binary())
    return pa.Array.from_buffers(pa.large_string(), 3, binary.buffers())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"key": not_utf8()}, "damaged: .*UTF8"),
        ({"scalars": b"[" * 100_000}, "the metadata 'pyimportance.scores' is not JSON"),
        ({"scalars": b"\xff"}, "the metadata 'pyimportance.scores' is not JSON"),
        ({"scalars": {"measure": "\ud800"}}, "the metadata 'pyimportance.scores' is not JSON"),
        ({"scalars": {"version": True}}, "pyimportance.scores format version True; this release reads 1"),
        ({"scalars": {"version": 1.0}}, r"pyimportance.scores format version 1\.0; this release reads 1"),
        ({"scalars": {"metadata": []}}, r"metadata 'metadata' is \[\]; must be of type dict"),
    ],
)
def test_untrusted_files(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    path = tmp_path / "s.parquet"
    write(path)
    assert Scores.load(path).values.tolist() == [1, 2, 3]  # the file is good but for the change
    write(path, **change)
    with pytest.raises(DataError, match=r"s\.parquet: " + text):
        Scores.load(path)


def test_columns_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    write(path)
    table = pq.read_table(path)
    pq.write_table(table.append_column("more", pa.array([[1], None, []])), path)
    assert Scores.load(path).num_samples == 3
