"""ImportanceDataset in one process: what is read, in which order, how much of it, and what is refused."""

import copy
import json
import os
import pickle
import re
import threading
import tracemalloc

import numpy as np
import pytest
import torch

from pyimportance import ArgumentError, ImportanceDataset, ShardSet, write_shards
from pyimportance.io.meter import TIERS
from tests.load.samples import best, bytes_of, ids

DISK, ORIGIN, INDEX = (TIERS.index(tier) for tier in ("disk", "origin", "index"))


def test_a_sample(shard_set):
    shards, samples = shard_set((4, 4))
    sample = next(iter(ImportanceDataset(shards, rank=1, world_size=2)))
    i = sample["__index__"]
    assert list(sample)[:5] == ["__key__", "__url__", "__index__", "__weight__", "__pad__"]
    assert {name: sample[name] for name in samples[i]} == samples[i]
    assert type(i) is int
    assert i in shards.index(1).ids
    assert sample["__weight__"] == 1.0
    assert sample["__pad__"] is False
    assert os.path.dirname(sample["__url__"]) == os.path.join(shards.root, "worker-001")


def test_order_of_a_worker_is_the_same_for_any_world_size(shard_set):
    shards, _ = shard_set((20, 20, 20, 20))
    options = {"batch_size": 4, "seed": 3, "window_bytes": 6000}
    alone = [ids(ImportanceDataset(shards, rank=w, world_size=4, **options)) for w in range(4)]
    for world in (1, 2):
        for rank in range(world):
            got = ids(ImportanceDataset(shards, rank=rank, world_size=world, **options))
            for w in range(rank * 4 // world, (rank + 1) * 4 // world):
                assert [i for i in got if i in set(alone[w])] == alone[w]


def test_epochs_and_seeds_differ_and_repeat(shard_set):
    shards, _ = shard_set((40,))
    dataset = ImportanceDataset(shards)
    orders = {}
    for epoch in (0, 1, 2, 0, 1):
        dataset.set_epoch(epoch)
        assert orders.setdefault(epoch, ids(dataset)) == ids(dataset)
    orders["seed"] = ids(ImportanceDataset(shards, seed=1))
    assert len(set(map(tuple, orders.values()))) == 4
    unshuffled = ImportanceDataset(shards, shuffle=False, mix="sequential")
    assert ids(unshuffled) == best(shards.index(0), 1, shards.manifest.descending)


def test_every_batch_has_all_bins_in_proportion(shard_set):
    shards, _ = shard_set((96, 96), bins=4)
    bin_of = {}
    for w in range(2):
        index = shards.index(w)
        bin_of.update(zip(index.ids.tolist(), index.bin.tolist(), strict=True))
    order = ids(ImportanceDataset(shards, batch_size=16, window_bytes=10_000))
    for i in range(0, len(order), 16):
        counts = np.bincount([bin_of[j] for j in order[i : i + 16]], minlength=4)
        assert np.abs(counts - 4).max() <= 2


def test_keep_reads_only_the_most_important(shard_set):
    shards, _ = shard_set((31, 33))
    dataset = ImportanceDataset(shards, keep=0.25)
    assert len(dataset) == 8 + 9
    kept = {i for w in range(2) for i in best(shards.index(w), 0.25, shards.manifest.descending)}
    assert sorted(ids(dataset)) == sorted(kept)
    assert dataset.counts()[DISK, 0] == bytes_of(shards, kept)


def test_borrowed_and_redealt_samples_count_as_origin(shard_set):
    shards, _ = shard_set((0, 2))
    empty = ImportanceDataset(shards, rank=0, world_size=2)
    assert [s["__pad__"] for s in empty] == [True, True]
    assert empty.counts()[ORIGIN, 0] == bytes_of(shards, {0, 1})
    assert empty.counts()[DISK].tolist() == [0, 0]
    shards, _ = shard_set((16, 17, 15))
    home = {0: {0, 1}, 1: {2}}
    for rank in range(2):
        dataset = ImportanceDataset(shards, rank=rank, world_size=2, batch_size=4, elastic=True)
        read = ids(dataset)
        mine = [i for i in read if shards.worker_of(np.array([i]))[0] in home[rank]]
        assert dataset.counts()[DISK, 0] == bytes_of(shards, mine)
        assert dataset.counts()[ORIGIN, 0] == bytes_of(shards, set(read) - set(mine))


def test_neighbours_are_read_in_one_request(shard_set):
    shards, _ = shard_set((40,), bins=2)
    dataset = ImportanceDataset(shards)
    assert len(list(dataset)) == 40
    assert dataset.counts()[DISK].tolist() == [bytes_of(shards, range(40)), 2]
    info = shards.manifest.indexes[0]
    assert dataset.counts()[INDEX].tolist() == [info.nbytes, 1]


def test_batched(shard_set):
    shards, samples = shard_set((31, 33))
    rows = list(ImportanceDataset(shards, batch_size=10))
    dataset = ImportanceDataset(shards, batch_size=10, batched=True)
    batches = list(dataset)
    assert len(dataset) == len(batches) == 7
    assert [len(b["__key__"]) for b in batches] == [10] * 6 + [4]
    assert [i for b in batches for i in b["__index__"].tolist()] == ids(rows)
    first = batches[0]
    assert (first["__index__"].dtype, first["__weight__"].dtype, first["__pad__"].dtype) == (
        np.dtype(np.int64),
        np.dtype(np.float32),
        np.dtype(bool),
    )
    for name in samples[0]:
        assert first[name] == [row[name] for row in rows[:10]]


def test_stopping_early_leaves_nothing_open_and_iterators_restart(shard_set, open_below):
    shards, _ = shard_set((31, 33))
    dataset = ImportanceDataset(shards, window_bytes=4000)
    before = set(threading.enumerate())
    for count in (1, 2, 30):
        for n, _ in enumerate(dataset, 1):
            assert open_below(shards.root)
            if n == count:
                break
        assert open_below(shards.root) == []
    assert set(threading.enumerate()) <= before
    assert ids(dataset) == ids(dataset)
    two = zip(dataset, dataset, strict=True)
    assert all(a == b for a, b in two)


def test_a_copy_reads_the_same(shard_set):
    shards, _ = shard_set((31, 33))
    dataset = ImportanceDataset(shards, batch_size=4)
    dataset.set_epoch(5)
    for twin in (copy.deepcopy(dataset), pickle.loads(pickle.dumps(dataset))):
        assert ids(twin) == ids(dataset)
        assert twin.shards.digest == shards.digest


def test_another_generation(shard_set):
    (one, _), (two, _) = shard_set((40,)), shard_set((31, 33))
    dataset = ImportanceDataset(one)
    dataset.set_epoch(2)
    dataset.set_shards(two.root)
    assert dataset.epoch == 2
    assert sorted(ids(dataset)) == list(range(64))
    assert dataset.shards.digest == two.digest


def test_a_refused_change_changes_nothing(shard_set):
    (one, _), (two, _) = shard_set((31, 33)), shard_set((16, 17, 15))
    dataset = ImportanceDataset(one, rank=0, world_size=2)
    before = ids(dataset)
    with pytest.raises(ArgumentError, match="world_size 2 and 3 workers"):
        dataset.set_shards(two)
    assert ids(dataset) == before
    assert dataset.shards is one


def test_rank_and_world_size_are_found(shard_set, monkeypatch):
    shards, _ = shard_set((31, 33))
    assert (ImportanceDataset(shards).rank, ImportanceDataset(shards).world_size) == (0, 1)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert (ImportanceDataset(shards).rank, ImportanceDataset(shards).world_size) == (1, 2)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 3)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 4)
    assert (ImportanceDataset(shards).rank, ImportanceDataset(shards).world_size) == (3, 4)
    assert ImportanceDataset(shards, rank=0, world_size=1).world_size == 1
    monkeypatch.undo()
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(ArgumentError, match="environment variable RANK='first': must be an integer"):
        ImportanceDataset(shards)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"mix": "random"}, "mix='random': allowed are stratified, sequential"),
        ({"equalize": "no"}, "equalize='no': allowed are pad, drop, error, batch"),
        (
            {"equalize": "batch", "batch_size": 4},
            "equalize='batch': batches differ between ranks; .* batched=True",
        ),
        ({"batch_size": 0}, "batch_size=0: must be at least 1"),
        ({"batched": True}, "batched=True: give batch_size"),
        ({"rank": 2, "world_size": 2}, "rank=2: must be below world_size=2"),
        ({"rank": -1, "world_size": 2}, "rank=-1: must be at least 0"),
        ({"world_size": 0}, "world_size=0: must be at least 1"),
        ({"rank": 0, "world_size": 3}, "world_size 3 and 2 workers: neither divides the other"),
        ({"keep": 0}, "keep=0: must be above 0 and at most 1"),
        ({"seed": -3}, "seed=-3: must be at least 0"),
        ({"rank": 0, "world_size": 2, "equalize": "error"}, "ranks would get 31 to 33 samples"),
    ],
)
def test_wrong_use(shard_set, options, text):
    with pytest.raises(ArgumentError, match=text):
        ImportanceDataset(shard_set((31, 33))[0], **options)


def test_wrong_epochs(shard_set):
    dataset = ImportanceDataset(shard_set((40,))[0])
    with pytest.raises(ArgumentError, match="epoch=-1: must be at least 0"):
        dataset.set_epoch(-1)
    for wrong in (1.5, 1.0, "1", True, None):
        with pytest.raises(ArgumentError, match=r"epoch=.*: must be an integer"):
            dataset.set_epoch(wrong)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [(name, wrong) for name in ("batch_size", "seed", "window_bytes", "rank") for wrong in (1.0, "1", True)]
    + [("world_size", 2.0), ("world_size", "2"), ("keep", "all"), ("keep", True), ("keep", None)]
    + [("shuffle", 1), ("shuffle", "no"), ("elastic", 0), ("batched", 1), ("mix", None), ("mix", 3)]
    + [("equalize", None), ("equalize", ["pad"])],
)
def test_options_of_another_type(shard_set, name, wrong):
    with pytest.raises(ArgumentError, match=re.escape(f"{name}={wrong!r}: ")):
        ImportanceDataset(shard_set((31, 33))[0], **{"rank": 0, "world_size": 2, name: wrong})


@pytest.mark.parametrize("wrong", [None, 3, ["shards"]])
def test_what_is_no_shards(shard_set, wrong):
    with pytest.raises(ArgumentError, match=re.escape(f"shards={wrong!r}: must be a ShardSet, or the path")):
        ImportanceDataset(wrong)
    dataset = ImportanceDataset(shard_set((31, 33))[0])
    with pytest.raises(ArgumentError, match="must be a ShardSet"):
        dataset.set_shards(wrong)


def test_numbers_of_numpy_are_numbers(shard_set):
    shards, _ = shard_set((31, 33))
    plain = {"batch_size": 8, "seed": 3, "keep": 0.5, "window_bytes": 4096, "rank": 1, "world_size": 2}
    ours = {name: (np.float64 if name == "keep" else np.int32)(value) for name, value in plain.items()}
    one = ImportanceDataset(shards, **plain)
    two = ImportanceDataset(shards, **ours, shuffle=np.True_)
    for dataset, epoch in ((one, 4), (two, np.int64(4))):
        dataset.set_epoch(epoch)
    assert ids(one) == ids(two)
    assert json.dumps(two.state_dict(batches=np.int8(2))) == json.dumps(one.state_dict(batches=2))


def test_the_report_is_of_this_rank(shard_set):
    shards, _ = shard_set((31, 33))
    dataset = ImportanceDataset(ShardSet.open(shards.root), rank=1, world_size=2)
    list(dataset)
    report = dataset.io_report()
    assert report.ranks == (1,)
    assert (report.counts[0] == dataset.counts()).all()
    assert json.loads(report.to_json())


@pytest.mark.parametrize(("equalize", "length"), [("pad", 33), ("drop", 31)])
def test_ranks_are_made_equal(shard_set, equalize, length):
    shards, _ = shard_set((31, 33))
    for rank in range(2):
        dataset = ImportanceDataset(shards, batch_size=4, rank=rank, world_size=2, equalize=equalize)
        samples = list(dataset)
        assert len(samples) == len(dataset) == length
        assert sum(s["__pad__"] for s in samples) == (2 if (equalize, rank) == ("pad", 0) else 0)
        if rank == 0:
            assert ids(samples)[31:] == ids(samples)[: length - 31]


def test_unequal_workers_in_equally_many_batches(shard_set):
    shards, _ = shard_set((10, 20, 33))
    seen, rounds = [], [[], [], []]
    for rank, (own, weight) in enumerate([(4, 12 / 22), (7, 21 / 22), (11, 33 / 22)]):
        dataset = ImportanceDataset(
            shards, batch_size=8, batched=True, rank=rank, world_size=3, equalize="batch"
        )
        assert (len(dataset), dataset.own_batch_size) == (3, own)
        batches = list(dataset)
        assert [len(batch["__index__"]) for batch in batches[:2]] == [own, own]
        assert all((batch["__weight__"] == np.float32(weight)).all() for batch in batches[:2])
        assert len(batches) == 3
        seen += [i for batch in batches for i in batch["__index__"][~batch["__pad__"]].tolist()]
        for batch, losses in zip(batches, rounds, strict=True):  # a sample's loss is its id, say
            assert (batch["__weight__"][batch["__pad__"]] == 0).all()
            losses.append(float((batch["__index__"] * batch["__weight__"]).mean()))
        dataset.load_state_dict(dataset.state_dict(batches=2))
        assert len(dataset) == 1
        again = next(iter(dataset))
        assert again["__index__"].tolist() == batches[2]["__index__"].tolist()
        assert again["__weight__"].tolist() == batches[2]["__weight__"].tolist()
    assert sorted(seen) == list(range(63))
    # The ranks' means average to that of a round's samples: two rounds of 22 and one of 19.
    epoch = sum(np.mean(losses) * samples for losses, samples in zip(rounds, (22, 22, 19), strict=True))
    assert epoch / 63 == pytest.approx(31)


@pytest.mark.parametrize("workers", [1, 8])
def test_memory_is_bounded_by_windows(tmp_path, write_tar, divide, workers):
    """16 MiB of data, a window of 512 KiB: two windows at most, and 1 MiB of samples cut from them."""
    payload = os.urandom(4096)
    write_tar(tmp_path / "source.tar", [(f"{i:05d}", {"bin": payload}) for i in range(3400)])
    counts = [3400 // workers] * workers
    shards = write_shards(tmp_path / "source.tar", divide(counts, 4), tmp_path / "set")
    dataset = ImportanceDataset(shards, window_bytes=2**19)
    for _ in dataset:
        pass  # lookups are made once
    tracemalloc.start()
    for _ in dataset:
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 2**19 < peak < 2 * 2**19 + 2**20 + 2**20  # 1 MiB for the plan and the rest
    assert dataset.counts()[DISK, 0] == 2 * sum(int(shards.index(w).nbytes.sum()) for w in range(workers))
