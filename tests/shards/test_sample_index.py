"""SampleIndex: what it refuses to be, look-ups, digest, and its file."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pyimportance
from pyimportance import ArgumentError, DataError, SampleIndex
from pyimportance.shards.combine import concatenate, keep
from pyimportance.shards.index_file import read_index


def i64(*values: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(values, np.int64)


def i32(*values: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.array(values, np.int32)


@pytest.fixture
def index() -> SampleIndex:
    return SampleIndex(
        files=("d/a.tar", "d/b.tar"),
        file_bytes=i64(4096, 4096),
        ids=i64(7, 3, 1 << 40),
        keys=pa.array(["x", "yy", "ä"], pa.large_string()),
        file=i32(0, 0, 1),
        offset=i64(0, 1024, 0),
        nbytes=i64(1024, 2048, 1024),
        extensions=("cls", "jpg"),
        part_start=i64(0, 1, 3, 4),
        part_ext=i32(0, 0, 1, 0),
        part_offset=i64(512, 1536, 2560, 512),
        part_size=i64(3, 4, 5, 6),
        score=np.array([1, np.nan, 2], np.float32),
        bin=i32(0, 1, 0),
    )


HUGE = (1 << 63) - 512


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("ids", i32(1, 2, 3), r"ids is int32 \[3\]; expected int64 \[3\]"),
        ("offset", i64(0, 1024), r"offset is int64 \[2\]; expected int64 \[3\]"),
        ("score", np.zeros(3), r"score is float64 \[3\]; expected float32"),
        ("keys", pa.array(["x", "y", "z"]), "keys must be 3 large_strings without nulls"),
        ("keys", pa.array(["x", None, "z"], pa.large_string()), "keys must be 3 large_strings without nulls"),
        ("keys", pa.array(["x", "", "z"], pa.large_string()), "a key is empty"),
        ("ids", i64(1, -2, 3), "ids holds a negative id"),
        ("extensions", ("cls", "cls"), "extensions repeat"),
        ("part_ext", i32(0, 0, 2, 0), "part_ext out of range"),
        ("part_ext", i32(0, 0, -1, 0), "part_ext out of range"),
        ("part_start", i64(0, 1, 1, 4), "part_start must rise"),
        ("part_start", i64(0, 1, 5, 4), "part_start must rise"),
        ("part_start", i64(1, 2, 3, 4), "part_start must rise"),
        ("file", i32(0, 1, 0), "file must be ascending"),
        ("file", i32(0, 0, 2), "file out of range"),
        ("file", i32(-1, 0, 1), "file out of range"),
        ("file_bytes", i64(-1, 4096), "file_bytes holds a negative size"),
        ("file_bytes", i64(2048, 4096), "a sample lies outside its file"),
        ("offset", i64(-512, 1024, 0), "a sample lies outside its file"),
        ("offset", i64(0, HUGE, 0), "a sample lies outside its file"),
        ("nbytes", i64(1024, HUGE, 1024), "a sample lies outside its file"),
        ("nbytes", i64(1024, 2047, 1024), "a sample is not on a tar block"),
        ("part_offset", i64(512, 1536, 4096, 512), "a part lies outside its sample"),
        ("part_offset", i64(512, 1023, 2560, 512), "a part lies outside its sample"),
        ("part_size", i64(3, 4, HUGE, 6), "a part lies outside its sample"),
        ("part_size", i64(3, 4, -1, 6), "a part lies outside its sample"),
    ],
)
def test_refuses(index: SampleIndex, field: str, value: Any, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        replace(index, **{field: value})


def test_arrays_are_read_only(index: SampleIndex) -> None:
    with pytest.raises(ValueError, match="read-only"):
        index.offset[0] = 1


def test_rows_of(index: SampleIndex) -> None:
    assert index.rows_of(i64(1 << 40, 7, 7, 3)).tolist() == [2, 0, 0, 1]
    assert index.rows_of(i64()).tolist() == []
    with pytest.raises(ArgumentError, match="2 of 3 ids are not among the 3 samples; the first is 9"):
        index.rows_of(i64(9, 7, 8))
    with pytest.raises(ArgumentError, match="1 of 1 ids are not among the 0 samples; the first is 7"):
        keep(index, np.zeros(3, bool)).rows_of(i64(7))
    with pytest.raises(ArgumentError, match="ids holds 3 twice"):
        replace(index, ids=i64(3, 9, 3)).rows_of(i64(3))


def test_payload_bytes(index: SampleIndex) -> None:
    assert index.payload_bytes.tolist() == [3, 9, 6]
    assert keep(index, np.zeros(3, bool)).payload_bytes.tolist() == []


def test_digest_depends_on_the_data_and_not_on_the_place(index: SampleIndex) -> None:
    assert replace(index, files=("/else/where/a.tar", "/else/where/b.tar")).digest == index.digest
    assert index.relative_files == ("a.tar", "b.tar")
    changed = [
        replace(index, files=("d/a.tar", "d/c.tar")),
        replace(index, keys=pa.array(["xy", "y", "ä"], pa.large_string())),
        replace(index, part_size=i64(3, 4, 5, 7)),
        replace(index, extensions=("cls", "png")),
        replace(index, ids=i64(7, 3, 4)),
    ]
    assert len({index.digest, *(c.digest for c in changed)}) == 6


def test_keep_and_concatenate(index: SampleIndex) -> None:
    first, second = keep(index, np.array([True, True, False])), keep(index, np.array([False, False, True]))
    assert first.files == ("d/a.tar",)
    assert second.files == ("d/b.tar",)
    assert second.part_offset.tolist() == [512]
    assert concatenate([first, second]).digest == index.digest
    other = replace(second, extensions=("avi", "bmp"), files=("d/z.tar",))
    both = concatenate([other, first])
    assert both.extensions == ("avi", "bmp", "cls", "jpg")
    assert both.part_ext.tolist() == [0, 2, 2, 3]
    assert both.file.tolist() == [0, 1, 1]
    assert both.score is not None
    assert both.score.tolist()[0] == 2.0
    assert concatenate([replace(first, score=None), second]).score is None


def test_files_round_trip(index: SampleIndex, tmp_path: Path, source: Path) -> None:
    for case in (
        index,
        replace(index, score=None, bin=None),
        pyimportance.index(source),
    ):
        case.save(tmp_path / "a.arrow")
        back = SampleIndex.load(tmp_path / "a.arrow")
        assert back.digest == case.digest
        assert back.files == case.files
        for name in ("score", "bin"):
            np.testing.assert_array_equal(getattr(back, name), getattr(case, name))
        bytes_before = (tmp_path / "a.arrow").read_bytes()
        back.save(tmp_path / "a.arrow")
        assert (tmp_path / "a.arrow").read_bytes() == bytes_before


def test_an_empty_index_round_trips(index: SampleIndex, tmp_path: Path) -> None:
    keep(index, np.zeros(3, bool)).save(tmp_path / "a.arrow")
    back = SampleIndex.load(tmp_path / "a.arrow")
    assert (len(back), back.files, back.bin is not None) == (0, (), True)


def test_any_arrow_reader_sees_extensions(index: SampleIndex, tmp_path: Path) -> None:
    index.save(tmp_path / "a.arrow")
    with pa.ipc.open_file(tmp_path / "a.arrow") as reader:
        assert reader.num_record_batches == 2
        table = reader.read_all()
    assert table["key"].to_pylist() == ["x", "yy", "ä"]
    assert table["parts"].to_pylist()[1] == [
        {"extension": "cls", "offset": 1536, "size": 4},
        {"extension": "jpg", "offset": 2560, "size": 5},
    ]


def rewrite(path: Path, change: Any) -> None:
    """Puts an altered table into the file, its schema's metadata kept unless altered."""
    with pa.ipc.open_file(path) as reader:
        table = change(reader.read_all())
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        for batch in table.to_batches():
            writer.write_batch(batch)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: t.replace_schema_metadata({}), "is an Arrow file, but not an index"),
        (lambda t: t.replace_schema_metadata({**t.schema.metadata, b"version": b"9"}), "format version 9"),
        (
            lambda t: t.replace_schema_metadata({**t.schema.metadata, b"files": b"[1]"}),
            "metadata 'files' is not",
        ),
        (
            lambda t: t.replace_schema_metadata({**t.schema.metadata, b"files": b"[]"}),
            "has 2 batches for 0 files",
        ),
        (lambda t: t.drop_columns("key"), "has 0 columns named 'key'; expected one"),
        (lambda t: t.append_column("id", t["id"]), "has 2 columns named 'id'"),
        (
            lambda t: t.set_column(0, "id", t["id"].cast(pa.int32(), safe=False)),
            "column 'id' is int32; expected",
        ),
        (lambda t: t.set_column(0, "id", pa.array([1, None, 2], pa.int64())), "holds nulls"),
        (lambda t: t.set_column(2, "offset", pa.array([0, 1 << 40, 0])), "a sample lies outside its file"),
    ],
)
def test_files_that_are_no_index(index: SampleIndex, tmp_path: Path, change: Any, text: str) -> None:
    path = tmp_path / "bad.arrow"
    index.save(path)
    rewrite(path, change)
    with pytest.raises(DataError, match=rf"bad\.arrow: .*{text}"):
        SampleIndex.load(path)


def test_files_that_are_damaged(index: SampleIndex, tmp_path: Path) -> None:
    path = tmp_path / "bad.arrow"
    for data in (b"x", b"ARROW1\0\0" + bytes(100)):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"bad\.arrow: is no sound index"):
            SampleIndex.load(path)
    index.save(path)
    with pytest.raises(DataError, match=r"has CRC32C 0x\w+; the manifest says 0x0000007b"):
        read_index(path, crc32c=123)
    os.truncate(path, path.stat().st_size - 8)
    with pytest.raises(DataError, match="is no sound index"):
        SampleIndex.load(path)


@settings(max_examples=300)
@given(at=st.floats(0, 1, exclude_max=True), new=st.binary(min_size=1, max_size=8))
def test_damage_is_read_or_refused(tmp_path: Path, index: SampleIndex, at: float, new: bytes) -> None:
    path = tmp_path / "fuzz.arrow"
    index.save(path)
    data = bytearray(path.read_bytes())
    place = int(at * len(data))
    data[place : place + len(new)] = new
    path.write_bytes(data)
    with suppress(DataError):
        loaded = SampleIndex.load(path)
        assert (loaded.offset + loaded.nbytes <= loaded.file_bytes[loaded.file]).all()
