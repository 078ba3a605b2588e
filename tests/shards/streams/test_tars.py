"""Compressed tars: read once, and the same samples as of the plain ones."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from pyimportance import ArgumentError, DataError, index
from pyimportance.io.meter import Meter
from pyimportance.shards.spool import spool

PACKED: dict[str, Callable[[bytes], bytes]] = {
    "tar.gz": gzip.compress,
    "tgz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
    "tar.zst": zstandard.ZstdCompressor(write_checksum=True).compress,
    "TAR.ZST": zstandard.compress,
}


@pytest.fixture(params=PACKED)
def packed(request: pytest.FixtureRequest, source: Path, tmp_path: Path) -> Path:
    """The tars of ``source``, compressed."""
    folder = tmp_path / "packed"
    folder.mkdir()
    for tar in source.iterdir():
        (folder / f"{tar.stem}.{request.param}").write_bytes(PACKED[request.param](tar.read_bytes()))
    return folder


def test_they_come_out_as_they_went_in(packed: Path, source: Path, tmp_path: Path) -> None:
    meter, seen = Meter(), list[tuple[int, int]]()
    got = spool(packed, tmp_path / "spool", meter=meter, progress=lambda *at: seen.append(at))
    plain = index(source)
    assert [Path(f).read_bytes() for f in got.files] == [Path(f).read_bytes() for f in plain.files]
    assert [Path(f).name[7:] for f in got.files] == [Path(f).name for f in plain.files]
    for column in ("ids", "file", "offset", "nbytes", "part_offset", "part_size"):
        assert getattr(got, column).tolist() == getattr(plain, column).tolist()
    assert got.keys.equals(plain.keys)
    total = sum(p.stat().st_size for p in packed.iterdir())
    assert meter.bytes("origin") == total  # once
    assert seen[-1] == (total, total)
    again = index(tmp_path / "spool", checksums=True)  # the directory is a source itself
    assert again.digest == got.digest
    assert index(packed, spool=tmp_path / "spool").digest == got.digest


def test_by_pattern_list_and_among_plain_ones(source: Path, tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress((source / "data-000.tar").read_bytes()))
    for name, given in {"a": f"{tmp_path}/*.tar.gz", "b": [tmp_path / "x.tar.gz"]}.items():
        assert len(index(given, spool=tmp_path / name)) == 25
    both = index([tmp_path / "x.tar.gz", source / "data-001.tar"], spool=tmp_path / "both")
    assert len(both) == 26
    assert len(index(tmp_path / "x.tar.gz", spool=tmp_path / "a2", limit=3)) == 3


def test_many_members_and_frames(source: Path, tmp_path: Path, read_tar: Any) -> None:
    data = (source / "data-003.tar").read_bytes()
    half = len(data) // 2
    skippable = b"\x5e\x2a\x4d\x18\x05\0\0\0table"
    packed = {
        "x.tar.gz": gzip.compress(data[:half]) + gzip.compress(data[half:]) + bytes(100),
        "x.tar.bz2": bz2.compress(data[:half]) + bz2.compress(data[half:]),
        "x.tar.xz": lzma.compress(data[:half]) + bytes(8) + lzma.compress(data[half:]) + bytes(4),
        "x.tar.zst": zstandard.compress(data[:half]) + zstandard.compress(data[half:]) + skippable,
    }
    for name, bytes_ in packed.items():
        (tmp_path / name).write_bytes(bytes_)
        (tar,) = spool(tmp_path / name, tmp_path / f"spool-{name}").files
        assert Path(tar).read_bytes() == data, name


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz", "tar.zst"])
def test_cut_off_anywhere_it_is_refused(kind: str, source: Path, tmp_path: Path) -> None:
    whole = PACKED[kind]((source / "data-003.tar").read_bytes())
    path = tmp_path / f"x.{kind}"
    for cut in (0, 1, 7, len(whole) // 3, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError) as caught:
            index(path, spool=tmp_path / "spool")
        assert str(caught.value).startswith(str(path))
        if cut:
            assert re.search(r"cannot be decompressed \(.+\)$", str(caught.value))
    path.write_bytes(whole)  # the same directory is good for what is whole
    assert len(index(path, spool=tmp_path / "spool")) == 40


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz", "tar.zst"])
def test_damaged_it_is_refused(kind: str, source: Path, tmp_path: Path) -> None:
    whole = bytearray(PACKED[kind]((source / "data-003.tar").read_bytes()))
    whole[len(whole) // 2 : len(whole) // 2 + 40] = b"\xff" * 40
    (tmp_path / f"x.{kind}").write_bytes(whole)
    with pytest.raises(DataError):  # by the decoder, its checksum, or the tar's headers
        index(tmp_path / f"x.{kind}", spool=tmp_path / "spool")
    assert not list((tmp_path / "spool").glob("*.tar"))


def test_its_members_are_held_to_the_same_rules(tmp_path: Path, write_tar: Any) -> None:
    plain = write_tar(tmp_path / "x.tar", [("0.a", b""), ("1.a", b""), ("0.b", b"")])
    with pytest.raises(DataError) as expected:
        index(plain)
    (tmp_path / "x.tar.zst").write_bytes(zstandard.compress(plain.read_bytes()))
    with pytest.raises(DataError) as caught:
        index(tmp_path / "x.tar.zst", spool=tmp_path / "spool")
    assert str(caught.value) == str(expected.value).replace("x.tar", "x.tar.zst")
    link = tarfile.TarInfo("1.txt")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(tmp_path / "y.tar.gz", "w:gz") as tar:
        tar.addfile(link)
    with pytest.raises(DataError, match=r"y\.tar\.gz, member '1\.txt', offset 0: "):
        index(tmp_path / "y.tar.gz", spool=tmp_path / "spool")


def test_what_memory_a_header_asks_for_is_bounded(tmp_path: Path) -> None:
    wide = lzma.compress(bytes(100), filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}])
    (tmp_path / "x.tar.xz").write_bytes(wide)
    with pytest.raises(DataError, match=r"cannot be decompressed \(Memory usage limit exceeded\)"):
        index(tmp_path / "x.tar.xz", spool=tmp_path / "spool")
    options = zstandard.ZstdCompressionParameters(window_log=30)
    deflate = zstandard.ZstdCompressor(compression_params=options).compressobj()
    (tmp_path / "x.tar.zst").write_bytes(deflate.compress(bytes(1000)) + deflate.flush())
    with pytest.raises(DataError, match=r"cannot be decompressed \(.*too much memory"):
        index(tmp_path / "x.tar.zst", spool=tmp_path / "spool")


def test_without_a_spool_it_says_what_is_needed(tmp_path: Path) -> None:
    for name in ("a.tar.gz", "b.tar.gz"):
        (tmp_path / name).touch()
    with pytest.raises(ArgumentError) as caught:
        index(f"{tmp_path}/{{a,b}}.tar.gz")
    assert str(caught.value) == (
        f"source is '{tmp_path}/a.tar.gz' and 1 more tars, which is read from its start to its end; "
        "give spool=DIR, a directory for a copy of it in plain tars"
    )


def test_missing_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.tar\.gz: does not exist"):
        index(tmp_path / "none.tar.gz", spool=tmp_path / "spool")
    assert not (tmp_path / "spool").exists()
