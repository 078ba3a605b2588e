"""Shards behind a URL: every sample exactly once, every byte counted, none fetched twice by a node."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from pyimportance import ArgumentError, DataError, ImportanceDataset, ShardSet, WebDataset, write_shards
from pyimportance.io import remote
from tests import forked
from tests.load.conftest import divide, open_below, write_tar
from tests.server import Server

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]
N = 240
ROOT = Path(__file__).parents[2]


def payloads(seed=0, low=1_000, high=40_000):
    r = np.random.default_rng(seed)
    return [{"bin": r.bytes(int(r.integers(low, high))), "cls": b"%d" % (i % 10)} for i in range(N)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder with `set`, `packed` and `s.tar`, the parts of each sample)"""
    folder, parts = tmp_path_factory.mktemp("remote"), payloads()
    plan = divide([N // 2, N // 2], 3)
    write_tar(folder / "s.tar", [(f"k{i:05d}", p) for i, p in enumerate(parts)])
    write_shards(folder / "s.tar", plan, folder / "set", shard_bytes=1 << 20)
    write_shards(folder / "s.tar", plan, folder / "packed", shard_bytes=1 << 20, compression="zstd")
    return folder, parts


@pytest.fixture(autouse=True)
def short_waits(impatient, request, monkeypatch):
    """For a server that stalls; others may be as slow as a loaded machine makes them."""
    if "[stall" in request.node.name:
        monkeypatch.setattr(remote, "_TIMEOUT", timedelta(seconds=2))


@pytest.fixture
def server(made):
    with Server(made[0]) as server:
        yield server


def read(dataset, parts, *, processes=0, method=None):
    """The ids of an epoch, in order; the samples are what they should be."""
    loader = DataLoader(
        dataset, batch_size=8, collate_fn=list, num_workers=processes, multiprocessing_context=method
    )
    ids = []
    for batch in loader:
        for sample in batch:
            assert {name: sample[name] for name in parts[0]} == parts[sample["__index__"]]
            if not sample["__pad__"]:
                ids.append(sample["__index__"])
    return ids


def tier(dataset, name):
    return dataset.io_report().bytes(name)


def sent(server, suffix):
    """Bytes that it sent of such objects."""
    return sum(request.sent for request in server.requests if request.path.endswith(suffix))


def live(url, bins=slice(None)):
    """Bytes of the samples of a set."""
    shards = ShardSet.open(url)
    return sum(int(shards.index(w).nbytes.sum()) for w in range(shards.workers))


def test_without_a_cache_every_epoch_fetches_what_it_reads(made, server):
    folder, parts = made
    dataset = ImportanceDataset(f"{server.url}/set", batch_size=8)
    server.forget()
    for epoch in range(2):
        dataset.set_epoch(epoch)
        local = ImportanceDataset(folder / "set", batch_size=8)
        local.set_epoch(epoch)
        assert read(dataset, parts) == read(local, parts)
    assert tier(dataset, "origin") == server.nbytes == 2 * live(folder / "set")
    assert tier(dataset, "disk") == tier(dataset, "cache") == 0


@pytest.mark.parametrize(("processes", "method"), [(0, None), (2, "fork"), (2, "forkserver")])
def test_with_a_cache_the_second_epoch_fetches_nothing(made, server, tmp_path, processes, method):
    folder, parts = made
    dataset = ImportanceDataset(f"{server.url}/set", batch_size=8, cache_dir=tmp_path, window_bytes=1 << 20)
    local = ImportanceDataset(folder / "set", batch_size=8, window_bytes=1 << 20)
    nbytes, indexes = live(folder / "set"), tier(dataset, "index")
    for epoch in range(2):
        dataset.set_epoch(epoch)
        local.set_epoch(epoch)
        assert read(dataset, parts, processes=processes, method=method) == read(local, parts)
        assert tier(dataset, "origin") == nbytes
    assert tier(dataset, "origin") == sent(server, ".tar")
    assert sent(server, ".arrow") == sum(info.nbytes for info in dataset.shards.manifest.indexes)
    assert tier(dataset, "cache") >= nbytes
    assert tier(dataset, "disk") == 0
    if method != "forkserver":  # a process that begins afresh opens what the others have inherited
        assert tier(dataset, "index") == indexes == sent(server, ".arrow") + sent(server, ".json")


def test_an_index_that_is_damaged_in_the_cache_is_fetched_again(made, server, tmp_path):
    folder, _ = made
    (info, _), url = ShardSet.open(folder / "set").manifest.indexes, f"{server.url}/set"
    right = ImportanceDataset(url, cache_dir=tmp_path, rank=0, world_size=2).planned_ids().tolist()
    (kept,) = [path for path in tmp_path.glob("*.parts") if path.stat().st_size == info.nbytes]
    data = bytearray(kept.read_bytes())
    data[info.nbytes // 2] ^= 1
    kept.write_bytes(data)
    server.forget()
    dataset = ImportanceDataset(url, cache_dir=tmp_path, rank=0, world_size=2)
    assert dataset.planned_ids().tolist() == right
    assert sent(server, ".arrow") == info.nbytes
    manifests = sum(path.stat().st_size for path in (folder / "set").glob("manifest*.json"))
    assert tier(dataset, "index") == 2 * info.nbytes + manifests  # it was read there before
    server.forget()
    opened = ShardSet.open(url)  # one that knows no cache is read through it as well
    dataset = ImportanceDataset(opened, cache_dir=tmp_path, rank=0, world_size=2)
    assert dataset.planned_ids().tolist() == right
    assert sent(server, ".arrow") == 0


def test_an_index_that_is_damaged_at_its_origin(made, tmp_path):
    shutil.copytree(made[0] / "set", tmp_path / "set")
    (index, *_) = sorted((tmp_path / "set").glob("worker-000/*.arrow"))
    data = bytearray(index.read_bytes())
    data[len(data) // 2] ^= 1
    with Server(tmp_path) as server:
        index.write_bytes(data)
        for _ in range(2):
            with pytest.raises(
                DataError, match=r"worker-000/index-000000.arrow.*: has CRC32C .* manifest says"
            ):
                ImportanceDataset(f"{server.url}/set", cache_dir=tmp_path / "cache")
        shutil.copy(
            made[0] / "set" / index.relative_to(tmp_path / "set"), index
        )  # mended, it is fetched again
        dataset = ImportanceDataset(f"{server.url}/set", cache_dir=tmp_path / "cache")
        assert len(dataset.planned_ids()) == N


def test_compressed_shards(made, server, tmp_path):
    folder, parts = made
    dataset = ImportanceDataset(f"{server.url}/packed", batch_size=8, cache_dir=tmp_path)
    server.forget()
    assert sorted(read(dataset, parts)) == list(range(N))
    assert tier(dataset, "origin") == server.nbytes
    assert server.nbytes <= sum(s.nbytes for s in ShardSet.open(folder / "packed").shards)
    server.forget()
    dataset.set_epoch(1)
    assert sorted(read(dataset, parts)) == list(range(N))
    assert server.nbytes == 0


def test_only_what_is_kept_or_selected_is_fetched(made, server, tmp_path):
    folder, _ = made
    for options in ({"keep": 0.25}, {"select_files": lambda name: name.endswith(".cls")}):
        local = ImportanceDataset(folder / "set", **options)
        read_there = [s["__index__"] for s in local]
        dataset = ImportanceDataset(f"{server.url}/set", cache_dir=tmp_path / str(len(options)), **options)
        server.forget()
        assert [s["__index__"] for s in dataset] == read_there
        assert tier(dataset, "origin") == server.nbytes
        # Samples of less than 16 KiB between two that are wanted come with them.
        assert tier(local, "disk") <= server.nbytes < tier(local, "disk") + 16_384 * len(server.ranges) * 8
        assert server.nbytes < 0.62 * live(folder / "set")


def rank_of_a_node(url, folder, rank, ready):
    dataset = ImportanceDataset(url, batch_size=8, rank=rank, world_size=4, cache_dir=folder / "cache")
    ready.wait()
    ids = [s["__index__"] for s in dataset if not s["__pad__"]]
    report = dataset.io_report()
    told = [ids, report.bytes("origin"), report.bytes("cache"), report.bytes("index")]
    (folder / f"{rank}.json").write_text(json.dumps(told))


def test_ranks_of_a_node_share_what_they_fetch(made, server, tmp_path):
    """Two to a worker: their samples lie between each other's."""
    folder, _ = made
    ready = forked.CONTEXT.Barrier(4)
    each = [(f"{server.url}/set", tmp_path, rank, ready) for rank in range(4)]
    assert forked.together(rank_of_a_node, each, tmp_path) == [""] * 4
    told = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(4)]
    assert sorted(i for ids, *_ in told for i in ids) == list(range(N))
    assert sum(t[1] for t in told) == sent(server, ".tar")
    assert sum(t[1] for t in told) <= live(folder / "set")  # nothing twice
    assert sum(t[1] + t[2] for t in told) >= live(folder / "set")
    indexes = [info.nbytes for info in ShardSet.open(folder / "set").manifest.indexes]
    assert sent(server, ".arrow") == sum(indexes)  # each by one of the two ranks that read it, or by both
    manifests = sum(path.stat().st_size for path in (folder / "set").glob("manifest*.json"))
    assert [t[3] - manifests for t in told] == [indexes[r // 2] for r in range(4)]


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("fault", ["reset", "truncate", "stall", 500, 503])
def test_nothing_is_lost_or_doubled_when_a_server_fails_now_and_then(made, server, tmp_path, cached, fault):
    folder, parts = made
    dataset = ImportanceDataset(
        f"{server.url}/set", batch_size=8, cache_dir=tmp_path if cached else None, window_bytes=1 << 17
    )
    server.forget()
    for skip in range(3, 60, 27 if fault == "stall" else 9):
        server.fail(fault, skip=skip)
    assert sorted(read(dataset, parts)) == list(range(N))
    assert not any(planned.times for planned in server._faults)  # all were met
    assert tier(dataset, "origin") == live(folder / "set")


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize(
    ("fault", "error"),
    [(416, "416"), (503, "answered 503"), ("short", "sent bytes"), ("stall", "does not answer in time")],
)
def test_what_a_server_does_not_give_is_an_error_that_names_it(server, tmp_path, cached, fault, error):
    dataset = ImportanceDataset(f"{server.url}/set", cache_dir=tmp_path if cached else None)
    server.forget()
    server.fail(fault, times=9999)
    with pytest.raises(DataError, match=error) as caught:
        list(dataset)
    assert caught.value.path.startswith(f"{server.url}/set/worker-")
    assert caught.value.offset is not None
    assert caught.value.member is not None
    assert len(server.requests) < 400  # not every sample again, with all retries


def test_what_is_in_error_may_be_skipped(made, server, tmp_path):
    folder, parts = made
    dataset = ImportanceDataset(
        f"{server.url}/set", cache_dir=tmp_path, on_error="skip", max_skipped=N, window_bytes=1 << 18
    )
    name = ShardSet.open(folder / "set").shards[1].path
    for method in ("HEAD", "GET"):
        server.fail(404, path=name, times=9999, method=method)
    ids = read(dataset, parts)
    there = {s["__index__"] for s in ImportanceDataset(folder / "set") if name not in s["__url__"]}
    assert set(ids) <= there
    assert dataset.skipped == N - len(there)


@pytest.mark.parametrize("cached", [True, False])
def test_a_shard_that_changes_meanwhile(tmp_path, cached):
    parts = payloads(1)
    (tmp_path / "origin").mkdir()
    write_tar(tmp_path / "s.tar", [(f"k{i:05d}", p) for i, p in enumerate(parts)])
    shards = write_shards(tmp_path / "s.tar", divide([N], 1), tmp_path / "origin" / "set")
    path = Path(shards.root) / shards.shards[0].path
    with Server(tmp_path / "origin") as server:
        dataset = ImportanceDataset(
            f"{server.url}/set", cache_dir=tmp_path / "c" if cached else None, window_bytes=1 << 18
        )
        samples = iter(dataset)
        next(samples)
        path.write_bytes(path.read_bytes()[:-1] + b"!")
        with pytest.raises(DataError, match=r"\.tar, .*: was changed while it was being read: its version"):
            list(samples)


def test_webdataset_reads_a_set_and_tars_there(made, server, tmp_path):
    _, parts = made
    shards = WebDataset(f"{server.url}/set", shardshuffle=True, cache_dir=tmp_path)
    assert sorted(s["__index__"] for s in shards) == list(range(N))
    for url in (f"{server.url}/s.tar", [f"{server.url}/s.tar"]):
        tars = WebDataset(url, cache_dir=tmp_path, cache_size=1 << 30).shuffle(10)
        assert read(tars, parts) != list(range(N))
        server.forget()
        assert sorted(read(tars, parts)) == list(range(N))
        assert server.nbytes == 0
        assert {r.method for r in server.requests} == {"HEAD"}  # no manifest says that it is the same


def test_tars_there_and_here(made, server, tmp_path):
    write_tar(tmp_path / "t.tar", [(f"t{i:05d}", {"cls": b"1"}) for i in range(30)])
    dataset = WebDataset([f"{server.url}/s.tar", str(tmp_path / "t.tar")], cache_dir=tmp_path / "c")
    server.forget()
    assert len(list(dataset)) == N + 30
    assert tier(dataset, "origin") == server.nbytes + 30 * 1024
    list(dataset)
    assert tier(dataset, "origin") == server.nbytes + 2 * 30 * 1024


def test_nothing_is_left_behind(made, server, tmp_path):
    before = set(threading.enumerate())

    def left():
        own = set(threading.enumerate()) - before
        return [thread for thread in own if thread.name == "pyimportance-downloads"]

    dataset = ImportanceDataset(f"{server.url}/set", cache_dir=tmp_path, window_bytes=1 << 18)
    for taken in (1, 50, N):
        samples = iter(dataset)
        for _ in range(taken):
            next(samples)
        samples.close()
        until = time.monotonic() + 30
        while left() and time.monotonic() < until:
            time.sleep(0.02)  # nobody waits for the server, whose answers end them
        assert not left()
        assert open_below(tmp_path) == []


INTERRUPTED = """
import sys
from pyimportance import ImportanceDataset
cache = sys.argv[2] if len(sys.argv) > 2 else None
dataset = ImportanceDataset(sys.argv[1], cache_dir=cache, window_bytes=1 << 18)
print("begins", flush=True)
try:
    for sample in dataset: pass
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def awake(pid):
    """Seconds in which the main thread of a process, which may have ended, ran or waited for a processor."""
    try:
        ran, ready, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    except FileNotFoundError:  # a kernel that does not count them: all is taken for waiting
        return 0
    return (int(ran) + int(ready)) / 1e9


@pytest.mark.parametrize("cached", [True, False])
def test_ctrl_c_stops_at_once_while_a_server_is_silent(made, server, tmp_path, cached):
    """It would take minutes to wait for the server. What Python takes to end, and other processes meanwhile,
    is not waiting."""
    server.fail("stall", path=".tar", skip=5, times=9999)
    command = [sys.executable, "-c", INTERRUPTED, f"{server.url}/set", *([str(tmp_path)] if cached else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert process.stdout.readline() == b"begins\n"
        while server.at_once < 2:
            time.sleep(0.02)
        time.sleep(0.3)
        began = time.monotonic() - awake(process.pid)
        os.kill(process.pid, signal.SIGINT)
        assert process.stdout.readline() == b"interrupted\n"
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            assert time.monotonic() - awake(process.pid) - began < 3
            time.sleep(0.02)
        assert process.wait() == 0
    finally:
        process.kill()
        process.communicate()


def test_what_is_refused(made, tmp_path):
    with pytest.raises(ArgumentError, match="cache_bytes=5: bounds a cache; give cache_dir as well"):
        ImportanceDataset(made[0] / "set", cache_bytes=5)
    with pytest.raises(ArgumentError, match="cache_dir='http://h/c': must be the path of a folder"):
        ImportanceDataset(made[0] / "set", cache_dir="http://h/c")
