"""Scores: what it accepts, and its way to disk and back."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pyimportance import ArgumentError, DataError, OutputError, Scores


def test_plain_values() -> None:
    scores = Scores(values=[3, 1.5, float("nan")])
    assert scores.values.dtype == np.float32
    assert scores.num_samples == 3
    assert scores.ids is None
    assert scores.sample_ids().tolist() == [0, 1, 2]
    assert scores.descending


def test_arrays_are_read_only_and_the_callers_stay_writable() -> None:
    values, ids = np.ones(2, np.float32), np.array([4, 2**40])
    scores = Scores(values=values, ids=ids)
    with pytest.raises(ValueError, match="read-only"):
        scores.values[0] = 2
    with pytest.raises(ValueError, match="read-only"):
        scores.sample_ids()[0] = 2
    values[0] = ids[0] = 3


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_copies_are_as_read_only(how: Callable[[Scores], Scores]) -> None:
    scores = Scores(
        values=[1, 2], ids=[3, 5], measure="m", descending=False, keys=["a", "b"], metadata={"k": "v"}
    )
    back = how(scores)
    assert (back.measure, back.descending, back.metadata) == ("m", False, {"k": "v"})
    assert back.keys == scores.keys
    assert back.values.tolist() == [1, 2]
    assert back.sample_ids().tolist() == [3, 5]
    with pytest.raises(ValueError, match="read-only"):
        back.values[0] = 9
    with pytest.raises(TypeError):
        back.metadata["k"] = "w"  # type: ignore[index]


MASKED = np.ma.array([1, 2], mask=[False, True])  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"values": [[1.0], [1.0, 2.0]]}, "values: no array can be made of this list"),
        ({"values": [1], "metadata": None}, "metadata=None: must be a mapping of strings to strings"),
        ({"values": MASKED}, r"values: .* MaskedArray \(1 of its 2 numbers are masked; fill them first\)"),
        ({"ids": MASKED, "values": [1, 2]}, r"ids: .* MaskedArray \(1 of its 2 numbers"),
        ({"values": [[1.0]]}, r"values: float64 of shape \[1, 1\]; must be real numbers \[N\]"),
        ({"values": ["a"]}, r"values: <U1"),
        ({"values": [1, 2], "ids": [1]}, "ids: 1 of them for 2 values"),
        ({"values": [1, 2], "ids": [2, 2]}, "ids: 2 at position 1 follows 2; ids must ascend strictly"),
        ({"values": [1, 2], "ids": [-1, 2]}, "ids: -1 at position 0 is negative"),
        ({"values": [1, 2], "ids": [0.0, 1.0]}, r"ids: float64 of shape \[2\]; must be integers \[N\]"),
        ({"values": [1, 2], "keys": ["a"]}, "keys: 1 of them, 0 missing, for 2 values"),
        ({"values": [1, 2], "keys": ["a", None]}, "keys: 2 of them, 1 missing, for 2 values"),
        (
            {"values": [1, 2], "metadata": {"epochs": 3}},
            "metadata: 'epochs' is 3; keys and values must be strings",
        ),
        ({"values": [1], "descending": 1}, "descending=1: must be a string and a bool"),
    ],
)
def test_what_is_refused(fields: dict[str, object], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        Scores(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [0, 1, 33, 70_000])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("keyed", [False, True])
def test_round_trip(tmp_path: Path, n: int, sparse: bool, keyed: bool) -> None:
    rng = np.random.default_rng(n)
    values = rng.normal(size=n).astype(np.float32)
    values[: n // 5] = [np.nan, np.inf, -np.inf, -0.0][n % 4]
    scores = Scores(
        values=values,
        ids=2**40 + 3 * np.arange(n) if sparse else None,
        measure="aum",
        descending=False,
        keys=[f"k/{i:06d}" for i in range(n)] if keyed else None,
        metadata={"epochs": "3", "ü": "ß"},
    )
    scores.save(tmp_path / "s.parquet")
    back = Scores.load(tmp_path / "s.parquet")
    assert back.values.tobytes() == scores.values.tobytes()
    assert (back.ids is None) == (not sparse or n == 0)
    np.testing.assert_array_equal(back.sample_ids(), scores.sample_ids())
    assert (back.measure, back.descending, back.metadata) == ("aum", False, {"epochs": "3", "ü": "ß"})
    assert back.keys == scores.keys
    assert [p.name for p in tmp_path.iterdir()] == ["s.parquet"]


def test_consecutive_ids_cost_next_to_nothing(tmp_path: Path) -> None:
    Scores(values=np.random.default_rng(0).random(100_000, np.float32)).save(tmp_path / "s.parquet")
    assert (tmp_path / "s.parquet").stat().st_size < 4.1 * 100_000


def table(**change: object) -> pa.Table:
    text = '{"version": 1, "measure": "m", "descending": true, "metadata": {}}'
    columns = {"id": pa.array([1, 2]), "score": pa.array([0.5, 1.5], pa.float32())}
    metadata = {"pyimportance.scores": text}
    for key, value in change.items():
        if key == "metadata":
            metadata = {"pyimportance.scores": value} if value else {}
        elif value is None:
            del columns[key]
        else:
            columns[key] = value
    return pa.table(columns).replace_schema_metadata(metadata)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"id": None}, "there is no column 'id'"),
        ({"score": None}, "there is no column 'score'"),
        ({"score": pa.array([1.0, 2.0])}, "column 'score' is double with 0 nulls; must be float without"),
        ({"score": pa.array([1.0, None], pa.float32())}, "column 'score' is float with 1 nulls"),
        ({"id": pa.array([2, 1])}, "ids: 1 at position 1 follows 2"),
        ({"key": pa.array(["a", "b"])}, "column 'key' is string with 0 nulls; must be large_string"),
        ({"metadata": ""}, "not scores: its schema metadata has no 'pyimportance.scores'"),
        ({"metadata": "{"}, "the metadata 'pyimportance.scores' is not JSON"),
        ({"metadata": "[1]"}, "scores format version None; this release reads 1"),
        ({"metadata": '{"version": 2}'}, "scores format version 2; this release reads 1"),
        ({"metadata": '{"version": 1, "measure": 3}'}, "metadata 'measure' is 3; must be of type str"),
        (
            {"metadata": '{"version": 1, "measure": "m", "descending": true, "metadata": {"a": 1}}'},
            "metadata: 'a' is 1; keys and values must be strings",
        ),
    ],
)
def test_files_that_are_something_else(tmp_path: Path, change: dict[str, object], text: str) -> None:
    path = tmp_path / "s.parquet"
    pq.write_table(table(**change), path)
    with pytest.raises(DataError, match=text) as caught:
        Scores.load(path)
    assert caught.value.path == str(path)


def test_the_table_of_the_test_above_is_good(tmp_path: Path) -> None:
    pq.write_table(table(), tmp_path / "s.parquet")
    assert Scores.load(tmp_path / "s.parquet").sample_ids().tolist() == [1, 2]


def test_no_file_and_no_parquet(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        Scores.load(tmp_path / "none")
    (tmp_path / "text").write_text("scores")
    with pytest.raises(DataError, match="not a Parquet file"):
        Scores.load(tmp_path / "text")
    with pytest.raises(OutputError, match="cannot be written"):
        Scores(values=[1.0]).save(tmp_path / "nowhere" / "s.parquet")
