"""Manifests, and tars that no manifest knows, behind URLs: a node fetches what it reads of them once."""

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress

import numpy as np
import pytest

from pyimportance import DataError, ImportanceDataset, ShardSet, WebDataset, index, repartition, write_shards
from pyimportance.io.meter import Meter
from pyimportance.io.node_cache import NodeCache
from tests import forked
from tests.load.conftest import divide, write_tar
from tests.server import Server

pytestmark = pytest.mark.usefixtures("impatient")
N, MiB = 120, 1 << 20


def payloads(seed, size):
    r = np.random.default_rng(seed)
    return [{"bin": r.bytes(size), "cls": b"%d" % (i % 10)} for i in range(N)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with `set`, `small.tar` (of samples that are read through) and `large.tar` (skipped)."""
    folder = tmp_path_factory.mktemp("headers")
    for name, size in (("small", 2_000), ("large", 3 * MiB // 2)):
        samples = [(f"k{i:05d}", p) for i, p in enumerate(payloads(size, size))]
        write_tar(folder / f"{name}.tar", samples if name == "small" else samples[:12])
    write_shards(folder / "small.tar", divide([N // 2, N // 2], 2), folder / "set")
    return folder


@pytest.fixture
def server(made):
    with Server(made) as server:
        yield server


def ends_with(server, suffix):
    return [r for r in server.ranges if r.path.endswith(suffix)]


def scanned(url, folder, number, ready):
    meter = Meter()
    ready.wait()
    found = index(url, meter=meter, cache=NodeCache(folder / "cache"))
    told = [found.digest, meter.bytes("index"), meter.bytes("origin") + meter.bytes("cache")]
    (folder / f"{number}.json").write_text(json.dumps(told))


@pytest.mark.parametrize("name", ["small", "large"])
def test_headers_are_fetched_by_one_process_of_a_node(made, server, tmp_path, name):
    alone = Meter()
    right = index(str(made / f"{name}.tar"))
    index(f"{server.url}/{name}.tar", meter=alone)
    without = server.nbytes
    server.forget()
    ready = forked.CONTEXT.Barrier(4)
    each = [(f"{server.url}/{name}.tar", tmp_path, number, ready) for number in range(4)]
    assert forked.together(scanned, each, tmp_path) == [""] * 4
    told = [json.loads((tmp_path / f"{number}.json").read_text()) for number in range(4)]
    assert server.nbytes == without == alone.bytes("index")
    assert told == [[right.renamed((f"{server.url}/{name}.tar",)).digest, without, 0]] * 4
    # Those of another job ask whether it is the same, and for nothing of it.
    server.forget()
    index(f"{server.url}/{name}.tar", cache=NodeCache(tmp_path / "cache"))
    assert [r.method for r in server.requests] == ["HEAD"]


def test_what_was_looked_through_is_there_for_the_epoch(made, server, tmp_path):
    dataset = WebDataset(f"{server.url}/small.tar", cache_dir=tmp_path)
    assert server.nbytes == (made / "small.tar").stat().st_size  # headers lie that near each other
    assert len(list(dataset)) == N
    assert server.nbytes == (made / "small.tar").stat().st_size
    assert dataset.io_report().bytes("origin") == 0
    large = WebDataset(f"{server.url}/large.tar", cache_dir=tmp_path)
    server.forget()
    assert [s["bin"] for s in large] == [p["bin"] for p in payloads(3 * MiB // 2, 3 * MiB // 2)[:12]]
    assert large.io_report().bytes("origin") == server.nbytes < (made / "large.tar").stat().st_size


@pytest.mark.parametrize("name", ["small", "large"])
@pytest.mark.parametrize("fault", ["reset", "truncate", 500, 503])
def test_what_passes_is_tried_again(made, server, tmp_path, name, fault):
    for skip in (0, 3):
        server.fail(fault, skip=skip)
    found = index(f"{server.url}/{name}.tar", cache=NodeCache(tmp_path))
    assert found.ids.tolist() == index(str(made / f"{name}.tar")).ids.tolist()


def test_what_stays_is_an_error(server, tmp_path):
    server.fail(416, times=999)
    with pytest.raises(DataError, match=r"small\.tar, offset 0: the server answered 416") as caught:
        index(f"{server.url}/small.tar", cache=NodeCache(tmp_path))
    assert caught.value.path == f"{server.url}/small.tar"
    with pytest.raises(DataError, match=r"nothing\.tar: does not exist"):
        index(f"{server.url}/nothing.tar", cache=NodeCache(tmp_path))


KILLED = """
import sys
from pyimportance import index
from pyimportance.io.node_cache import NodeCache
index(sys.argv[1], cache=NodeCache(sys.argv[2]))
"""


def test_a_process_that_is_killed_holds_up_nobody(made, server, tmp_path):
    server.fail("stall", skip=2, times=1)  # it has claimed what it waits for
    asked = threading.Semaphore(0)
    server.on_request = lambda request: asked.release()
    url = f"{server.url}/large.tar"
    other = subprocess.Popen([sys.executable, "-c", KILLED, url, str(tmp_path)])
    try:
        for _ in range(4):
            assert asked.acquire(timeout=60)
        threading.Timer(1, other.kill).start()
        found = index(url, cache=NodeCache(tmp_path))
    finally:
        other.kill()
        assert other.wait() != 0
    assert found.ids.tolist() == index(str(made / "large.tar")).ids.tolist()


@pytest.mark.parametrize("etag", ["strong", "weak", None])
def test_a_tar_that_is_replaced_by_one_of_its_size(tmp_path, etag):
    """Without an ETag nothing tells them apart, and nothing of them is kept."""
    (tmp_path / "origin").mkdir()
    path = tmp_path / "origin" / "s.tar"
    with Server(tmp_path / "origin", etag=etag) as server:
        for name in ("old", "new"):
            write_tar(path, [(f"{name}{i:05d}", {"txt": name.encode()}) for i in range(50)])
            dataset = WebDataset(f"{server.url}/s.tar", cache_dir=tmp_path / "cache")
            assert {(s["__key__"][:3], s["txt"]) for s in dataset} == {(name, name.encode())}
            list(dataset)
        assert (server.nbytes > 3 * path.stat().st_size) == (etag is None)


def opened(url, folder, number, ready):
    meter = Meter()
    ready.wait()
    shards = ShardSet.open(url, meter=meter, cache=NodeCache(folder / "cache"))
    (folder / f"{number}.json").write_text(json.dumps([shards.digest, meter.bytes("index")]))


def test_the_manifest_of_a_generation_is_fetched_by_one_process_of_a_node(made, server, tmp_path):
    ready = forked.CONTEXT.Barrier(4)
    each = [(f"{server.url}/set", tmp_path, number, ready) for number in range(4)]
    assert forked.together(opened, each, tmp_path) == [""] * 4
    sizes = [(made / "set" / name).stat().st_size for name in ("manifest.json", "manifest-000000.json")]
    digest = ShardSet.open(made / "set").digest
    told = [json.loads((tmp_path / f"{number}.json").read_text()) for number in range(4)]
    assert told == [[digest, sum(sizes)]] * 4
    assert sum(r.sent for r in ends_with(server, "/manifest-000000.json")) == sizes[1]
    assert len(ends_with(server, "/manifest.json")) == 4  # nobody believes an old one
    server.forget()
    ImportanceDataset(f"{server.url}/set", cache_dir=tmp_path / "cache")
    assert not ends_with(server, "/manifest-000000.json")


def test_a_later_generation_is_seen_at_once(made, tmp_path):
    write_shards(made / "small.tar", divide([N // 2, N // 2], 2), tmp_path / "o" / "set")
    cache = NodeCache(tmp_path / "cache")
    with Server(tmp_path / "o") as server:
        assert ShardSet.open(f"{server.url}/set", cache=cache).generation == 0
        repartition(ShardSet.open(tmp_path / "o" / "set"), divide([N // 2, N // 2], 2, seed=1))
        shards = ShardSet.open(f"{server.url}/set", cache=cache)
        assert (shards.generation, shards.digest) == (1, ShardSet.open(tmp_path / "o" / "set").digest)
        server.forget()
        assert ShardSet.open(f"{server.url}/set", generation=0, cache=cache).generation == 0
        assert [os.path.basename(r.path) for r in server.ranges] == ["manifest.json"]


def test_a_manifest_that_is_damaged_in_the_cache_is_fetched_again(made, server, tmp_path):
    digest = ShardSet.open(f"{server.url}/set", cache=NodeCache(tmp_path)).digest
    for path in tmp_path.glob("*.parts"):
        path.write_bytes(path.read_bytes().replace(b"samples", b"sampled"))
    server.forget()
    assert ShardSet.open(f"{server.url}/set", cache=NodeCache(tmp_path)).digest == digest
    assert len(ends_with(server, "/manifest-000000.json")) == 1


def test_nothing_is_left_open(made, server, tmp_path, open_below):
    before = {thread for thread in threading.enumerate() if thread.name == "pyimportance-downloads"}
    index(f"{server.url}/small.tar", cache=NodeCache(tmp_path))
    server.fail(404, times=999)
    with suppress(DataError):
        index(f"{server.url}/large.tar", cache=NodeCache(tmp_path))
    for thread in set(threading.enumerate()) - before:
        if thread.name == "pyimportance-downloads":
            thread.join(30)
            assert not thread.is_alive()
    assert open_below(tmp_path) == []
