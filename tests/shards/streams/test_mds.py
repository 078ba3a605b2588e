"""Directories of mosaicml-streaming's format, written here by its documentation."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyimportance import DataError, SampleIndex, index
from pyimportance.io.meter import Meter
from pyimportance.shards.streams import mds
from pyimportance.shards.streams.mds_values import value_of
from pyimportance.shards.streams.stream import Samples

Read = Callable[[SampleIndex], list[dict[str, Any]]]

spec = importlib.util.spec_from_file_location("mds_writer", Path(__file__).with_name("mds_writer.py"))
assert spec is not None
assert spec.loader is not None
mds_writer = importlib.util.module_from_spec(spec)
spec.loader.exec_module(mds_writer)

COLUMNS = {
    "image": "jpeg", "mask.png": "png", "class": "int", "raw": "bytes", "text": "str", "meta": "json",
    "u": "uint8", "i": "int16", "f": "float32", "si": "str_int", "sf": "str_float", "sd": "str_decimal",
    "pixels": "pil", "old": "pkl", "a": "ndarray", "b": "ndarray:int16", "c": "ndarray:float32:2,3",
}  # fmt: skip


def make(count: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {
            "image": rng.bytes(int(rng.integers(3000))), "mask.png": rng.bytes(9), "class": -i, "raw": b"",
            "text": f"ä {i}", "meta": {"i": [i]}, "u": i, "i": -i, "f": i / 2, "si": 10**30, "sf": 0.1,
            "sd": "1.10", "pixels": b"p", "old": b"\x80", "a": rng.integers(0, 99, (300, 1)).astype(np.int64),
            "b": np.arange(4, dtype=np.int16), "c": rng.random((2, 3)).astype(np.float32),
        }
        for i in range(count)
    ]  # fmt: skip


def expected(samples: list[dict[str, Any]], per_shard: int) -> list[dict[str, Any]]:
    def npy(array: Any) -> bytes:
        out = io.BytesIO()
        np.save(out, array)
        return out.getvalue()

    return [
        {
            "__key__": f"shard.{i // per_shard:05d}/{i % per_shard:08d}",
            "image.jpg": s["image"], "mask.png": s["mask.png"], "class.cls": b"%d" % s["class"], "raw": b"",
            "text.txt": s["text"].encode(), "meta.json": json.dumps(s["meta"]).encode(),
            "u.cls": b"%d" % s["u"], "i.cls": b"%d" % s["i"], "f.json": json.dumps(s["f"]).encode(),
            "si.cls": b"1" + b"0" * 30, "sf.json": b"0.1", "sd.json": b"1.10", "pixels.pil": b"p",
            "old.pkl": b"\x80", "a.npy": npy(s["a"]), "b.npy": npy(s["b"]), "c.npy": npy(s["c"]),
        }
        for i, s in enumerate(samples)
    ]  # fmt: skip


def edit_index(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    fields = json.loads((root / "index.json").read_text())
    change(fields)
    (root / "index.json").write_text(json.dumps(fields))


def shard_of(fields: dict[str, Any]) -> dict[str, Any]:
    return dict.__getitem__(fields, "shards")[0]


@pytest.mark.parametrize("compression", [None, "zstd", "zstd:7", "gz", "bz2"])
def test_every_sample_and_column(compression: str | None, tmp_path: Path, read: Read) -> None:
    samples = make(25)
    root = mds_writer.write(
        tmp_path / "in", COLUMNS, samples, per_shard=10, compression=compression, hashes=["sha1"]
    )
    edit_index(root, lambda f: shard_of(f)["raw_data"]["hashes"].update(xxh64="not known here"))
    meter = Meter()
    assert read(index(root, spool=tmp_path / "spool", meter=meter)) == expected(samples, 10)
    stored = sum(p.stat().st_size for p in root.iterdir() if p.name != "index.json")
    assert meter.bytes("origin") == stored  # once


def test_keys_of_its_own_and_unpacked_shards(tmp_path: Path, read: Read) -> None:
    samples = [{"__key__": f"k/{i}", "x": b"%d" % i} for i in range(5)]
    root = mds_writer.write(
        tmp_path / "in", {"__key__": "str", "x": "bytes"}, samples, per_shard=2, compression="zstd"
    )
    assert read(index(root, spool=tmp_path / "one")) == samples
    plain = mds_writer.write(tmp_path / "plain", {"__key__": "str", "x": "bytes"}, samples, per_shard=2)
    for shard in plain.glob("*.mds"):  # what its reader leaves there once it has unpacked a shard
        (root / shard.name).write_bytes(shard.read_bytes())
    for shard in root.glob("*.zstd"):
        shard.unlink()
    assert read(index(root, spool=tmp_path / "two")) == samples


BAD_INDEX: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "version": (lambda f: f.update(version=1), "version 1, where 2 is read"),
    "no shards": (lambda f: f.update(shards=[]), "index.json: names no shards"),
    "shards": (lambda f: f.update(shards=5), "is no index of mosaicml-streaming's"),
    "no samples": (lambda f: shard_of(f).pop("samples"), "field 'samples' is missing"),
    "another format": (lambda f: shard_of(f).update(format="jsonl"), "shard 0 is 'jsonl' 2, where 'mds'"),
    "an encoding": (
        lambda f: shard_of(f).update(column_encodings=["list[pil]", "int"]),
        "shard 0, column 'a' is 'list[pil]': it is not read; these are: bytes, str, ",
    ),
    "a path out": (
        lambda f: shard_of(f)["raw_data"].update(basename="../x.mds"),
        "basename '../x.mds' leads out of the directory",
    ),
    "an absolute path": (
        lambda f: shard_of(f)["raw_data"].update(basename="/etc/passwd"),
        "basename '/etc/passwd' leads out of the directory",
    ),
    "a compression": (
        lambda f: shard_of(f).update(compression="snappy", zip_data={"basename": "y.snappy"},
                                     raw_data={"basename": "y", "bytes": 5, "hashes": {}}),
        "shard 0 is compressed by 'snappy'; read are gz, bz2, zstd",
    ),
    "a size": (lambda f: shard_of(f)["raw_data"].update(bytes=1 << 40), "1099511627776 is no count or size"),
    "a hash": (
        lambda f: shard_of(f)["raw_data"]["hashes"].update(sha1="0" * 40),
        f"; its index says {'0' * 40}",
    ),
    "a count": (lambda f: shard_of(f).update(samples=3), "shard.00000.mds: has 2 samples; its index says 3"),
    "bytes": (lambda f: shard_of(f)["raw_data"].update(bytes=99), "positions of samples are damaged: they"),
    "columns": (lambda f: shard_of(f).update(column_names=["a"]), "is no index of mosaicml-streaming's (zip"),
    "a column less": (
        lambda f: shard_of(f).update(column_names=["a"], column_sizes=[None], column_encodings=["bytes"]),
        "shard.00000.mds: sample 0: has 13 bytes; its columns have 5",
    ),
}  # fmt: skip


@pytest.fixture
def small(tmp_path: Path) -> Path:
    samples = [{"a": b"x", "n": 1}, {"a": b"", "n": 2}]
    root = mds_writer.write(
        tmp_path / "in", {"a": "bytes", "n": "int"}, samples, per_shard=2, hashes=["sha1"]
    )
    return Path(root)


@pytest.mark.parametrize("what", BAD_INDEX)
def test_an_index_that_says_something_else(what: str, small: Path, tmp_path: Path) -> None:
    change, problem = BAD_INDEX[what]
    edit_index(small, change)
    with pytest.raises(DataError) as caught:
        index(small, spool=tmp_path / "spool")
    assert problem in str(caught.value)
    assert str(small) in str(caught.value)


def test_no_more_positions_than_bytes(small: Path, tmp_path: Path) -> None:
    """Compressed, 4 GiB of them may come out of a file of 4 MiB."""
    path, most = small / "shard.00000.mds", (1 << 30) - 1
    nbytes = path.stat().st_size
    (small / "shard.00000.mds.gz").write_bytes(gzip.compress(most.to_bytes(4, "little") + bytes(1 << 20)))
    path.unlink()
    packed = {"basename": "shard.00000.mds.gz", "bytes": 1, "hashes": {}}
    edit_index(small, lambda f: shard_of(f).update(samples=most, compression="gz", zip_data=packed))
    with pytest.raises(DataError, match=f"has {most} samples; its index says {nbytes} bytes"):
        index(small, spool=tmp_path / "spool")


def test_damaged_shards(small: Path, tmp_path: Path) -> None:
    edit_index(small, lambda f: shard_of(f)["raw_data"].update(hashes={}))
    path = small / "shard.00000.mds"
    whole = path.read_bytes()
    huge = (0xFFFFFFFF).to_bytes(4, "little")
    for data, problem in {
        b"": "ends within its count of samples: 0 of 4 bytes are there",
        whole[:6]: "ends within the positions of samples: 2 of 12 bytes are there",
        whole[:-1]: "ends within sample 1: 11 of 12 bytes are there",
        whole + b"x": f"goes on after {len(whole)} bytes, where its index ends it",
        whole[:4] + huge + whole[8:]: "positions of samples are damaged",
        whole[:-25] + huge + whole[-21:]: "sample 0: column 'a' ends after 9 of 4294967295 bytes",
    }.items():
        path.write_bytes(data)
        with pytest.raises(DataError) as caught:
            index(small, spool=tmp_path / "spool")
        assert str(caught.value).startswith(f"{path}: {problem}")
    path.unlink()
    with pytest.raises(DataError, match=r"shard\.00000\.mds: does not exist"):
        index(small, spool=tmp_path / "spool")


def test_damage_of_any_kind_is_a_data_error_or_none(small: Path) -> None:
    edit_index(small, lambda f: shard_of(f)["raw_data"].update(hashes={}))
    rng = np.random.default_rng(0)
    refused = 0
    for path in (small / "index.json", small / "shard.00000.mds"):
        whole = path.read_bytes()
        for _ in range(150):
            at, data = int(rng.integers(len(whole))), bytearray(whole)
            if rng.random() < 0.3:
                del data[at : at + int(rng.integers(1, 30))]
            else:
                data[at : at + 4] = rng.bytes(int(rng.integers(1, 9)))
            path.write_bytes(data)
            try:
                for unit in mds.stream_of(str(small)).units:
                    assert isinstance(unit, Samples)
                    list(unit.read(None))
            except DataError:
                refused += 1
        path.write_bytes(whole)
    assert refused > 200


@pytest.mark.parametrize("encoding", ["ndarray:int7", "ndarray:int8:x", "jpeg_array", "", "int128"])
def test_encodings_that_are_none(encoding: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        value_of(encoding)


@pytest.mark.parametrize(
    ("encoding", "data"),
    [("int", b"1234567"), ("ndarray", b""), ("ndarray", b"\x00\x04\x01"), ("ndarray", b"\x08\x05\x01"),
     ("ndarray", b"\x08\x04\x02x"), ("ndarray:int16:2", b"abc")],
)  # fmt: skip
def test_values_that_are_none(encoding: str, data: bytes) -> None:
    with pytest.raises(DataError):
        value_of(encoding)[1](data)
