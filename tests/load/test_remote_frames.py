"""Compressed shards behind URLs: frames that lie side by side come in one request, and no others come."""

import json
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from pyimportance import DataError, ImportanceDataset, ShardSet, index, write_shards
from pyimportance.io import arriving, arriving_frames, frames, remote
from pyimportance.io.downloads import AT_ONCE, Downloads
from pyimportance.io.frames import content_of
from pyimportance.io.meter import Meter
from pyimportance.io.storage import open_file
from tests import forked
from tests.load.conftest import divide, write_tar
from tests.server import Server

pytestmark = pytest.mark.usefixtures("impatient")
N, FRAME, MiB = 600, 32 << 10, 1 << 20
WHOLE = 1 << 30  # window_bytes: all at once


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder with `set` and `s.tar`, the parts of each sample): two workers, frames by the hundred."""
    folder, r = tmp_path_factory.mktemp("frames"), np.random.default_rng(0)
    parts = [
        {"bin": r.bytes(int(r.integers(1_000, 40_000))), "cls": b"%d" % (i % 10), "pad": bytes(20_000)}
        for i in range(N)
    ]
    write_tar(folder / "s.tar", [(f"k{i:05d}", p) for i, p in enumerate(parts)])
    write_shards(
        folder / "s.tar",
        divide([N // 2, N // 2], 3),
        folder / "set",
        shard_bytes=10 << 20,
        compression="zstd",
        frame_bytes=FRAME,
    )
    return folder, parts


@pytest.fixture
def server(made):
    with Server(made[0]) as server:
        yield server


@pytest.fixture
def soon_late(impatient, monkeypatch):
    """A server that is silent for a second does not answer in time."""
    monkeypatch.setattr(remote, "_TIMEOUT", timedelta(seconds=1))
    remote._store.cache_clear()


def check(samples, parts):
    """The ids, of samples that are what they should be."""
    ids = []
    for sample in samples:
        assert {name: sample[name] for name in parts[0]} == parts[sample["__index__"]]
        if not sample["__pad__"]:
            ids.append(sample["__index__"])
    return ids


def counted(dataset, tier="origin"):
    report = dataset.io_report()
    return report.bytes(tier), report.requests(tier)


def tables(folder):
    """(path, seek table, index rows of the samples in it) of each shard."""
    shards = ShardSet.open(folder / "set")
    for worker in range(shards.workers):
        samples = shards.index(worker)
        for number, path in enumerate(samples.files):
            with content_of(open_file(path)) as file:
                yield path, file.stored, samples, np.flatnonzero(samples.file == number)


@pytest.mark.parametrize("cached", [True, False])
def test_requests_are_as_many_as_megabytes_ask_for_not_frames(made, server, tmp_path, cached, monkeypatch):
    folder, parts = made
    for module in (arriving, arriving_frames):
        monkeypatch.setattr(module, "PIECE", piece := MiB)  # as frames are small here, so is the bound
    dataset = ImportanceDataset(
        f"{server.url}/set", cache_dir=tmp_path if cached else None, window_bytes=WHOLE
    )
    server.forget()
    assert sorted(check(dataset, parts)) == list(range(N))
    every = [(int(stored[-1]), len(stored) - 1) for _, stored, _, _ in tables(folder)]
    # A shard is its pieces and the end of it, where its table is.
    most = sum(-(-nbytes // (piece - FRAME)) + 1 for nbytes, _ in every)
    assert sum(count for _, count in every) > 15 * most
    assert len(server.ranges) <= most
    assert max(r.sent for r in server.ranges) <= piece
    assert counted(dataset) == (server.nbytes, len(server.ranges))
    assert server.nbytes <= sum(nbytes for nbytes, _ in every) + len(every) * (16 << 10)
    server.forget()
    dataset.set_epoch(1)
    assert sorted(check(dataset, parts)) == list(range(N))
    assert (server.nbytes == 0) == cached


def test_they_are_asked_for_at_the_same_time_and_before_they_are_needed(made, server):
    server.delay = 0.1
    dataset = ImportanceDataset(f"{server.url}/set", window_bytes=4 * MiB, rank=0, world_size=2)
    window = (
        4
        * MiB
        * sum(s.nbytes for s in dataset.shards.shards)
        / sum(s.content_bytes for s in dataset.shards.shards)
    )
    server.forget()
    samples = iter(dataset)
    next(samples)
    assert server.most_at_once > 2
    until = time.monotonic() + 30
    while server.nbytes < 1.5 * window and time.monotonic() < until:
        time.sleep(0.02)  # the next window comes while nobody asks for it
    assert 1.5 * window < server.nbytes < 4 * window
    samples.close()


def test_only_the_frames_that_are_needed_are_fetched(made, server):
    folder, _ = made
    every = sum(int(stored[-1]) for _, stored, _, _ in tables(folder))
    for most, options in ((0.35, {"keep": 0.3}), (0.2, {"ids": np.arange(0, N, 7)})):
        local = ImportanceDataset(folder / "set", window_bytes=WHOLE, **options)
        dataset = ImportanceDataset(f"{server.url}/set", window_bytes=WHOLE, **options)
        server.forget()
        ids = [s["__index__"] for s in dataset]
        assert ids == [s["__index__"] for s in local]
        # Locally each frame is a request, and so is the table twice; here the end of a file is read at once.
        nbytes, _ = counted(local, "disk")
        assert 0 <= server.nbytes - nbytes <= (16 << 10) * len({r.path for r in server.ranges})
        assert counted(dataset) == (server.nbytes, len(server.ranges))
        assert nbytes < most * every


def rank_of_a_node(url, folder, rank, ready):
    dataset = ImportanceDataset(url, batch_size=8, rank=rank, world_size=4, cache_dir=folder / "cache")
    ready.wait()
    ids = [s["__index__"] for s in dataset if not s["__pad__"]]
    (folder / f"{rank}.json").write_text(json.dumps([ids, *counted(dataset)]))


def test_ranks_of_a_node_fetch_each_frame_once(made, server, tmp_path):
    ready = forked.CONTEXT.Barrier(4)
    each = [(f"{server.url}/set", tmp_path, rank, ready) for rank in range(4)]
    assert forked.together(rank_of_a_node, each, tmp_path) == [""] * 4
    told = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(4)]
    assert sorted(i for ids, *_ in told for i in ids) == list(range(N))
    shards = [r for r in server.ranges if r.path.endswith(".zst")]
    assert sum(nbytes for _, nbytes, _ in told) == sum(r.sent for r in shards)
    assert sum(requests for *_, requests in told) == len(shards)
    assert sum(r.sent for r in shards) <= sum(s.nbytes for s in ShardSet.open(made[0] / "set").shards)


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("fault", ["reset", "truncate", "stall", 500, 503])
@pytest.mark.usefixtures("soon_late")
def test_what_passes_is_tried_again(made, server, tmp_path, cached, fault):
    _, parts = made
    dataset = ImportanceDataset(
        f"{server.url}/set", cache_dir=tmp_path if cached else None, window_bytes=4 * MiB
    )
    server.forget()
    for skip in (1, 6, 11):
        server.fail(fault, skip=skip)
    assert sorted(check(dataset, parts)) == list(range(N))
    assert all(planned.times == 0 for planned in server._faults)


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("fault", [(416, "416"), (503, "answered 503"), ("short", "sent bytes")])
def test_what_stays_is_an_error_that_names_it(made, server, tmp_path, cached, fault):
    fault, error = fault
    dataset = ImportanceDataset(
        f"{server.url}/set",
        cache_dir=tmp_path if cached else None,
        window_bytes=WHOLE,
        rank=0,
        world_size=2,
    )
    server.forget()
    shards = len(ShardSet.open(made[0] / "set").index(0).files)
    server.fail(fault, path=".zst", skip=shards, times=9999)  # once all are open
    with pytest.raises(DataError, match=rf"frame \d+, which begins at \d+ of .*{error}") as caught:
        list(dataset)
    assert caught.value.path.startswith(f"{server.url}/set/worker-")
    assert caught.value.offset is not None
    assert caught.value.member is not None
    assert len(server.requests) < 150  # not every frame again, with all retries


@pytest.mark.parametrize("cached", [True, False])
def test_what_is_in_error_may_be_skipped(made, server, tmp_path, cached):
    folder, parts = made
    dataset = ImportanceDataset(
        f"{server.url}/set",
        cache_dir=tmp_path if cached else None,
        on_error="skip",
        max_skipped=N,
        window_bytes=WHOLE,
    )
    name = ShardSet.open(folder / "set").shards[1].path
    server.fail(503, path=name, skip=1, times=9999)
    ids = check(dataset, parts)
    there = {s["__index__"] for s in ImportanceDataset(folder / "set") if name not in s["__url__"]}
    assert there
    assert set(ids) == there
    assert dataset.skipped == N - len(there)


@pytest.mark.parametrize("cached", [True, False])
def test_a_shard_that_changes_meanwhile(made, tmp_path, cached):
    source, out = index(made[0] / "s.tar"), tmp_path / "origin" / "set"
    shards = write_shards(source, divide([N], 1), out, compression="zstd", frame_bytes=FRAME)
    path = Path(shards.root) / shards.shards[0].path
    with Server(tmp_path / "origin") as server:
        dataset = ImportanceDataset(
            f"{server.url}/set", cache_dir=tmp_path / "c" if cached else None, window_bytes=MiB
        )
        samples = iter(dataset)
        next(samples)
        path.write_bytes(path.read_bytes()[:-1] + b"!")
        with pytest.raises(DataError, match=r"\.zst, .*: was changed while it was being read: its version"):
            list(samples)


def test_frames_that_are_kept_are_not_fetched_again(made, server):
    path, stored, *_ = next(tables(made[0]))
    meter, downloads, handles = Meter(), Downloads(), []
    with open_file(path) as file, content_of(file) as local:
        right = local.pread(0, 300_000)
    url = f"{server.url}/{Path(path).relative_to(made[0])}"
    there = arriving_frames.arriving(url, arriving.Origin(), downloads, meter)
    for end in (200_000, 300_000):
        with there.request(expected := there.expect([(0, end)]), handles.append) as request:
            request.wait()
            assert handles == [expected]
            assert bytes(handles.pop().fetch(0, end)[0]) == right[:end]
    wanted = int(there.frame_of(np.array([299_999]))[0]) + 1
    tail = min(int(stored[-1]), 16 << 10)
    assert meter.bytes("origin") == server.nbytes <= int(stored[wanted]) + tail + 8 * len(stored)
    assert len(server.ranges) == meter.requests("origin") == 3
    downloads.close()


@pytest.mark.parametrize("kept", [0, 3 * FRAME])
def test_frames_that_could_not_be_kept_are_fetched_again(made, server, monkeypatch, kept):
    _, parts = made
    monkeypatch.setattr(frames, "KEPT_BYTES", kept)
    dataset = ImportanceDataset(f"{server.url}/set", window_bytes=2 * MiB)
    assert sorted(check(dataset, parts)) == list(range(N))
    server.forget()
    before = counted(dataset)
    dataset.set_epoch(1)
    assert sorted(check(dataset, parts)) == list(range(N))
    nbytes, requests = counted(dataset)
    assert (nbytes - before[0], requests - before[1]) == (server.nbytes, len(server.ranges))


def test_pieces_are_let_go_of_with_their_last_frame(made, server, monkeypatch):
    """What is held compressed is what the reading threads are at, however much is asked for at once."""
    _, parts = made
    for module in (arriving, arriving_frames):
        monkeypatch.setattr(module, "PIECE", piece := 128 << 10)
    pieces, most = set(), [0]
    take = arriving_frames._Piece.take

    def watched(self, *asked):
        pieces.add(self)
        try:
            return take(self, *asked)
        finally:
            most[0] = max(most[0], sum(len(p._data) for p in pieces.copy()))

    monkeypatch.setattr(arriving_frames._Piece, "take", watched)
    dataset = ImportanceDataset(f"{server.url}/set", window_bytes=WHOLE)
    assert sorted(check(dataset, parts)) == list(range(N))
    assert len(pieces) > 2 * AT_ONCE
    assert 0 < most[0] <= AT_ONCE * piece < sum(p.end - p.begin for p in pieces)
    assert not any(p._data for p in pieces)
