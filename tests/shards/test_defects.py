"""What webdataset 1.0.2 does to tars that are damaged, odd or regrouped, and what happens here instead.

Each test shows the defect with webdataset, where that is installed, and then the right thing with ours. Those
that concern the order and the number of samples that a loader yields are in ``tests/load``.
"""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import pyimportance
from pyimportance import ArgumentError, DataError, Partition, Scores, partition, write_shards
from pyimportance.io.meter import Meter

wds = pytest.importorskip("webdataset")

Divide = Callable[..., Partition]
Write = Callable[..., Path]


def plain(samples: int = 10, parts: tuple[str, ...] = ("a", "b")) -> list[tuple[str, bytes]]:
    return [(f"{i}.{part}", b"%d" % i * 100) for i in range(samples) for part in parts]


def test_3_a_tar_cut_between_members(tmp_path: Path, write_tar: Write, read_wds: Any) -> None:
    """Five of ten samples, and no error; here an error, unless one says that all is meant to be there."""
    path = write_tar(tmp_path / "a.tar", plain())
    os.truncate(path, 10 * 1024)
    assert len(read_wds(path)) == 5
    with pytest.raises(DataError, match=r"a\.tar, member '4\.b', offset 10240: truncated: no end-of-archive"):
        pyimportance.index(path)
    assert pyimportance.index(path, allow_missing_eof=True).num_samples == 5


def test_3_a_tar_cut_between_the_parts_of_a_sample(tmp_path: Path, write_tar: Write, read_wds: Any) -> None:
    """Its last sample lacks a part. Within a member even webdataset's reader notices."""
    path = write_tar(tmp_path / "a.tar", plain())
    os.truncate(path, 11 * 1024)
    assert [sorted(s) for s in read_wds(path)][-1] == ["__key__", "a"]
    with pytest.raises(DataError, match="truncated"):
        pyimportance.index(path)
    os.truncate(path, 10 * 1024 + 600)
    for allow in (False, True):
        with pytest.raises(DataError, match="truncated: the member needs 100 bytes"):
            pyimportance.index(path, allow_missing_eof=allow)


def test_4_interleaved_keys(tmp_path: Path, write_tar: Write, read_wds: Any) -> None:
    """0.a 1.a 0.b 1.b: four samples of one part each."""
    path = write_tar(tmp_path / "a.tar", [("0.a", b""), ("1.a", b""), ("0.b", b""), ("1.b", b"")])
    assert [sorted(s) for s in read_wds(path)] == [["__key__", p] for p in "aabb"]
    with pytest.raises(DataError, match="all members of a sample must be adjacent"):
        pyimportance.index(path)


def test_5_keys_with_dots(tmp_path: Path, read_wds: Any, write_tar: Write, divide: Divide) -> None:
    """What its writer takes for the samples x.0 and x.1 is read as one. Ours writes no key that reads back as
    another.
    """
    stream = io.BytesIO()
    with wds.TarWriter(stream, encoder=False) as writer:
        for i in range(2):
            writer.write({"__key__": f"x.{i}", "txt": b"%d" % i})
    (tmp_path / "a.tar").write_bytes(stream.getvalue())
    (merged,) = read_wds(tmp_path / "a.tar")
    assert merged == {"__key__": "x", "0.txt": b"0", "1.txt": b"1"}
    source = write_tar(tmp_path / "x.y.tar", [("k.txt", b"1")])
    shards = write_shards(source, divide(1, 1), tmp_path / "dir", keys="prefix")
    assert shards.index(0).key(0) == "x.y/k"  # dots of a folder part nothing
    index = pyimportance.index(source)
    dotted = replace(index, keys=pa.array(["x.0"], pa.large_string()))
    with pytest.raises(ArgumentError, match=r"key 'x\.0': a reader would not find it again in 'x\.0\.txt'"):
        write_shards(dotted, divide(1, 1), tmp_path / "out")


def test_5_keys_that_restart_in_every_shard(
    tmp_path: Path, write_tar: Write, read_wds: Any, divide: Divide
) -> None:
    """Regrouped, two samples 0 come to lie beside each other: a repeated part, or one sample of both."""
    a = write_tar(tmp_path / "a.tar", [("0.txt", b"a")])
    b = write_tar(tmp_path / "b.tar", [("0.cls", b"b")])
    regrouped = write_tar(tmp_path / "regrouped.tar", [("0.txt", b"a"), ("0.cls", b"b")])
    assert read_wds(regrouped) == [{"__key__": "0", "txt": b"a", "cls": b"b"}]
    with pytest.raises(ArgumentError, match=r"key '0' is in .*a\.tar .* and in .*b\.tar"):
        write_shards([a, b], divide(2, 1), tmp_path / "out")
    shards = write_shards([a, b], divide(2, 1), tmp_path / "out", keys="prefix")
    (path,) = shards.index(0).files
    assert sorted(s["__key__"] for s in read_wds(path)) == ["a/0", "b/0"]


def test_6_a_subset_is_not_read_whole(tmp_path: Path, write_tar: Write) -> None:
    """select_files that keeps a byte of each MB reads all; an index reads headers, a subset its samples."""
    members = [m for i in range(20) for m in ((f"{i}.cls", b"1"), (f"{i}.jpg", bytes(1 << 20)))]
    path = write_tar(tmp_path / "a.tar", members)
    read = 0

    class Counted(io.BytesIO):
        def read(self, n: int | None = -1) -> bytes:
            nonlocal read
            data = super().read(n)
            read += len(data)
            return data

    stream = Counted(path.read_bytes())
    found = wds.tariterators.tar_file_expander(
        [{"url": "a.tar", "stream": stream}], select_files=lambda name: name.endswith(".cls")
    )
    assert sum("data" in member for member in found) == 20
    assert read > 20 << 20
    meter = Meter()
    index = pyimportance.index(path, meter=meter)
    assert meter.bytes("index") < 1 << 20
    two = partition(Scores(ids=np.array([3, 7]), values=np.ones(2, np.float32)), 1)
    meters = [Meter()]
    write_shards(index, two, tmp_path / "out", meters=meters)
    assert meters[0].bytes("origin") < 2.01 * (1 << 20)


def test_7_headers_of_small_samples(tmp_path: Path, write_tar: Write, divide: Divide) -> None:
    """A float mtime costs a pax header of 1,024 bytes a member; ours writes none, whatever the source has."""
    stream = io.BytesIO()
    with wds.TarWriter(stream, encoder=False) as writer:
        for i in range(100):
            writer.write({"__key__": f"{i:04d}", "jpg": bytes(885)})
    theirs = tmp_path / "a.tar"
    theirs.write_bytes(stream.getvalue())
    with tarfile.open(theirs) as tar:
        assert all(member.pax_headers for member in tar)
    shards = write_shards(theirs, divide(100, 1), tmp_path / "out")
    (info,) = shards.shards
    assert info.nbytes == 100 * (512 + 1024) + 1024
    assert theirs.stat().st_size > 1.6 * info.nbytes
    with tarfile.open(shards.path_of(info.path)) as tar:
        assert all((m.pax_headers, m.mtime, m.uid, m.gid, m.mode) == ({}, 0, 0, 0, 0o444) for m in tar)


def test_8_pickles_and_shells(tmp_path: Path, write_tar: Write, divide: Divide, read_wds: Any) -> None:
    """.decode() unpickles what a tar calls .pkl, and a URL may be a shell command. Here payloads are bytes,
    and such a URL is refused.
    """

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "owned",))

    source = write_tar(tmp_path / "a.tar", [("k.pkl", pickle.dumps(Evil()))])
    (sample,) = read_wds(source)
    wds.autodecode.Decoder([wds.autodecode.basichandlers])(sample)
    assert (tmp_path / "owned").exists()
    (tmp_path / "owned").unlink()
    shards = write_shards(source, divide(1, 1), tmp_path / "out")
    dataset = pyimportance.ImportanceDataset(shards)
    (read,) = dataset
    assert isinstance(read["pkl"], bytes)
    assert shards.verify().ok
    assert not (tmp_path / "owned").exists()

    command = f"pipe:cat {source}; touch {tmp_path / 'owned'}"
    assert len(wds.gopen(command).read()) == source.stat().st_size
    assert (tmp_path / "owned").exists()
    (tmp_path / "owned").unlink()
    with pytest.raises((ArgumentError, DataError)):
        pyimportance.index(command)
    assert not (tmp_path / "owned").exists()
