"""Real DataLoaders: any number of loader processes, forked or spawned, persistent or not."""

import os

import pytest
from torch.utils.data import DataLoader

from pyimportance import ArgumentError, DataError, ImportanceDataset
from pyimportance.io.meter import TIERS

# Two cores are enough for these tests, whatever the DataLoader thinks of four processes on them.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")
METHODS = ["fork", "spawn"]


def loader(dataset, B, processes, **options):
    # `list` collates to a plain list of samples, and every start method can pickle it.
    return DataLoader(dataset, batch_size=B, num_workers=processes, collate_fn=list, **options)


def ids(batches):
    return [[sample["__index__"] for sample in batch] for batch in batches]


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
@pytest.mark.parametrize("drop_last", [False, True])
def test_the_same_batches_for_any_number_of_processes(shard_set, processes, drop_last):
    shards, _ = shard_set((31, 33))
    dataset = ImportanceDataset(shards, batch_size=6, rank=0, world_size=2)
    alone = loader(dataset, 6, 0, drop_last=drop_last)
    many = loader(dataset, 6, processes, drop_last=drop_last)
    assert len(alone) == len(many) == (5 if drop_last else 6)
    # len() was called: from here on the DataLoader warns, and so fails, if there are more batches than that.
    assert ids(many) == ids(alone)
    assert len(ids(alone)) == len(alone)


def test_more_processes_than_batches(shard_set):
    shards, samples = shard_set((2, 1, 2))
    dataset = ImportanceDataset(shards, batch_size=4)
    for processes in (0, 3):
        batches = list(loader(dataset, 4, processes))
        assert [len(batch) for batch in batches] == [4, 1]
        for sample in (sample for batch in batches for sample in batch):
            assert {name: sample[name] for name in samples[0]} == samples[sample["__index__"]]


def test_batched_goes_through_as_it_is(shard_set):
    shards, _ = shard_set((31, 33))
    rows = ids(loader(ImportanceDataset(shards, batch_size=10), 10, 0))
    dataset = ImportanceDataset(shards, batch_size=10, batched=True)
    columns = DataLoader(dataset, batch_size=None, num_workers=2)
    assert len(columns) == 7
    assert [batch["__index__"].tolist() for batch in columns] == rows


@pytest.mark.parametrize("method", METHODS)
def test_a_new_epoch_and_a_new_generation_reach_persistent_processes(shard_set, method):
    (one, _), (two, _) = shard_set((31, 33)), shard_set((20, 20, 20, 20))
    dataset = ImportanceDataset(one, batch_size=8)
    persistent = loader(dataset, 8, 2, persistent_workers=True, multiprocessing_context=method)
    seen = []
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        seen.append(ids(persistent))
        assert seen[-1] == ids(loader(dataset, 8, 0))
    assert seen[0] == seen[2] != seen[1]
    processes = [p.pid for p in persistent._iterator._workers]
    dataset.set_shards(two)
    got = ids(persistent)
    assert got == ids(loader(dataset, 8, 0))
    assert sorted(i for batch in got for i in batch) == list(range(80))
    dataset.load_state_dict(dataset.state_dict(batches=3))
    assert ids(persistent) == got[3:]
    assert [p.pid for p in persistent._iterator._workers] == processes


@pytest.mark.parametrize("method", METHODS)
def test_bytes_of_all_processes_are_counted(shard_set, method):
    shards, _ = shard_set((31, 33))
    dataset = ImportanceDataset(shards, batch_size=8)
    disk = int(sum(shards.index(w).nbytes.sum() for w in range(2)))
    before = dataset.counts()
    list(loader(dataset, 8, 2, multiprocessing_context=method))
    assert dataset.counts()[TIERS.index("disk"), 0] == disk
    index = (dataset.counts() - before)[TIERS.index("index"), 0]
    if method == "fork":
        assert index == 0  # opened once, in the training process, and inherited
    else:
        manifests = [os.path.getsize(os.path.join(shards.root, name)) for name in MANIFESTS]
        assert index == 2 * (sum(info.nbytes for info in shards.manifest.indexes) + sum(manifests))


MANIFESTS = ("manifest.json", "manifest-000000.json")


def test_a_generation_that_is_not_the_one_that_was_opened(shard_set, tmp_path):
    import shutil

    shards, _ = shard_set((31, 33))
    other, _ = shard_set((16, 17, 15))
    shutil.copytree(shards.root, tmp_path / "set")
    dataset = ImportanceDataset(tmp_path / "set", batch_size=8)
    shutil.rmtree(tmp_path / "set")
    shutil.copytree(other.root, tmp_path / "set")
    with pytest.raises(
        DataError, match=f"has digest {other.digest}; the training process reads {shards.digest}"
    ):
        list(loader(dataset, 8, 1, multiprocessing_context="spawn"))


def test_too_many_loader_processes(shard_set):
    from pyimportance.load.shared import LOADER_PROCESSES

    dataset = ImportanceDataset(shard_set((2, 1, 2))[0])
    with pytest.raises(ArgumentError, match=f"num_workers: at most {LOADER_PROCESSES}"):
        dataset._shared.meter(LOADER_PROCESSES)


def test_more_workers_than_can_be_told():
    from pyimportance.load.shared import Assignment, Shared

    shared = Shared()
    kept = Assignment(1, "/data/größe", 3, "ab" * 32, 7, (5, 6))
    shared.assign(kept)
    with pytest.raises(ArgumentError, match="20000 workers and the path '/data'"):
        shared.assign(Assignment(2, "/data", 3, "ab" * 32, 7, (10**12,) * 20_000))
    assert shared.assignment() == kept
