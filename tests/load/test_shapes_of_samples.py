"""Samples that are not all alike, and generations whose shards hold samples of others."""

import gc

import numpy as np
import pytest
import webdataset

from pyimportance import ImportanceDataset, Partition, repartition, write_shards
from pyimportance.io.meter import TIERS


@pytest.fixture
def odd(tmp_path, write_tar, divide):
    """Parts that differ from sample to sample, empty parts, and names no USTAR header holds."""
    long = "a-folder-name-of-some-length/" * 3
    samples = [
        ("plain", {"jpg": b"1" * 700, "cls": b"1"}),
        ("dir/sub/plain", {"cls": b"2", "jpg": b""}),
        (long + "x" * 60, {"jpg": b"prefix field"}),
        (long + long + "y" * 120, {"jpg": b"pax", "json": b"{}"}),
        ("größe/日本", {"seg.png": b"5" * 1025, "txt": b"unicode"}),
        ("last", {"jpg": b"6" * 512}),
    ]
    write_tar(tmp_path / "odd.tar", samples)
    shards = write_shards(tmp_path / "odd.tar", divide([4, 2], 2), tmp_path / "set")
    return shards, samples


@pytest.mark.parametrize("batched", [False, True])
def test_odd_samples(odd, batched):
    shards, samples = odd
    dataset = ImportanceDataset(shards, batch_size=4, batched=batched)
    rows = list(dataset)
    if batched:
        rows = [
            {n: c[i] for n, c in batch.items() if c[i] is not None}
            for batch in rows
            for i in range(len(batch["__key__"]))
        ]
    got = {row["__key__"]: {n: v for n, v in row.items() if not n.startswith("__")} for row in rows}
    assert got == dict(samples)
    assert [samples[row["__index__"]][0] for row in rows] == [row["__key__"] for row in rows]


def test_keys_of_any_length_that_can_be_written(tmp_path, write_tar, divide):
    """Ends of the name and prefix fields of USTAR, then pax records of one block, of several, of many."""
    lengths = [95, 96, 99, 100, 255, 256, 900, 1000, 1100, 1536, 4096, 60_000]
    samples = [("k" * n, {"cls": b"%d" % n, "jpg": bytes(n)}) for n in lengths]
    write_tar(tmp_path / "long.tar", samples)
    shards = write_shards(tmp_path / "long.tar", divide([len(lengths)], 2), tmp_path / "set")
    assert shards.verify().ok
    got = {s["__key__"]: {"cls": s["cls"], "jpg": s["jpg"]} for s in ImportanceDataset(shards)}
    assert got == dict(samples)


# webdataset leaves its files to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_the_same_samples_from_our_shards(odd):
    shards, _ = odd
    tars = sorted(path for w in range(2) for path in shards.index(w).files)
    theirs = {}
    for sample in webdataset.WebDataset(tars, shardshuffle=False):
        theirs[sample["__key__"]] = {n: v for n, v in sample.items() if not n.startswith("__")}
    gc.collect()
    ours = {}
    for sample in ImportanceDataset(shards):
        ours[sample["__key__"]] = {n: v for n, v in sample.items() if not n.startswith("__")}
    assert ours == theirs


def test_a_generation_with_moved_and_pruned_samples(shard_set, tmp_path, write_tar, divide):
    parts = shard_set((31, 33))[1]
    write_tar(tmp_path / "source.tar", [(f"s{i:06d}", p) for i, p in enumerate(parts)])
    first = write_shards(tmp_path / "source.tar", divide((31, 33), 2), tmp_path / "set")
    order = np.random.default_rng(3).permutation(64)[:60]
    score = np.linspace(1, 0, 60, dtype=np.float32)
    second = repartition(
        first, Partition(2, 2, order, np.array([0, 20, 30, 45, 60]), score, measure="loss_mean")
    )
    for rank in range(2):
        dataset = ImportanceDataset(first, batch_size=8, rank=rank, world_size=2)
        assert len(list(dataset)) == 33
        before = dataset.counts()[TIERS.index("disk"), 0]
        dataset.set_shards(second)
        dataset.set_epoch(1)
        samples = list(dataset)
        mine = order[rank * 30 : rank * 30 + 30]
        ids = [s["__index__"] for s in samples]
        assert sorted(ids) == sorted(mine.tolist())
        for sample in samples:
            want = parts[sample["__index__"]]
            assert {name: sample[name] for name in want} == want
        read = dataset.counts()[TIERS.index("disk"), 0] - before
        assert read == second.index(rank).nbytes.sum()  # nothing of the samples that left
        for i in range(0, 24, 8):  # bins of the new generation, in proportion
            in_bin_1 = np.isin(ids[i : i + 8], order[20:30] if rank == 0 else order[45:60]).sum()
            assert abs(in_bin_1 - 8 * (10 if rank == 0 else 15) / 30) <= 2
