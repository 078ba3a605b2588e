"""Headers of every dialect against Python's tarfile, and everything that must be refused."""

from __future__ import annotations

import bz2
import io
import random
import re
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import pyimportance
from pyimportance import ArgumentError, DataError, SampleIndex
from pyimportance.io.meter import Meter
from pyimportance.shards.index import scan_file

Write = Callable[..., Path]
NAMES = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")


def header(name: bytes = b"a.txt", size: bytes = b"00000000003\0", **fields: bytes) -> bytes:
    """A header block with whatever bytes in its fields, and a right checksum unless ``sum`` is given."""
    block = bytearray(512)
    block[: len(name)] = name
    block[124 : 124 + len(size)] = size
    block[156:157] = fields.get("type", b"0")
    block[257:265] = fields.get("magic", b"ustar\00000")
    prefix = fields.get("prefix", b"")
    block[345 : 345 + len(prefix)] = prefix
    block[148:156] = b" " * 8
    block[148:156] = fields.get("sum", b"%06o\0 " % sum(block))
    return bytes(block)


def block(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


END = bytes(1024)
FILE = header() + block(b"abc")


def as_tarfile_sees(path: Path) -> list[tuple[str, str, int, int]]:
    found = []
    with tarfile.open(path) as tar:
        for m in tar:
            match = NAMES.match(m.name)
            if m.isreg() and match and not re.match(r"__[^/]*__($|/)", m.name):
                found.append((match[1], match[2].lower(), m.offset_data, m.size))
    return found


def as_we_see(index: SampleIndex) -> list[tuple[str, str, int, int]]:
    return [
        (
            index.key(row),
            index.extensions[index.part_ext[p]],
            int(index.part_offset[p]),
            int(index.part_size[p]),
        )
        for row in range(index.num_samples)
        for p in range(index.part_start[row], index.part_start[row + 1])
    ]


def test_every_dialect(source: Path) -> None:
    for path in sorted(source.iterdir()):
        assert as_we_see(scan_file(str(path))) == as_tarfile_sees(path)


def test_a_sample_reaches_from_its_first_header_to_its_last_block(source: Path) -> None:
    for path in sorted(source.iterdir()):
        index = scan_file(str(path))
        ends = (index.offset + index.nbytes).tolist()
        assert index.offset.tolist() == [0, *ends][: len(ends)]  # pax headers belong to their member


@pytest.mark.parametrize(
    ("name", "sample"),
    [
        ("a.b", ("a", "b")),
        ("a.B.Gz", ("a", "b.gz")),
        ("d.e/a.b.c", ("d.e/a", "b.c")),
        ("./a.b", ("./a", "b")),
        ("a..b", ("a", ".b")),
        ("..a/b../c.x", ("..a/b../c", "x")),
        (".../a.x", (".../a", "x")),
        ("a\\b.c", ("a\\b", "c")),
        ("a.", ("a", "")),
        ("x/.b", ("x/", "b")),
        ("x.y/.b", None),
        (".b", None),
        ("x.y/b", None),
        ("plain", None),
        ("__meta__", None),
        ("__meta.x__", None),
        ("__m__/a.b", None),
        ("__m/a.b", ("__m/a", "b")),
        ("d/__m__.b", ("d/__m__", "b")),
        ("Ünï/ä.ö", ("Ünï/ä", "ö")),
    ],
)
def test_names(
    tmp_path: Path, write_tar: Write, read_wds: Any, name: str, sample: tuple[str, str] | None
) -> None:
    path = write_tar(tmp_path / "a.tar", [(name, b"x")])
    expected = [] if sample is None else [sample]
    assert [(k, e) for k, e, _, _ in as_we_see(scan_file(str(path)))] == expected
    assert [(s.pop("__key__"), *s) for s in read_wds(path)] == expected


def test_other_members_do_not_part_a_sample(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in [("a.x", b"0"), ("d", b"5"), ("__i__", b"0"), ("README", b"0"), ("a.y", b"0")]:
            info = tarfile.TarInfo(name)
            info.type = kind
            tar.addfile(info)
    assert [(k, e) for k, e, _, _ in as_we_see(scan_file(str(path)))] == [("a", "x"), ("a", "y")]


@pytest.mark.parametrize(
    "size", [b"\x80" + (3).to_bytes(11, "big"), b"3\0", b"         3 \0", b"3           "]
)
def test_ways_to_write_a_size(tmp_path: Path, size: bytes) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(header(size=size) + block(b"abc") + END)
    assert as_we_see(scan_file(str(path))) == [("a", "txt", 512, 3)]


def test_old_headers(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    v7 = header(b"v.txt", magic=bytes(8), type=b"\0", prefix=b"junk")
    gnu = header(b"g.txt", magic=b"ustar  \0", prefix=b"12345670123\0")
    folder = header(b"dir/", b"00000000000\0", magic=bytes(8), type=b"\0")
    path.write_bytes(v7 + block(b"abc") + folder + gnu + block(b"abc") + END)
    assert [k for k, _, _, _ in as_we_see(scan_file(str(path)))] == ["v", "g"]


PAX = header(b"pax", b"%011o\0", type=b"x")


def pax(records: bytes, kind: bytes = b"x") -> bytes:
    return header(b"pax", b"%011o\0" % len(records), type=kind) + block(records)


BAD = {
    "empty": (b"", "is empty, not a tar", None),
    "text": (b"hello" * 300, "checksum field is no octal number|no tar header, or a damaged one", 0),
    "gzip": (b"\x1f\x8b" + bytes(600), "compressed \\(gzip\\); decompress it first", 0),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(600), "compressed \\(zstd\\)", 0),
    "sum": (header(sum=b"000001\0 ") + END, "no tar header, or a damaged one: its checksum", 0),
    "no end": (FILE, "'a.txt', offset 1024: truncated: no end-of-archive blocks after this", 1024),
    "half an end": (FILE + bytes(512), "'a.txt'.*: one block of zeros at the end after this member", 1024),
    "half a header": (FILE + header()[:100], "'a.txt'.*: the file ends within a header after this", 1024),
    "half a first header": (
        header()[:100],
        ", offset 0: truncated: the file ends within a header$",
        0,
    ),
    "half a payload": (
        header(size=b"00000001000\0") + bytes(400),
        "needs 512 bytes from 512, the file ends at 912",
        0,
    ),
    "half a padding": (header() + b"abc", "truncated: the member needs 3 bytes from 512", 0),
    "after the end": (FILE + END + FILE, "data after the end-of-archive blocks", 2048),
    "lone zero block": (FILE + bytes(512) + FILE, "data after the end-of-archive blocks", 1536),
    "negative size": (header(size=b"\xff" * 12) + END, "the size is negative or above 2\\^62", 0),
    "huge size": (header(size=b"\x80" + b"\x7f" * 11) + END, "the size is negative or above 2\\^62", 0),
    "size of 2^62": (
        header(size=b"\x80\0\0\0\x40" + bytes(7)) + END,
        "above 2\\^62|needs 4611686018427387904",
        0,
    ),
    "size of 2^62-1": (
        header(size=b"\x80\0\0\0\x3f" + b"\xff" * 7) + END,
        "needs 4611686018427387903 bytes",
        0,
    ),
    "size in letters": (header(size=b"12x\0") + END, "the size is no octal number", 0),
    "hard link": (header(type=b"1") + END, "member 'a.txt', offset 0: is a hard link; only plain files", 0),
    "symlink": (header(type=b"2") + END, "member 'a.txt', offset 0: is a symbolic link", 0),
    "device": (header(type=b"3") + END, "is a device", 0),
    "fifo": (header(type=b"6") + END, "is a FIFO", 0),
    "sparse": (header(type=b"S") + END, "is a sparse file", 0),
    "unknown": (header(type=b"Q") + END, "is of unknown type 'Q'", 0),
    "control type": (header(type=b"\x01") + END, "is of unknown type '\\?'", 0),
    "no name": (header(b"") + block(b"abc") + END, "member without a name", 0),
    "not UTF-8": (header(b"\xff.txt") + block(b"abc") + END, "name of a member is not UTF-8", 0),
    "surrogate": (header(b"\xed\xa0\x80.txt") + block(b"abc") + END, "is not UTF-8", 0),
    "overlong": (header(b"\xc0\xaf.txt") + block(b"abc") + END, "is not UTF-8", 0),
    "absolute": (header(b"/etc/a.txt") + block(b"abc") + END, "'/etc/a.txt'.*name begins with a slash", 0),
    "upwards": (FILE + header(b"../a.txt") + block(b"abc") + END, "'../a.txt'.*has a component '..'", 1024),
    "upwards within": (header(b"./a/../b.txt") + block(b"abc") + END, "below the folder they are unpack", 0),
    "upwards at the end": (header(b"a/..") + block(b"abc") + END, "name has a component '..'", 0),
    "upwards, no sample": (header(b"..", b"0", type=b"5") + FILE + END, "name has a component '..'", 0),
    "upwards by a prefix": (header(prefix=b"..") + block(b"abc") + END, "'../a.txt'.*has a component", 0),
    "upwards by pax": (pax(b"15 path=../a.x\n") + FILE + END, "'../a.x', offset 1024: name has", 1024),
    "backslash": (header(b"\\a.txt") + block(b"abc") + END, "name begins with a slash", 0),
    "backslashes": (header(b"a\\..\\b.txt") + block(b"abc") + END, "name has a component '..'", 0),
    "newline": (header(b"a\nb.txt") + block(b"abc") + END, "name holds a control character", 0),
    "pax NUL": (pax(b"14 path=a\0.x\n") + FILE + END, "a record has a wrong length|control character", None),
    "pax NUL in path": (pax(b"13 path=a\0.x\n") + FILE + END, "name holds a control character", 1024),
    "pax length": (pax(b"99 path=a.x\n") + FILE + END, "a record has a wrong length", 0),
    "pax length 0": (pax(b"0 path=a.x\n") + FILE + END, "a record has a wrong length", 0),
    "pax long length": (pax(b"9" * 40 + b" a=b\n") + FILE + END, "the length of a record is no number", 0),
    "pax no length": (pax(b"path=a.x\n") + FILE + END, "pax header: a record has no length", 0),
    "pax no equals": (pax(b"8 path\n\n") + FILE + END, "a record has no '='", 0),
    "pax rest": (pax(b"12 path=a.x\n\0\0z") + FILE + END, "data after the last record", 0),
    "pax size": (pax(b"29 size=99999999999999999999\n") + FILE + END, "the size is no number from 0", 0),
    "pax negative": (pax(b"11 size=-1\n") + FILE + END, "the size is no number from 0", 0),
    "pax size too large": (pax(b"13 size=9999\n") + FILE + END, "needs 9999 bytes from 1536", 1024),
    "pax sparse": (pax(b"22 GNU.sparse.major=1\n") + FILE + END, "is a sparse file", 0),
    "pax realsize": (pax(b"22 SCHILY.realsize=12\n") + FILE + END, "is a sparse file", 0),
    "pax claims much": (
        header(b"p", b"77777777777\0", type=b"x") + END,
        "pax header of 8589934591 bytes; at most",
        0,
    ),
    "pax cut": (
        header(b"p", b"00000004000\0", type=b"x") + END,
        "truncated: the file ends within a pax header",
        0,
    ),
    "pax alone": (pax(b"12 path=a.x\n") + END, "a header announces a member that is not there", 0),
    "two pax": (pax(b"12 path=a.x\n") * 2 + FILE + END, "two extended headers before one member", 1024),
    "global path": (pax(b"12 path=a.x\n", b"g") + FILE + END, "a global pax header sets a path", 0),
    "pax empty path": (pax(b"8 path=\n") + FILE + END, "pax header: the path is empty", 0),
    "pax empty size": (pax(b"8 size=\n") + FILE + END, "pax header: the size is empty", 0),
    "GNU name empty": (header(size=b"0", type=b"L") + FILE + END, "GNU long name: is empty", 0),
    "GNU name of NULs": (header(type=b"L") + bytes(512) + FILE + END, "GNU long name: is empty", 0),
    "GNU name goes on": (header(type=b"L") + block(b"a.xy") + FILE + END, "longer than its header says", 0),
    "GNU link alone": (FILE + header(type=b"K") + block(b"b") + END, "announces a member that is not", 1024),
    "label": (header(type=b"V") + block(b"abc") + FILE + END, "volume label with a payload of 3 bytes", 0),
    "GNU name cut": (
        header(b"L", b"00000777777\0", type=b"L") + END,
        "the file ends within a GNU long name",
        0,
    ),
    "reserved": (header(b"a.__key__") + block(b"abc") + END, "the extension is reserved", 0),
    "repeated": (
        FILE + header(b"a.TXT") + block(b"abc") + END,
        "'a.TXT'.*extension 'txt' repeats in the sample 'a'",
        1024,
    ),
    "interleaved": (
        b"".join(header(n) + block(b"abc") for n in (b"0.a", b"1.a", b"0.b", b"1.b")) + END,
        "member '0'.*occurs a second time, first at offset 0: all members of a sample must be adjacent",
        2048,
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_refuses(tmp_path: Path, case: str) -> None:
    data, text, offset = BAD[case]
    path = tmp_path / "bad.tar"
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"(?s)bad.tar.*({text})") as caught:
        pyimportance.index(path)
    assert caught.value.path == str(path)
    if offset is not None:
        assert caught.value.offset == offset


def test_a_tar_cut_between_members_can_be_allowed(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    for data in (FILE, FILE + bytes(512), FILE + END):
        path.write_bytes(data)
        assert pyimportance.index(path, allow_missing_eof=True).num_samples == 1
    path.write_bytes(FILE + header()[:200])
    with pytest.raises(DataError, match="within a header"):
        pyimportance.index(path, allow_missing_eof=True)


def test_every_cut_of_a_tar_is_noticed(tmp_path: Path, write_tar: Write) -> None:
    path = write_tar(
        tmp_path / "a.tar",
        [("a.x", b"1"), ("ä" * 60 + ".x", b"2" * 700), ("b.x", b"")],
        dialect=tarfile.PAX_FORMAT,
    )
    data = path.read_bytes().rstrip(b"\0")
    whole = len(data) + -len(data) % 512
    for size in range(0, whole + 1024, 64):
        path.write_bytes(data.ljust(whole + 1024, b"\0")[:size])
        with pytest.raises(DataError):
            pyimportance.index(path)
    path.write_bytes(data.ljust(whole + 1024, b"\0"))
    assert pyimportance.index(path).num_samples == 3


@pytest.fixture(scope="module")
def whole_tar() -> bytes:
    out = io.BytesIO()
    for dialect in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        piece = io.BytesIO()
        with tarfile.open(fileobj=piece, mode="w", format=dialect) as tar:
            for name, size in [("a.x", 5), ("ö" * 80 + ".y", 600), ("d/" * 90 + "c.z", 0)]:
                info = tarfile.TarInfo(f"{dialect}{name}")
                info.size = size
                tar.addfile(info, io.BytesIO(bytes(range(256)) * 3))
        out.write(piece.getvalue().rstrip(b"\0"))
        out.write(bytes(-out.tell() % 512))
    return out.getvalue() + END


MUTATION = st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=12))


@settings(max_examples=400)
@given(changes=st.lists(MUTATION, min_size=1, max_size=4), cut=st.integers(0, 1 << 16), fix=st.booleans())
@example(changes=[(124, b"\x80" + b"\xff" * 11)], cut=1 << 16, fix=True)
@example(changes=[(512, b"999999999 ")], cut=1 << 16, fix=True)
def test_damage_is_read_or_refused(
    tmp_path: Path, whole_tar: bytes, changes: list[tuple[int, bytes]], cut: int, fix: bool
) -> None:
    data = bytearray(whole_tar)
    for place, new in changes:
        at = place % len(data)
        data[at : at + len(new)] = new[: len(data) - at]
    del data[max(cut, 1) :]
    if fix:  # right checksums, so that the damage is looked at
        for at in range(0, len(data) - 511, 512):
            if data[at + 257 : at + 262] == b"ustar":
                data[at + 148 : at + 156] = b" " * 8
                data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    path = tmp_path / "fuzz.tar"
    path.write_bytes(data)
    with suppress(DataError):
        index = scan_file(str(path))
        assert (index.part_offset + index.part_size <= len(data)).all()


@pytest.mark.parametrize("name", ["BZh.txt", "BZh9/a.txt"])
def test_a_name_that_begins_like_a_compressed_file(tmp_path: Path, write_tar: Write, name: str) -> None:
    index = pyimportance.index(write_tar(tmp_path / "a.tar", [(name, b"1")]))
    assert index.key(0) + ".txt" == name
    (tmp_path / "a.tar").write_bytes(bz2.compress(random.Random(0).randbytes(2000)))
    with pytest.raises(DataError, match=r"compressed \(bzip2\)"):
        pyimportance.index(tmp_path / "a.tar")


@pytest.mark.parametrize("small", [0, 900, 20_000])
def test_large_payloads_are_skipped(small: int, tmp_path: Path, write_tar: Write) -> None:
    """Also where something small lies before each: what is read goes with the headers, not with a window."""
    sizes = {"bin": 1 << 20} | ({"a": small} if small else {})
    path = write_tar(
        tmp_path / "a.tar", [(f"{i}.{e}", bytes(n)) for i in range(20) for e, n in sorted(sizes.items())]
    )
    meter = Meter()
    assert pyimportance.index(path, meter=meter).num_samples == 20
    beside = 160 << 10  # the first requests, before anything was skipped, and the zeros at the end
    each = 2048 if small < 2048 else 9 * 2048  # and eight times that where nothing was skipped
    assert meter.bytes("index") <= 20 * each + beside
    assert meter.requests("index") <= (24 if small < 4096 else 44)


def test_limit(source: Path) -> None:
    whole = pyimportance.index(source)
    for limit in (1, 24, 25, 26, 66):
        first = pyimportance.index(source, limit=limit)
        assert as_we_see(first) == as_we_see(whole)[: int(whole.part_start[limit])]
    assert pyimportance.index(source, limit=1000).digest == whole.digest
    with pytest.raises(ArgumentError, match="limit=0: must be at least 1"):
        pyimportance.index(source, limit=0)


def test_a_source_without_samples(tmp_path: Path, write_tar: Write) -> None:
    path = write_tar(tmp_path / "a.tar", [("README", b"x")])
    with pytest.raises(DataError, match=r"a\.tar: holds no samples"):
        pyimportance.index(path)
    with pytest.raises(DataError, match=r"gone\.tar: does not exist"):
        pyimportance.index(tmp_path / "gone.tar")


def test_progress(source: Path) -> None:
    seen: list[tuple[int, int]] = []
    pyimportance.index(source, progress=lambda done, total: seen.append((done, total)))
    total = sum(p.stat().st_size for p in source.iterdir())
    assert seen[-1] == (total, total)
    assert len(seen) == 4
