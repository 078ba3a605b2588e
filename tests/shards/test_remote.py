"""Sources behind URLs: the same indexes and the same shards as from files, every byte counted."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyimportance import (
    ArgumentError,
    DataError,
    OutputError,
    SampleIndex,
    ShardSet,
    compact,
    index,
    prune,
    repartition,
    write_shards,
)
from pyimportance.io.meter import Meter
from pyimportance.io.storage import open_file
from pyimportance.shards.sources import expand
from tests.server import Request, Server
from tests.shards.conftest import divide

MiB = 1 << 20
COLUMNS = (
    "file_bytes",
    "ids",
    "file",
    "offset",
    "nbytes",
    "part_start",
    "part_ext",
    "part_offset",
    "part_size",
)


pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def server(source: Path) -> Iterator[Server]:
    with Server(source) as server:
        yield server


def urls(server: Server) -> str:
    return f"{server.url}/data-{{000..003}}.tar"


def same(a: SampleIndex, b: SampleIndex) -> bool:
    columns = all(np.array_equal(getattr(a, c), getattr(b, c)) for c in COLUMNS)
    return columns and a.keys.equals(b.keys) and a.extensions == b.extensions and a.digest == b.digest


def read(meters: list[Meter], tier: str) -> tuple[int, int]:
    return sum(m.bytes(tier) for m in meters), sum(m.requests(tier) for m in meters)


def seen(server: Server) -> tuple[int, int]:
    """Bytes and requests by the server's count, once nothing is asked for any more: what was begun ahead and
    skipped then may come late.
    """
    last = None
    while last != (last := len(server.requests)) or server.at_once:
        time.sleep(0.2)
    return server.nbytes, len(server.ranges)


def write_large(path: Path, sizes: list[int]) -> None:
    rng = np.random.default_rng(len(sizes))
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for i, size in enumerate(sizes):
            long = "" if i % 7 else "n" * 150 + "/"
            for extension, data in (("bin", rng.bytes(size)), ("cls", b"%d" % i)):
                info = tarfile.TarInfo(f"{long}{i:06d}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def test_an_index_is_the_one_of_the_files(server: Server, source: Path, tmp_path: Path) -> None:
    meter, steps = Meter(), []
    found = index(urls(server), meter=meter, progress=lambda *step: steps.append(step))
    assert same(found, index(source))
    assert found.files == tuple(f"{server.url}/data-{i:03d}.tar" for i in range(4))
    assert (meter.bytes("index"), meter.requests("index")) == seen(server)
    assert steps[-1] == (found.file_bytes.sum(),) * 2
    assert sum(r.method == "HEAD" for r in server.requests) == 4
    found.save(tmp_path / "index.arrow")
    assert SampleIndex.load(tmp_path / "index.arrow").files == found.files
    assert index(urls(server), limit=30).num_samples == 30


@pytest.mark.parametrize(
    ("sizes", "most"),
    [
        ([300_000] * 40, 1.0),  # read through, in requests ahead of each other
        ([1_500_000] * 9, 0.25),  # skipped
        ([40_000, 1_600_000, 40_000, 1_100_000, 700_000, 900_000, 5_000_000] * 2, 0.75),
        ([300_000] * 16 + [9_000_000] + [300_000] * 10, 0.95),
        ([2 * MiB - 512, 512, 2 * MiB - 1024, 4 * MiB] * 2, 0.5),
        ([100] * 3000, 1.0),
    ],
)
def test_payloads_of_every_size(sizes: list[int], most: float, tmp_path: Path, tree: Any) -> None:
    (tmp_path / "source").mkdir()
    write_large(tmp_path / "source" / "a.tar", sizes)
    with Server(tmp_path / "source") as server:
        meter = Meter()
        found = index(f"{server.url}/a.tar", meter=meter)
        assert same(found, index(tmp_path / "source" / "a.tar"))
        assert (meter.bytes("index"), meter.requests("index")) == seen(server)
        assert seen(server)[0] <= most * found.file_bytes[0]
        assert len({r.range for r in server.ranges}) == len(server.ranges)
        server.forget()
        meters = [Meter(), Meter()]
        write_shards(
            found,
            divide(found, 2, 2),
            tmp_path / "out",
            shard_bytes=7 * MiB,
            meters=meters,
            exchange="direct",
        )
        assert read(meters, "origin") == seen(server)
    write_shards(tmp_path / "source", divide(found, 2, 2), tmp_path / "local", shard_bytes=7 * MiB)
    ours, local = tree(tmp_path / "out"), tree(tmp_path / "local")
    assert ours.pop("job.json")
    assert local.pop("job.json")
    assert ours == local


@pytest.mark.parametrize("keys", ["error", "prefix"])
def test_shards_are_those_of_the_files(
    server: Server, source: Path, tmp_path: Path, tree: Any, keys: Any
) -> None:
    plan = divide(66, 3, 2)
    meters = [Meter() for _ in range(3)]
    found = index(f"{urls(server)}?signature=secret")
    server.forget()
    out = write_shards(
        found, plan, tmp_path / "out", keys=keys, shard_bytes=40_000, meters=meters, exchange="direct"
    )
    assert read(meters, "origin") == seen(server)
    assert out.verify().ok
    write_shards(source, plan, tmp_path / "local", keys=keys, shard_bytes=40_000)
    ours, local = tree(tmp_path / "out"), tree(tmp_path / "local")
    assert ours.pop("job.json")
    assert local.pop("job.json")
    assert ours == local
    for path in (p for p in (tmp_path / "out").rglob("*") if p.is_file()):
        assert b"secret" not in path.read_bytes()
    found.save(tmp_path / "index.arrow")
    assert b"secret" not in (tmp_path / "index.arrow").read_bytes()


def test_done_is_done_without_the_source(server: Server, source: Path, tmp_path: Path) -> None:
    found, plan = index(urls(server)), divide(66, 2)
    first = write_shards(found, plan, tmp_path / "out", exchange="direct")
    server.forget()
    assert write_shards(found, plan, tmp_path / "out", exchange="direct").digest == first.digest
    assert {r.method for r in server.requests} == {"HEAD"}
    server.fail(404, method="HEAD", times=99)
    assert write_shards(found, plan, tmp_path / "out", exchange="direct").digest == first.digest
    (source / "data-001.tar").write_bytes((source / "data-001.tar").read_bytes()[::-1])
    server._faults.clear()
    with pytest.raises(OutputError, match=r"made from an earlier state of data-001\.tar, which was changed"):
        write_shards(found, plan, tmp_path / "out", exchange="direct")


@pytest.mark.parametrize("fault", ["truncate", "short", 500, 404])
def test_an_interrupted_run_is_continued(
    server: Server, source: Path, tmp_path: Path, tree: Any, fault: Any
) -> None:
    found, plan = index(urls(server)), divide(66, 3)
    options: Any = {"shard_bytes": 40_000}
    server.forget()
    whole = write_shards(found, plan, tmp_path / "whole", **options, exchange="direct")
    needed = seen(server)[1]
    server.fail(fault, skip=needed * 2 // 3, times=10_000)
    with pytest.raises(DataError) as caught:
        write_shards(found, plan, tmp_path / "out", **options, exchange="direct")
    assert caught.value.path in found.files
    assert caught.value.member is not None
    assert caught.value.offset is not None
    assert not (tmp_path / "out" / "manifest.json").exists()
    server._faults.clear()
    server.forget()
    assert write_shards(found, plan, tmp_path / "out", **options, exchange="direct").digest == whole.digest
    assert seen(server)[1] < needed
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_tar_that_changes_while_it_is_copied(server: Server, source: Path, tmp_path: Path) -> None:
    found, plan = index(urls(server)), divide(66, 2)
    path = source / "data-003.tar"

    def change(request: Request) -> None:
        if request.method == "GET" and request.path.endswith("3.tar"):  # opened, but not read
            path.write_bytes(path.read_bytes().replace(b"003-", b"004-"))

    server.on_request = change
    with pytest.raises(DataError, match=r"data-003\.tar.*: was changed while it was being read: its version"):
        write_shards(found, plan, tmp_path / "out", exchange="direct")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_tar_that_changed_since_it_was_indexed(server: Server, source: Path, tmp_path: Path) -> None:
    found, path = index(urls(server)), source / "data-000.tar"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"000-00000.txt", b"000-0000x.txt"))
    with pytest.raises(DataError, match=r"the index has this member here.*index it again") as caught:
        write_shards(found, divide(66, 2), tmp_path / "a", exchange="direct")
    assert caught.value.path == f"{server.url}/data-000.tar"
    path.write_bytes(data + bytes(512))
    with pytest.raises(DataError, match=r"data-000\.tar: has \d+ bytes; it had \d+ when it was indexed"):
        write_shards(found, divide(66, 2), tmp_path / "b", exchange="direct")


def test_damage_is_found_as_in_files(server: Server, source: Path) -> None:
    path = source / "data-000.tar"
    whole = path.read_bytes()
    half = whole[: len(whole) // 2]
    for data in (half, b"x" + whole[1:], b"", bytes(512) + whole, whole + b"!" * 512):
        path.write_bytes(data)
        with pytest.raises(DataError) as local:
            index(path)
        with pytest.raises(DataError) as remote_:
            index(f"{server.url}/data-000.tar?signature=secret")
        assert (remote_.value.problem, remote_.value.member) == (local.value.problem, local.value.member)
        assert remote_.value.path == f"{server.url}/data-000.tar"
        assert remote_.value.offset == local.value.offset


def test_several_ranges_are_under_way_at_once(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    write_large(tmp_path / "source" / "a.tar", [60_000] * 120)
    with Server(tmp_path / "source", delay=0.02) as server:
        found = index(f"{server.url}/a.tar")
        assert server.most_at_once >= 2
        server.forget()
        write_shards(found, divide(120, 2, 4), tmp_path / "out", exchange="direct")
        assert server.most_at_once >= 12


def test_what_may_be_named(server: Server) -> None:
    assert expand(f"{server.url}/a.tar::/x.tar::http://[::1]:80/b-{{0,1}}.tar") == [
        f"{server.url}/a.tar",
        "/x.tar",
        "http://[::1]:80/b-0.tar",
        "http://[::1]:80/b-1.tar",
    ]
    with pytest.raises(ArgumentError, match=r"names 'http://h/a.tar' twice$"):
        expand(["http://h/a.tar?sign=x", "http://me:pw@h/a.tar"])
    for text in (f"{server.url}/*.tar", f"{server.url}/folder/", server.url):
        with pytest.raises(
            ArgumentError, match="a web server lists nothing: name the tars, by braces if they"
        ):
            expand(text)
    with pytest.raises(DataError, match=r"data-004\.tar: does not exist"):
        index(f"{server.url}/data-{{003..004}}.tar")


@pytest.fixture
def shards(source: Path, tmp_path: Path) -> Iterator[tuple[ShardSet, str]]:
    """Shards in a directory, and their URL."""
    local = write_shards(source, divide(66, 3, 2), tmp_path / "set", shard_bytes=40_000)
    with Server(tmp_path) as server:
        yield local, f"{server.url}/set"


@pytest.mark.parametrize("tail", ["", "/", "?signature=secret"])
def test_a_set_behind_a_url_is_read(shards: tuple[ShardSet, str], tail: str) -> None:
    local, url = shards
    meter = Meter()
    opened = ShardSet.open(url + tail, meter=meter)
    assert (opened.digest, opened.generation, opened.shards) == (local.digest, 0, local.shards)
    assert ShardSet.open(url, generation=0).digest == local.digest
    indexes = [opened.index(worker) for worker in range(3)]
    assert np.array_equal(opened.worker_of(np.arange(70)), local.worker_of(np.arange(70)))
    for worker, own in enumerate(indexes):
        assert same(replace(own, files=local.index(worker).files), local.index(worker))
        assert all(open_file(path).size == size for path, size in zip(own.files, own.file_bytes, strict=True))
    assert meter.bytes("index") == sum(
        (Path(local.root) / name).stat().st_size
        for name in ("manifest.json", "manifest-000000.json", *(i.path for i in local.manifest.indexes))
    )
    assert "secret" not in repr(opened)


def test_what_a_set_behind_a_url_is_not_for(shards: tuple[ShardSet, str], tmp_path: Path) -> None:
    opened = ShardSet.open(f"{shards[1]}?signature=secret")
    for what, call in {
        "a new generation": lambda: repartition(opened, divide(66, 2)),
        "compact": lambda: compact(opened),
        "prune": lambda: prune(opened),
        "repair": opened.repair,
        "export": lambda: opened.export("dali"),
    }.items():
        with pytest.raises(
            ArgumentError,
            match=rf"/set: {what} writes there, and web servers take nothing; s3, gs and az do$",
        ):
            call()
    assert not (tmp_path / "http:").exists()


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_a_set_behind_a_url_is_verified(source: Path, tmp_path: Path, compression: Any) -> None:
    local = write_shards(
        source, divide(66, 3, 2), tmp_path / "set", shard_bytes=40_000, compression=compression
    )
    with Server(tmp_path) as server:
        opened, meter = ShardSet.open(f"{server.url}/set?signature=secret"), Meter()
        server.forget()
        report = opened.verify(meter=meter)
        assert report.ok
        assert meter.counts[:, 0].sum() == seen(server)[0]
        path = Path(local.root) / local.shards[2].path
        data = bytearray(path.read_bytes())
        data[700] ^= 1
        path.write_bytes(data)
        gone = Path(local.root) / local.shards[4].path
        gone.unlink()
        broken, by_path = opened.verify(), local.verify()
        assert not broken.ok
        assert [p.file for p in broken.problems] == [p.file for p in by_path.problems]
        assert broken.problems[0] == by_path.problems[0]
        assert str(broken.problems[-1]).startswith(f"{local.shards[4].path}: does not exist")
        assert "secret" not in str(broken)


def test_a_set_that_is_damaged_or_not_there(shards: tuple[ShardSet, str]) -> None:
    local, url = shards
    root = Path(local.root)
    with pytest.raises(DataError, match=r"/none/manifest\.json: does not exist"):
        ShardSet.open(url.replace("/set", "/none"))
    with pytest.raises(DataError, match=r"/set/manifest-000007\.json: does not exist"):
        ShardSet.open(url, generation=7)
    path = root / local.manifest.indexes[1].path
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(DataError, match=r"^http://[^?]*/index-000000\.arrow: has CRC32C"):
        ShardSet.open(f"{url}?signature=x").index(1)
    (root / "manifest-000000.json").write_text("{}")
    with pytest.raises(
        DataError, match=r"^http://[^?]*/manifest-000000\.json: is no manifest of pyimportance"
    ):
        ShardSet.open(f"{url}?signature=x")
