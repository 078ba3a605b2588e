"""Compressed shards: every frame is read and decompressed once in an epoch, whatever is kept besides."""

import os

import numpy as np
import pytest

from pyimportance import ImportanceDataset, partition, repartition, samplers, write_shards
from pyimportance.io import frames
from pyimportance.io.frames import content_of
from pyimportance.io.storage import open_file
from pyimportance.score.values import Scores
from tests.load.conftest import divide, write_tar
from tests.server import Server

N, BINS, KiB = 600, 3, 1 << 10
TAIL = 16 * KiB  # of a file behind a URL, read at once for its table
ONE = {"rank": 0, "world_size": 1, "batch_size": 8}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder, r = tmp_path_factory.mktemp("once"), np.random.default_rng(0)
    parts = [{"bin": r.bytes(int(r.integers(500, 4000))), "pad": bytes(2000), "cls": b"1"} for _ in range(N)]
    write_tar(folder / "s.tar", [(f"k{i:05d}", p) for i, p in enumerate(parts)])
    return folder, parts


@pytest.fixture(scope="module")
def made(source):
    """made(workers, frame_bytes, again=False): a set; again: repartitioned, so that bins share frames."""
    folder, sets = source[0], {}

    def get(workers, frame_bytes, again=False):
        what = workers, frame_bytes, again
        if what not in sets:
            shards = write_shards(
                folder / "s.tar",
                divide([N // workers] * workers, BINS),
                folder / "-".join(map(str, what)),
                shard_bytes=600 * KiB,
                compression="zstd",
                frame_bytes=frame_bytes,
            )
            if again:
                scores = Scores(np.random.default_rng(1).normal(size=N).astype(np.float32))
                moved = partition(scores, workers, policy="sticky", k=60, current=shards, bins=BINS)
                shards = repartition(shards, moved)
            sets[what] = shards
        return sets[what]

    return get


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch):
    monkeypatch.setattr(frames, "KEPT_BYTES", 0)
    monkeypatch.setattr(frames, "_kept", frames._Kept())


def to_be_read(shards, ids, *, url=False):
    """Bytes of the frames in which these samples lie, and of the tables of their files."""
    total = 0
    for worker in range(shards.workers):
        index = shards.index(worker)
        rows = np.flatnonzero(np.isin(index.ids, ids))
        for number in np.unique(index.file[rows]).tolist():
            with content_of(open_file(index.files[number])) as file:
                wanted = np.unique(index.frame[rows[index.file[rows] == number]])
                total += int(np.diff(file.stored)[wanted].sum())
                size = os.path.getsize(index.files[number])
                total += min(TAIL, size) if url else size - int(file.stored[-1])
    return total


def test_what_is_to_be_read_of_all_samples_is_the_files(made):
    shards = made(1, 16 * KiB)
    assert to_be_read(shards, range(N)) == sum(shard.nbytes for shard in shards.shards)


@pytest.mark.parametrize("window", [1, 20 * KiB, 300 * KiB, 1 << 30])
@pytest.mark.parametrize(
    "shape",
    [(1, 2 * KiB), (1, 16 * KiB), (1, 400 * KiB), (3, 16 * KiB)],
    ids=["a sample a frame", "several", "large frames", "three workers"],
)
@pytest.mark.parametrize("remote", [False, True])
def test_an_epoch_reads_every_frame_once(made, source, window, shape, remote):
    """However large windows and frames are beside each other, and however many workers a rank reads."""
    shards = made(*shape)
    with Server(source[0]) as server:
        where = f"{server.url}/{os.path.basename(shards.root)}" if remote else shards
        dataset = ImportanceDataset(where, **ONE, window_bytes=window)
        before, tier = dataset.counts(), 0 if remote else 2
        ids = []
        for sample in dataset:
            assert {name: sample[name] for name in source[1][0]} == source[1][sample["__index__"]]
            ids.append(sample["__index__"])
    assert sorted(ids) == list(range(N))
    assert (dataset.counts() - before)[tier, 0] == to_be_read(shards, ids, url=remote)
    assert not frames._kept._holds


@pytest.mark.parametrize(
    "options",
    [
        {"shuffle": False},
        {"shuffle": "shards"},
        {"mix": "sequential"},
        {"keep": 0.3},
        {"ids": np.arange(0, N, 13)},
        {"sampler": samplers.RS2(0.1)},
        {"select_files": lambda name: name.endswith(".cls")},
        {"batched": True},
    ],
)
def test_whatever_is_read_of_them(made, options):
    shards = made(1, 16 * KiB)
    dataset = ImportanceDataset(shards, **{**ONE, **options}, window_bytes=100 * KiB)
    before = dataset.counts()
    ids = [i for some in dataset for i in np.atleast_1d(some["__index__"]).tolist()]
    assert (dataset.counts() - before)[2, 0] == to_be_read(shards, ids)


@pytest.mark.parametrize("p", [0.25, 0.5])
def test_a_share_of_the_samples_is_that_share_of_the_bytes(made, source, p):
    shards = made(1, 2 * KiB)
    dataset = ImportanceDataset(shards, **ONE, window_bytes=100 * KiB, keep=p)
    before = dataset.counts()
    ids = [sample["__index__"] for sample in dataset]
    assert len(ids) == p * N
    size = [len(parts["bin"]) for parts in source[1]]  # the rest is as good as nothing, compressed
    share = sum(size[i] for i in ids) / sum(size)
    assert share == pytest.approx(p, rel=0.1)
    whole = sum(shard.nbytes for shard in shards.shards)
    assert (dataset.counts() - before)[2, 0] == pytest.approx(share * whole, rel=0.02)


@pytest.mark.parametrize(("window", "most"), [(60 * KiB, 1.25), (300 * KiB, 1.05)])
def test_bins_that_share_frames(made, window, most):
    """After samples have changed bins: a frame's blocks come at about the same place in all bins."""
    shards = made(2, 16 * KiB, True)
    index = shards.index(0)
    bins_of_frames = {(f, g): set() for f, g in zip(index.file.tolist(), index.frame.tolist(), strict=True)}
    for f, g, b in zip(index.file.tolist(), index.frame.tolist(), index.bin.tolist(), strict=True):
        bins_of_frames[f, g].add(b)
    assert np.mean([len(bins) for bins in bins_of_frames.values()]) > 1.5
    dataset = ImportanceDataset(shards, **ONE, window_bytes=window)
    before = dataset.counts()
    ids = [sample["__index__"] for sample in dataset]
    assert sorted(ids) == list(range(N))
    assert (dataset.counts() - before)[2, 0] <= most * to_be_read(shards, ids)


def test_what_is_held_is_a_frame_of_each_bin_and_those_that_are_being_read(made, monkeypatch):
    shards, most = made(1, 16 * KiB), [0]
    decode = frames.Framed.decode

    def watched(self, *args):
        most[0] = max(most[0], frames._kept._nbytes)
        return decode(self, *args)

    monkeypatch.setattr(frames.Framed, "decode", watched)
    assert sum(1 for _ in ImportanceDataset(shards, **ONE, window_bytes=150 * KiB)) == N
    largest = max(int(np.diff(content_of(open_file(f))._table.content).max()) for f in shards.index(0).files)
    assert 0 < most[0] <= (BINS + 8 + 1) * largest  # at most eight threads are at one, and one is idle


def test_what_is_not_read_to_its_end_holds_nothing(made):
    samples = iter(ImportanceDataset(made(1, 16 * KiB), **ONE, window_bytes=100 * KiB))
    for _ in range(100):
        next(samples)
    assert frames._kept._holds
    samples.close()
    assert not frames._kept._holds
