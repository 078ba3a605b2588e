"""NodeCache: what a node has fetched, by whichever of its processes, within a bound and never damaged."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from pyimportance import _C, ArgumentError, DataError, OutputError
from pyimportance.io import arriving, remote
from pyimportance.io.arriving import Arriving, Origin
from pyimportance.io.downloads import ClosedError, Downloads
from pyimportance.io.extents import HEADER, RECORD
from pyimportance.io.meter import Meter
from pyimportance.io.node_cache import NodeCache
from tests.server import Fault, Server

MiB = 1 << 20
DATA = np.random.default_rng(0).bytes(9 * MiB + 1234)
SUM = _C.crc32c(DATA)


@pytest.fixture(autouse=True)
def short_waits(
    impatient: None, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """For a server that falls silent; others may be as slow as a loaded machine makes them."""
    if "[stall" in request.node.name:
        monkeypatch.setattr(remote, "_TIMEOUT", timedelta(seconds=1))
    yield
    while Reader.all:
        Reader.all.pop().downloads.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "origin").mkdir()
    (tmp_path / "origin" / "a").write_bytes(DATA)
    with Server(tmp_path / "origin") as server:
        yield server


class Reader:
    """What one process has of a cache: as many as there are in a test share nothing but the folder."""

    all: ClassVar[list[Reader]] = []

    def __init__(self, folder: Path, nbytes: int | None = None, **objects: tuple[int, int]) -> None:
        self.meter, self.downloads = Meter(), Downloads()
        self.cache = NodeCache(folder, nbytes)
        self.objects = objects
        self.all.append(self)

    def open(self, url: str) -> Arriving:
        name = url.rpartition("/")[2]
        known = {url: self.objects[name]} if name in self.objects else {}
        return Arriving(url, Origin(self.cache, known), self.downloads, self.meter)

    def counts(self) -> tuple[int, int]:
        return self.meter.bytes("origin"), self.meter.bytes("cache")


def on_disk(folder: Path) -> int:
    return sum(p.stat().st_blocks * 512 for p in folder.iterdir() if p.suffix in (".journal", ".parts"))


def test_what_was_fetched_is_there_for_others(server: Server, tmp_path: Path) -> None:
    url = f"{server.url}/a"
    first = Reader(tmp_path / "cache", a=(len(DATA), SUM))
    with first.open(url) as file:
        assert file.pread(100, 5 * MiB) == DATA[100 : 100 + 5 * MiB]
        assert first.counts() == (5 * MiB, 0)
        assert [r.method for r in server.requests] == ["HEAD", "GET", "GET"]
        assert file.pread(200, 1000) == DATA[200:1200]
        assert first.counts() == (5 * MiB, 1000)
        assert file.pread(0, len(DATA)) == DATA
    assert first.counts() == (len(DATA), 1000 + 5 * MiB)
    assert server.nbytes == len(DATA)
    server.forget()
    second = Reader(tmp_path / "cache", a=(len(DATA), SUM))
    with second.open(url) as file:
        assert file.pread(0, len(DATA)) == DATA
        assert file.size == len(DATA)
    assert second.counts() == (0, len(DATA))
    assert not server.requests  # nobody asks for what the manifest says


def test_only_what_is_missing_is_fetched(server: Server, tmp_path: Path) -> None:
    reader = Reader(tmp_path / "cache", a=(len(DATA), SUM))
    file = reader.open(f"{server.url}/a")
    file.pread(50_000, 1000)
    spans = [(0, 100), (10_000, 20_000), (40_000, 60_000), (500_000, 500_512)]
    handles: list[Any] = []
    with file.request(spans, handles.append) as request:
        request.wait()
        for begin, end in spans:
            assert os.pread(handles[0], end - begin, begin) == DATA[begin:end]
    # Two that lie near each other come in one request; what is there already is not fetched again.
    assert sorted(r.range for r in server.ranges if r.range) == [
        (0, 20_000), (40_000, 50_000), (50_000, 51_000), (51_000, 60_000), (500_000, 500_512),
    ]  # fmt: skip
    assert reader.counts() == (20_000 + 20_000 + 512, 1000)


@pytest.mark.parametrize("fault", ["reset", "truncate", "stall", 500, 503])
def test_what_passes_is_tried_again(server: Server, tmp_path: Path, fault: Fault) -> None:
    reader = Reader(tmp_path / "cache", a=(len(DATA), SUM))
    server.fail(fault, skip=1)
    assert reader.open(f"{server.url}/a").pread(0, len(DATA)) == DATA
    assert reader.counts() == (len(DATA), 0)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (416, "the server answered 416 Range Not Satisfiable"),
        (404, "does not exist"),
        (503, "the server answered 503 Service Unavailable, also when asked 2 times more"),
        ("short", "the server sent bytes"),
        ("whole", "the server sends whole files only"),
        ("truncate", "the server ended its answer early"),
        ("stall", "the server does not answer in time"),
    ],
)
def test_what_stays_is_an_error_and_nothing_of_it_is_kept(
    server: Server, tmp_path: Path, fault: Fault, error: str
) -> None:
    reader = Reader(tmp_path / "cache", a=(len(DATA), SUM))
    file = reader.open(f"{server.url}/a")
    file.pread(0, 10)
    server.fail(fault, times=999)
    with pytest.raises(DataError, match=error) as caught:
        file.pread(MiB, MiB)
    assert (caught.value.path, caught.value.offset) == (f"{server.url}/a", MiB)
    assert reader.counts() == (10, 0)
    server._faults.clear()
    assert file.pread(0, len(DATA)) == DATA


@pytest.mark.parametrize("known", [True, False])
def test_an_object_that_changes_between_two_ranges(server: Server, tmp_path: Path, known: bool) -> None:
    objects = {"a": (len(DATA), SUM)} if known else {}
    reader = Reader(tmp_path / "cache", **objects)
    file = reader.open(f"{server.url}/a")
    file.pread(0, 1000)
    new = DATA[::-1]
    (tmp_path / "origin" / "a").write_bytes(new)
    with pytest.raises(DataError, match="/a, offset 5000: was changed while it was being read"):
        file.pread(5000, 1000)
    # Who opens it now gets none of the old one: it is of another version.
    later = Reader(tmp_path / "cache", **objects)
    opened = later.open(f"{server.url}/a")
    assert opened.pread(5000, 1000) == new[5000:6000]
    assert opened.pread(0, 2000) == new[:2000]
    assert later.counts()[0] >= 3000
    if known:
        with pytest.raises(DataError, match=rf"has CRC32C .*; the manifest says {SUM:#010x}"):
            opened.pread(0, len(DATA))


def test_an_object_of_another_size_than_the_manifest_says(server: Server, tmp_path: Path) -> None:
    reader = Reader(tmp_path / "cache", a=(len(DATA) - 1, SUM))
    file = reader.open(f"{server.url}/a")
    for _ in range(2):
        with pytest.raises(DataError, match=f"/a: has {len(DATA)} bytes; {len(DATA) - 1} were written"):
            file.pread(0, 10)
    assert len(server.requests) == 1


def damage(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


@pytest.mark.parametrize("how", ["byte", "zeros", "cut", "emptied", "gone", "records", "torn"])
def test_damage_is_found_and_mended(server: Server, tmp_path: Path, how: str) -> None:
    url, folder = f"{server.url}/a", tmp_path / "cache"
    Reader(folder, a=(len(DATA), SUM)).open(url).pread(0, len(DATA))
    (parts,), (journal,) = folder.glob("*.parts"), folder.glob("*.journal")
    if how == "byte":
        damage(parts, 5 * MiB, bytes([DATA[5 * MiB] ^ 1]))
    elif how == "zeros":
        damage(parts, 4096, bytes(8192))
    elif how == "cut":
        os.truncate(parts, 3 * MiB)
    elif how == "emptied":
        os.truncate(parts, 0)
    elif how == "gone":
        parts.unlink()
    elif how == "records":
        damage(journal, HEADER + RECORD.size + 3, b"\xff")
    else:
        os.truncate(journal, HEADER + RECORD.size + 7)
    server.forget()
    reader = Reader(folder, a=(len(DATA), SUM))
    assert reader.open(url).pread(0, len(DATA)) == DATA
    assert 0 < server.nbytes == reader.counts()[0] <= len(DATA)
    server.forget()
    assert Reader(folder, a=(len(DATA), SUM)).open(url).pread(0, len(DATA)) == DATA
    assert not server.requests


def test_damage_that_nobody_has_come_to_yet(server: Server, tmp_path: Path) -> None:
    """It is not the origin's, though with what was mended all of the object is there."""
    url, folder = f"{server.url}/a", tmp_path / "cache"
    Reader(folder, a=(len(DATA), SUM)).open(url).pread(0, len(DATA))
    (parts,) = folder.glob("*.parts")
    damage(parts, 100, b"damage")
    damage(parts, 5 * MiB, b"damage")
    server.forget()
    reader = Reader(folder, a=(len(DATA), SUM))
    file = reader.open(url)
    assert file.pread(5 * MiB, 1000) == DATA[5 * MiB : 5 * MiB + 1000]
    assert server.nbytes == 4 * MiB
    assert file.pread(0, len(DATA)) == DATA
    assert server.nbytes == reader.counts()[0] == 8 * MiB


def test_an_object_that_is_damaged_at_its_origin(server: Server, tmp_path: Path) -> None:
    reader = Reader(tmp_path / "cache", a=(len(DATA), SUM ^ 1))
    file = reader.open(f"{server.url}/a")
    assert file.pread(0, 1000) == DATA[:1000]
    with pytest.raises(DataError, match=rf"has CRC32C {SUM:#010x}; the manifest says {SUM ^ 1:#010x}"):
        file.pread(0, len(DATA))
    assert Reader(tmp_path / "cache", a=(len(DATA), SUM ^ 1)).open(f"{server.url}/a").pread(0, 9) == DATA[:9]


def test_each_byte_is_fetched_by_one_of_those_who_want_it(server: Server, tmp_path: Path) -> None:
    server.delay = 0.05
    readers = [Reader(tmp_path / "cache", a=(len(DATA), SUM)) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda r: r.open(f"{server.url}/a").pread(0, len(DATA)), readers))
    assert read == [DATA] * 4
    assert server.nbytes == len(DATA) == sum(r.counts()[0] for r in readers)
    assert sum(r.counts()[1] for r in readers) == 3 * len(DATA)


def test_nobody_waits_for_ever_for_one_that_is_stopped(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arriving, "_PATIENCE", 0.2)
    url = f"{server.url}/a"
    one, two = (Reader(tmp_path / "cache", a=(len(DATA), SUM)) for _ in range(2))
    _, entry = one.cache.entry(url, len(DATA), SUM)
    assert entry is not None
    assert entry.claim(0, 100)
    assert two.open(url).pread(0, 4096) == DATA[:4096]
    assert two.counts() == (4096, 0)  # past the cache
    entry.free(0, 100)


def test_the_bound_holds_and_foreign_files_stay(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    foreign = {"notes.txt": b"mine", "0" * 32 + ".journal": b"mine too", "0" * 32 + ".parts": bytes(4096)}
    for name, data in foreign.items():
        (folder / name).write_bytes(data)
    for i in range(6):
        (tmp_path / "origin" / f"{i}").write_bytes(DATA[i:])
    reader, most = Reader(folder, 24 * MiB), 0
    for i in (0, 1, 2, 0, 3, 4, 0, 5):
        assert reader.open(f"{server.url}/{i}").pread(0, 9 * MiB) == DATA[i : i + 9 * MiB]
        ours = on_disk(folder) - on_disk_of(folder, foreign)
        assert ours <= 24 * MiB
        most = max(most, ours)
    assert most > 17 * MiB
    for name, data in foreign.items():
        assert (folder / name).read_bytes() == data
    server.forget()
    assert reader.open(f"{server.url}/0").pread(0, 100) == DATA[:100]  # used lately
    assert server.nbytes == 0
    assert reader.open(f"{server.url}/1").pread(0, 100) == DATA[1:101]
    assert server.nbytes == 100


def on_disk_of(folder: Path, names: Any) -> int:
    return sum((folder / name).stat().st_blocks * 512 for name in names if name != "notes.txt")


def test_what_is_read_is_not_removed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "origin" / "b").write_bytes(DATA[1:])
    folder, handles = tmp_path / "cache", list[Any]()
    reader, other = Reader(folder, 12 * MiB), Reader(folder, 12 * MiB)
    file = reader.open(f"{server.url}/a")
    with file.request([(0, 9 * MiB)], handles.append) as request:
        request.wait()
        assert other.open(f"{server.url}/b").pread(0, 9 * MiB) == DATA[1 : 9 * MiB + 1]  # in part past it
        assert os.pread(handles[0], 9 * MiB, 0) == DATA[: 9 * MiB]
        assert on_disk(folder) <= 12 * MiB
        for path in folder.iterdir():
            path.unlink()  # somebody tidies up: what is open can be read
        assert os.pread(handles[0], 9 * MiB, 0) == DATA[: 9 * MiB]
    server.forget()
    assert file.pread(0, 9 * MiB) == DATA[: 9 * MiB]  # and is fetched again once nobody reads it
    assert server.nbytes == 9 * MiB
    assert other.open(f"{server.url}/b").pread(0, 9 * MiB) == DATA[1 : 9 * MiB + 1]
    assert on_disk(folder) <= 12 * MiB


@pytest.mark.parametrize("nbytes", [1, 100_000, 5 * MiB])
def test_a_cache_that_is_too_small(server: Server, tmp_path: Path, nbytes: int) -> None:
    for _ in range(2):
        reader = Reader(tmp_path / "cache", nbytes, a=(len(DATA), SUM))
        assert reader.open(f"{server.url}/a").pread(0, len(DATA)) == DATA
        assert on_disk(tmp_path / "cache") <= nbytes + 8192  # the journal, made before anything is fetched


def test_a_disk_that_is_full(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, begin: int, nbytes: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    reader = Reader(tmp_path / "cache", a=(len(DATA), SUM))
    assert reader.open(f"{server.url}/a").pread(0, len(DATA)) == DATA
    assert reader.counts() == (len(DATA), 0)


def test_nobody_waits_for_a_server_when_the_reading_ends(server: Server, tmp_path: Path) -> None:
    server.fail("stall", times=99)
    remote._store.cache_clear()
    reader = Reader(tmp_path / "cache", a=(len(DATA), SUM))
    file = reader.open(f"{server.url}/a")
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(file.pread, 0, 100)
        while len(server.requests) < 2:
            time.sleep(0.01)
        reader.downloads.close()
        with pytest.raises(DataError, match="/a: is not read any more"):
            waits.result(30)  # the server is waited for twice as long
    assert len(server.requests) == 2
    assert isinstance(reader.downloads.submit(lambda: None).exception(), ClosedError)


def test_a_fork_holds_nothing_of_its_parent(server: Server, tmp_path: Path) -> None:
    reader, handles = Reader(tmp_path / "cache"), list[Any]()
    with reader.open(f"{server.url}/a").request([(0, 100)], handles.append) as request:
        request.wait()
        child = os.fork()
        if child == 0:
            try:
                os.fstat(handles[0])
            except OSError:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert os.pread(handles[0], 100, 0) == DATA[:100]


def test_what_cannot_be_a_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="file: cannot be made"):
        NodeCache(tmp_path / "file")
    for folder in ("s3://bucket/cache", 3):
        with pytest.raises(ArgumentError, match="must be the path of a folder on this node's disk"):
            NodeCache(folder)
    with pytest.raises(ArgumentError, match="cache_bytes"):
        NodeCache(tmp_path, 0)


def test_an_object_without_a_byte(server: Server, tmp_path: Path) -> None:
    (tmp_path / "origin" / "empty").write_bytes(b"")
    file = Reader(tmp_path / "cache").open(f"{server.url}/empty")
    assert (file.size, file.pread(0, 0)) == (0, b"")
