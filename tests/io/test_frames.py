"""Framed: compressed files read by position, what they cost, and what is wrong with them."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimportance import _C, DataError
from pyimportance.io import frames
from pyimportance.io.compress import scratch, write_frames
from pyimportance.io.frames import Framed, content_of
from pyimportance.io.meter import Meter
from pyimportance.io.storage import open_file

CUTS = [0, 1000, 1001, 90_000, 250_000, 250_512]


def compress(data: bytes, cuts: list[int], path: Path, level: int = 3) -> tuple[int, int]:
    with open(path, "wb") as out, scratch(out) as content:
        content.write(data)
        content.flush()
        return write_frames(content.fileno(), cuts, out, level)


@pytest.fixture
def data() -> bytes:
    return np.random.default_rng(0).integers(0, 40, CUTS[-1], np.uint8).tobytes()


@pytest.fixture
def path(data: bytes, tmp_path: Path) -> Path:
    compress(data, CUTS, tmp_path / "x.tar.zst")
    return tmp_path / "x.tar.zst"


def opened(path: Path, meter: Meter | None = None) -> Framed:
    file = content_of(open_file(path, meter, "disk"))
    assert isinstance(file, Framed)
    return file


def stored_sizes(path: Path) -> list[int]:
    """Of each frame, as zstd's own functions see them; the last is the table's."""
    sizes, left = [], path.read_bytes()
    while left:
        if left[:4] == b"\x5e\x2a\x4d\x18":
            size = 8 + struct.unpack_from("<I", left, 4)[0]
        else:
            one = zstandard.ZstdDecompressor().decompressobj()
            one.decompress(left)
            size = len(left) - len(one.unused_data)
        sizes.append(size)
        left = left[size:]
    return sizes


def test_a_stream_that_zstd_reads(data: bytes, path: Path, tmp_path: Path) -> None:
    stream = zstandard.ZstdDecompressor().stream_reader(
        io.BytesIO(path.read_bytes()), read_across_frames=True
    )
    assert stream.read() == data
    command = subprocess.run(["zstd", "-dc", path], capture_output=True, check=False)
    assert (command.returncode, command.stdout == data) == (0, True), command.stderr


def test_what_is_written(data: bytes, path: Path, tmp_path: Path) -> None:
    written = path.read_bytes()
    assert compress(data, CUTS, tmp_path / "again") == (len(written), _C.crc32c(written))
    assert (tmp_path / "again").read_bytes() == written
    assert len(os.listdir(tmp_path)) == 2
    at = 0
    for size, content in zip(stored_sizes(path), np.diff(CUTS).tolist(), strict=False):
        said = zstandard.get_frame_parameters(written[at : at + size])
        assert (said.content_size, said.has_checksum, said.dict_id) == (content, True, 0)
        at += size
    # The seek table by the format's own words.
    frames_, flags, magic = struct.unpack("<IBI", written[-9:])
    assert (frames_, flags, magic) == (len(CUTS) - 1, 0, 0x8F92EAB1)
    assert struct.unpack_from("<II", written, at) == (0x184D2A5E, 8 * frames_ + 9)
    table = struct.unpack_from(f"<{2 * frames_}I", written, at + 8)
    assert list(table[::2]) == stored_sizes(path)[:-1]
    assert list(table[1::2]) == np.diff(CUTS).tolist()


def test_every_range(data: bytes, path: Path) -> None:
    with opened(path) as file:
        assert file.size == len(data)
        edges = sorted({max(0, min(c + d, len(data))) for c in CUTS for d in (-1, 0, 1)})
        for start in edges:
            for end in edges:
                if start <= end:
                    assert file.pread(start, end - start) == data[start:end]
        with pytest.raises(DataError, match="ends at 250512; 2 bytes were to be read here"):
            file.pread(len(data) - 1, 2)


def test_only_the_frames_needed_are_read_and_once(data: bytes, path: Path) -> None:
    sizes, meter = stored_sizes(path), Meter()
    with opened(path, meter) as file:
        assert meter.counts.sum() == 0
        file.pread(1001, 10)
        assert (meter.bytes("disk"), meter.requests("disk")) == (sizes[2] + sizes[-1], 3)
        file.pread(80_000, 10_000)
        assert meter.requests("disk") == 3
        file.pread(89_999, 2)
        assert (meter.bytes("disk"), meter.requests("disk")) == (sum(sizes[2:4]) + sizes[-1], 4)


def test_what_is_kept_is_bounded(data: bytes, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "KEPT_BYTES", 100_000)
    monkeypatch.setattr(frames, "_kept", kept := frames._Kept())
    with opened(path) as file:
        for number, nbytes in enumerate((1000, 1001, 90_000, 160_000, 512)):
            file.pread(CUTS[number], 1)
            assert kept._nbytes == nbytes  # one that is larger than the bound is kept alone
        file.pread(0, 1)
        assert kept._nbytes == 1512
    assert (kept._nbytes, len(kept._frames)) == (0, 0)


def test_what_is_held_is_kept(data: bytes, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "KEPT_BYTES", 0)
    monkeypatch.setattr(frames, "_kept", kept := frames._Kept())
    meter = Meter()
    with opened(path, meter) as file:
        assert isinstance(file, frames.Framed)
        assert file.hold([0, 2]) == [0, 2]
        assert file.hold([2, 3]) == [3]  # who holds 2 is to read it
        for number in (2, 0, 1, 4):
            file.pread(CUTS[number], 1)
        assert {number for _, number in kept._frames} == {0, 2, 4}  # one that nobody holds stays
        read = meter.bytes("disk")
        file.let_go([2, 0])
        file.pread(CUTS[2], 1000)
        assert meter.bytes("disk") == read
        file.let_go([2, 3])
        assert {number for _, number in kept._frames} == {2}
        file.let_go([2])  # of what nobody holds, nothing
        assert (kept._nbytes, len(kept._holds)) == (CUTS[3] - CUTS[2], 0)


def test_what_is_expected_is_held_until_it_was_read(
    data: bytes, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "KEPT_BYTES", 0)
    monkeypatch.setattr(frames, "_kept", kept := frames._Kept())
    with opened(path) as file:
        assert isinstance(file, frames.Framed)
        spans = [(10, 500), (900, CUTS[2] + 100), (CUTS[2] + 200, CUTS[2] + 300)]
        assert file.sizes(spans) == {0: 490 + CUTS[1] - 900, 1: CUTS[2] - CUTS[1], 2: 200}
        expected = file.expect(spans)
        for begin, end, held in ((900, 1005, {0, 2}), (10, 500, {2}), (1005, CUTS[2] + 100, {2})):
            assert expected.fetch(begin, end - begin)[0] == data[begin:end]
            assert {number for _, number in kept._holds} == held
        expected.end()
        assert not kept._holds


@given(st.lists(st.integers(0, CUTS[-1]), unique=True, min_size=2, max_size=12).map(sorted))
def test_how_many_bytes_lie_in_each_frame(tmp_path_factory: Any, places: list[int]) -> None:
    path = tmp_path_factory.getbasetemp() / "sizes.tar.zst"
    if not path.exists():
        compress(bytes(CUTS[-1]), CUTS, path)
    spans = list(zip(places[::2], places[1::2], strict=False))
    wanted = np.zeros(CUTS[-1], bool)
    for begin, end in spans:
        wanted[begin:end] = True
    sizes = {n: int(wanted[a:b].sum()) for n, (a, b) in enumerate(pairwise(CUTS)) if wanted[a:b].any()}
    with opened(path) as file:
        assert file.sizes(spans) == sizes
        assert list(file.sizes(spans)) == sorted(sizes)


@pytest.mark.parametrize("fails", [False, True])
def test_a_frame_that_is_forgotten_while_it_is_read_counts_once(
    data: bytes, path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """Closing a file forgets it, and another thread may ask for it again before the first has it."""
    monkeypatch.setattr(frames, "_kept", kept := frames._Kept())
    with opened(path) as file:

        def read(offset: int, nbytes: int) -> frames.Fetched:
            kept.forget(file.token)
            assert kept.frame(file, 2, file.read_stored)[0] == data[CUTS[2] : CUTS[3]]
            if fails:
                raise DataError("fails")
            return file.read_stored(offset, nbytes)

        with suppress(DataError):
            kept.frame(file, 2, read)
        assert kept._nbytes == sum(len(frame.result()) for frame in kept._frames.values())
        assert kept._nbytes == CUTS[3] - CUTS[2]
    assert (kept._nbytes, len(kept._frames)) == (0, 0)


def test_threads_decode_a_frame_once(data: bytes, path: Path) -> None:
    meter = Meter()
    with opened(path, meter) as file, ThreadPoolExecutor(8) as pool:
        starts = np.random.default_rng(1).integers(0, len(data) - 5000, 400).tolist()
        for start, got in zip(starts, pool.map(lambda s: file.pread(s, 5000), starts), strict=True):
            assert got == data[start : start + 5000]
    assert meter.bytes("disk") <= path.stat().st_size


def test_native_code_reads_through_it(data: bytes, path: Path) -> None:
    with opened(path) as file:
        crc32c, read, requests = _C.crc32c_of_file(file.handle, file.size)
    assert crc32c == _C.crc32c(data)
    assert (read, requests) == (path.stat().st_size, len(CUTS) + 1)


def test_a_forked_process_reads_on(data: bytes, path: Path) -> None:
    """Its parent's threads are not its own."""
    program = """
import os, sys, zlib
from pyimportance.io.frames import content_of
from pyimportance.io.storage import open_file
file = content_of(open_file(sys.argv[1]))
file.pread(0, file.size)
child = os.fork()
if child == 0:
    os._exit(zlib.crc32(file.pread(0, file.size)) & 127)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    command = [sys.executable, "-c", program, str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert int(ran.stdout) == zlib.crc32(data) & 127


def table(entries: list[tuple[int, int]], flags: int = 0, magic: int = 0x8F92EAB1, count: int = -1) -> bytes:
    words = b"".join(struct.pack("<II", *e) + bytes(4 if flags & 0x80 else 0) for e in entries)
    head = struct.pack("<II", 0x184D2A5E, len(words) + 9)
    return head + words + struct.pack("<IBI", len(entries) if count < 0 else count, flags, magic)


BODY = 300


@pytest.mark.parametrize(
    ("end", "problem", "offset"),
    [
        (b"", "no seek table of zstd ends here", BODY - 4),
        (table([(300, 9)], magic=1), "no seek table of zstd ends here", BODY + 21),
        (table([(300, 9)], flags=4), "the seek table has unknown flags (0x04)", BODY + 20),
        (table([(300, 9)], count=50), "the seek table is of 50 frames, for which the file is too short", 316),
        (table([(300, 9)], count=2**32 - 1), "is of 4294967295 frames, for which the file is too short", 316),
        (table([(300, 9)], count=2), "no seek table of 2 frames begins here", 292),
        (table([(300, 9)])[:4] + bytes(4) + table([(300, 9)])[8:], "no seek table of 1 frames", BODY),
        (table([(200, 9), (100, 0)]), "frame 1 of 100 bytes is said to hold 0", BODY + 16),
        (table([(300, 2**30 + 1)]), "frame 0 of 300 bytes is said to hold 1073741825", BODY + 8),
        (table([(1, 2**15 + 1), (299, 1)]), "frame 0 of 1 bytes is said to hold 32769", BODY + 8),
        (table([(299, 9)]), "the seek table is of 299 bytes; 300 are before it", BODY),
        (table([(2**32 - 1, 9), (301, 9)]), "the seek table is of 4294967596 bytes; 300 are", BODY),
    ],
)
def test_tables_that_are_not_sound(end: bytes, problem: str, offset: int, tmp_path: Path) -> None:
    path = tmp_path / "x.tar.zst"
    path.write_bytes(bytes(BODY) + end)
    with pytest.raises(DataError) as raised:
        opened(path)
    assert problem in raised.value.problem
    assert (raised.value.path, raised.value.offset) == (str(path), offset)


def test_a_table_with_checksums(data: bytes, path: Path) -> None:
    """Those of other writers have them; the frames' own are checked."""
    sizes = stored_sizes(path)
    body = path.read_bytes()[: -sizes[-1]]
    path.write_bytes(body + table(list(zip(sizes, np.diff(CUTS).tolist(), strict=False)), flags=0x80))
    with opened(path) as file:
        assert file.pread(0, file.size) == data


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "x.tar.zst").write_bytes(b"")
    with pytest.raises(DataError, match="too short for a seek table"):
        opened(tmp_path / "x.tar.zst")


@given(at=st.integers(0, 10**6), bit=st.integers(0, 7))
@settings(max_examples=300, deadline=None)
def test_any_bit_is_noticed(at: int, bit: int, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("bit")
    data = np.random.default_rng(0).integers(0, 40, 20_000, np.uint8).tobytes()
    compress(data, [0, 500, 12_000, 20_000], path := folder / "x.tar.zst")
    damaged = bytearray(path.read_bytes())
    damaged[at % len(damaged)] ^= 1 << bit
    path.write_bytes(damaged)
    error = None
    try:
        with opened(path) as file:
            assert file.pread(0, file.size) == data  # a bit that says nothing: of a header's or a footer's
    except DataError as e:
        error = e
    assert error is None or (error.path == str(path) and error.offset is not None)


def test_a_frame_that_lies_about_its_size_allocates_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = zstandard.ZstdCompressor().compress(bytes(1 << 20))
    lie = frame[:5] + struct.pack("<I", 1 << 29) + frame[9:]
    assert zstandard.get_frame_parameters(lie).content_size == 1 << 29
    path = tmp_path / "x.tar.zst"
    path.write_bytes(lie + table([(len(lie), 1 << 20)]))
    monkeypatch.setattr(zstandard, "ZstdDecompressor", None)  # is not even asked
    with opened(path) as file, pytest.raises(DataError) as raised:
        file.pread(5000, 5)
    assert raised.value.problem == (
        "frame 0, which begins at 0 of the compressed file: holds 536870912 bytes by its header; "
        "the seek table says 1048576; none of the 1048576 bytes in it can be read, nor the samples that they "
        "are of"
    )
    assert raised.value.offset == 0


def test_errors_name_the_frame(data: bytes, path: Path) -> None:
    sizes = stored_sizes(path)
    damaged = bytearray(path.read_bytes())
    damaged[sum(sizes[:3]) + 200] ^= 8
    path.write_bytes(damaged)
    with opened(path) as file:
        assert file.pread(0, 90_000) == data[:90_000]
        for _ in range(2):  # errors are not kept
            with pytest.raises(DataError) as raised:
                file.pread(89_990, 20)
            where = f"frame 3, which begins at {sum(sizes[:3])} of the compressed file"
            assert raised.value.problem.startswith(where)
            assert raised.value.offset == 90_000


def test_other_files_are_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"123")
    file = open_file(tmp_path / "x.tar")
    with content_of(file) as content:
        assert content is file
