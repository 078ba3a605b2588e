"""Parquet files: a row to a sample, a column to a part."""

from __future__ import annotations

import datetime
import decimal
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pyimportance import ArgumentError, DataError, SampleIndex, index
from pyimportance.io.meter import Meter

Read = Callable[[SampleIndex], list[dict[str, Any]]]


def write(path: Path, rows: int = 50, seed: int = 0, **options: Any) -> pa.Table:
    rng = np.random.default_rng(seed)
    images = [
        {"bytes": rng.bytes(int(rng.integers(1, 3000))), "path": f"{i}.JPEG" if i % 2 else None}
        for i in range(rows)
    ]
    table = pa.table(
        {
            "image": pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            "label": pa.array(rng.integers(-5, 1 << 40, rows)),
            "caption": pa.array([None if i % 5 == 0 else f"ä {i}" for i in range(rows)]),
            "Raw": pa.array([rng.bytes(5) for _ in range(rows)], pa.large_binary()),
            "cls": pa.array(range(rows), pa.uint8()),
            "score": pa.array(rng.random(rows)),
            "boxes": pa.array([[[i, 1], []] for i in range(rows)]),
            "when": pa.array([datetime.date(2020, 1, 2)] * rows),
            "price": pa.array([decimal.Decimal("1.10")] * rows),
            "__index_level_0__": pa.array(range(rows)),
        }
    )
    pq.write_table(table, path, **options)
    return table


def expected(table: pa.Table, keys: list[str]) -> list[dict[str, Any]]:
    """What the documentation says of these columns."""
    samples = []
    for key, row in zip(keys, table.to_pylist(), strict=True):
        image = "image.jpeg" if row["image"]["path"] else "image"
        sample = {
            "__key__": key,
            image: row["image"]["bytes"],
            "label.cls": b"%d" % row["label"],
            "raw": row["Raw"],
            "cls": b"%d" % row["cls"],
            "score.json": json.dumps(row["score"]).encode(),
            "boxes.json": json.dumps(row["boxes"], separators=(",", ":")).encode(),
            "when.json": b'"2020-01-02"',
            "price.json": b'"1.10"',
        }
        if row["caption"] is not None:
            sample["caption.txt"] = row["caption"].encode()
        samples.append(sample)
    return samples


@pytest.mark.parametrize(
    "options", [{}, {"row_group_size": 7, "compression": "zstd"}, {"use_dictionary": False}]
)
def test_every_row_and_column(tmp_path: Path, read: Read, options: Any) -> None:
    table, meter = write(tmp_path / "train-0.parquet", **options), Meter()
    got = read(index(tmp_path / "train-0.parquet", spool=tmp_path / "spool", meter=meter))
    assert got == expected(table, [f"train-0/{i:08d}" for i in range(50)])
    assert 0 < meter.bytes("origin") < 2 * (tmp_path / "train-0.parquet").stat().st_size


def test_a_folder_of_them_and_rows_larger_than_a_batch(tmp_path: Path, read: Read) -> None:
    (tmp_path / "in").mkdir()
    tables = [write(tmp_path / f"in/{i}.parquet", seed=i) for i in range(3)]
    big = pa.table({"__key__": ["a/b", "c"], "bin": [bytes(5 << 20), b"x"]})
    pq.write_table(big, tmp_path / "in/3.parquet")
    got = read(index(tmp_path / "in", spool=tmp_path / "spool"))
    wanted = [s for i, t in enumerate(tables) for s in expected(t, [f"{i}/{row:08d}" for row in range(50)])]
    assert got == [*wanted, {"__key__": "a/b", "bin": bytes(5 << 20)}, {"__key__": "c", "bin": b"x"}]


def test_text_alone_is_a_data_set(tmp_path: Path, read: Read) -> None:
    pq.write_table(pa.table({"text": ["one", "two"]}), tmp_path / "x.parquet")
    got = read(index(str(tmp_path / "x.parquet"), spool=tmp_path / "spool"))
    assert got == [
        {"__key__": "x/00000000", "text.txt": b"one"},
        {"__key__": "x/00000001", "text.txt": b"two"},
    ]


FILE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no column for a part": ({"__key__": ["a"]}, ": has no column that could be a part (columns: __key__)"),
    "no bytes behind a path": (
        {"image": pa.array([{"bytes": None, "path": "/etc/passwd"}], FILE)},
        ": row 0: field 'image' holds no bytes, only the path '/etc/passwd'",
    ),
    "nothing but nulls": ({"a": [None], "b": [None]}, ": row 0: has no parts (fields are 'a', 'b')"),
    "a key that is no text": (
        {"__key__": [1], "a": ["x"]},
        ": row 0: has '__key__' 1; a text that is not empty",
    ),
    "two of one name": (
        {"A": [b"x"], "a": [b"y"]},
        ": row 0: field 'a': another one has the extension 'a' already",
    ),
    "text and a name alike": (
        {"a": ["x"], "a.txt": ["y"]},
        ": row 0: field 'a.txt': another one has the extension 'a.txt' already",
    ),
    "bytes in a list": (
        {"a": [[b"x"]]},
        ": row 0: field 'a' is a list that is no JSON (it holds a bytes); give its bytes",
    ),
    "a dot in a key": (
        {"__key__": ["a.b"], "c": [b""]},
        "key 'a.b': a reader would not find it again in 'a.b.c'",
    ),
    "a key that leads out": ({"__key__": ["../a"], "c": [b""]}, "key '../a': its member '../a.c' "),
    "a key twice": (
        {"__key__": ["a", "b", "a"], "c": [b"", b"", b""]},
        ", member 'a': two samples have this key",
    ),
    "a slash in a name": ({"a/b": [b""]}, ": extension 'a/b' holds a slash or a control character"),
}


@pytest.mark.parametrize("what", BAD)
def test_refused(what: str, tmp_path: Path) -> None:
    columns, problem = BAD[what]
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(DataError) as caught:
        index(path, spool=tmp_path / "spool")
    assert str(caught.value).startswith(str(path))
    assert problem in str(caught.value)
    assert not list((tmp_path / "spool").glob("*.tar"))


def test_damaged_ones(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write(path)
    whole = path.read_bytes()
    for data in (
        b"",
        whole[:100],
        whole[:-1],
        whole[: len(whole) // 2] + bytes(300) + whole[len(whole) // 2 + 300 :],
    ):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"x\.parquet: is no sound Parquet file \(.+\)$"):
            index(path, spool=tmp_path / "spool")


def test_a_page_that_is_not_what_it_sums_to(tmp_path: Path, read: Read) -> None:
    """Any bytes would do for a value: that some are wrong is known by the page's checksum alone."""
    path = tmp_path / "x.parquet"
    table = pa.table({"__key__": ["a", "b"], "bin": [b"<first>", b"<second>"]})
    for checked in (False, True):
        options: Any = {"compression": "none", "use_dictionary": False, "write_statistics": False}
        pq.write_table(table, path, write_page_checksum=checked, **options)
        data = path.read_bytes()
        assert data.count(b"<second>") == 1
        path.write_bytes(data.replace(b"<second>", b"<secund>"))
        if checked:
            with pytest.raises(DataError, match=r"x\.parquet: is no sound Parquet file \(.*(CRC|checksum)"):
                index(path, spool=tmp_path / "checked")
        else:
            assert read(index(path, spool=tmp_path / "spool"))[1] == {"__key__": "b", "bin": b"<secund>"}


def test_tables_and_tars_do_not_mix(tmp_path: Path, source: Path) -> None:
    write(tmp_path / "x.parquet")
    with pytest.raises(
        ArgumentError, match=r"names Parquet files and others \('.*x\.parquet', '.*data-000\.tar'\)"
    ):
        index([source / "data-000.tar", tmp_path / "x.parquet"], spool=tmp_path / "spool")
