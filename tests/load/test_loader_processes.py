"""Real DataLoaders: any number of loader processes, forked or begun afresh, persistent or not."""

import os
import pickle

import pytest
import torch
from torch.utils.data import DataLoader

from pyimportance import ArgumentError, DataError, ImportanceDataset
from pyimportance.io.meter import TIERS
from pyimportance.load.shared import Assignment, Shared

# Two cores are enough for these tests, whatever the DataLoader thinks of four processes on them.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")
METHODS = ["fork", "forkserver"]  # which inherits nothing, as spawn, but is given torch (tests/forked.py)


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


def test_processes_that_begin_afresh_take_the_rank_of_their_data_set(shard_set, run_ranks, monkeypatch):
    """torch.distributed is not initialised there, and what started the ranks may have told them alone."""
    shards, _ = shard_set((32, 32))
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    first, second = run_ranks("ranks_afresh.py", 2, shards.root)
    assert (sorted(first), sorted(second)) == (list(range(32)), list(range(32, 64)))


@pytest.mark.parametrize("method", METHODS)
def test_an_epoch_that_is_set_meanwhile_waits_for_the_next_iteration(shard_set, method):
    dataset = ImportanceDataset(shard_set((31, 33))[0], batch_size=8)
    expected = {}
    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        expected[epoch] = ids(loader(dataset, 8, 0))
    dataset.set_epoch(0)
    for persistent in (False, True):  # persistent processes in their first iteration
        dataset.set_epoch(0)
        begun = iter(loader(dataset, 8, 2, multiprocessing_context=method, persistent_workers=persistent))
        dataset.set_epoch(1)
        assert ids(begun) == expected[0]


class Late(ImportanceDataset):
    """Its second loader process begins another iteration when it is let go."""

    go = torch.multiprocessing.get_context("fork").Event()

    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        if info is not None and info.id == 1 and self._starts == 1:
            assert self.go.wait(250)
        return super().__iter__()


def test_two_epochs_in_one_iteration_of_persistent_processes_are_refused(shard_set):
    dataset = Late(shard_set((31, 33))[0], batch_size=8)
    persistent = loader(dataset, 8, 2, persistent_workers=True, multiprocessing_context="fork")
    assert sum(map(len, persistent)) == 64
    begun = iter(persistent)
    next(begun)  # the first process has begun, the second one has not
    dataset.set_epoch(1)
    dataset.go.set()
    with pytest.raises(ArgumentError, match=r"change it before iter\(loader\)"):
        list(begun)


def test_loaders_that_cannot_be_told_apart(shard_set):
    """Their generators are alike, so their processes' seeds are: nothing is refused without reason."""
    dataset = ImportanceDataset(shard_set((31, 33))[0], batch_size=8)
    one, two = (
        loader(dataset, 8, 2, persistent_workers=True, generator=torch.Generator().manual_seed(0))
        for _ in range(2)
    )
    for epoch in range(6):
        dataset.set_epoch(epoch)
        assert ids((one, two)[epoch % 2]) == ids(loader(dataset, 8, 0))


def test_two_loaders_at_a_time_lose_no_count(shard_set):
    """Processes with the same numbers in different loaders count at the same time."""
    dataset = ImportanceDataset(shard_set((31, 33))[0], batch_size=8, window_bytes=1)
    list(dataset)
    once = dataset.counts()[TIERS.index("disk")]
    for _ in range(3):
        list(zip(loader(dataset, 8, 2), loader(dataset, 8, 2), strict=True))
    assert dataset.counts()[TIERS.index("disk")].tolist() == (7 * once).tolist()


def hold(shared, rows, go):
    """A process that counts a byte at a time."""
    meter = shared.meter()
    rows.put(shared._row)
    go.wait()
    for _ in range(2000):
        meter.add("disk", 1)


@pytest.mark.parametrize("method", METHODS)
def test_every_process_counts_in_a_row_of_its_own(method):
    context = torch.multiprocessing.get_context(method)
    shared, rows, go = Shared(), context.Queue(), context.Event()
    for generation in (1, 2):
        processes = [context.Process(target=hold, args=(shared, rows, go)) for _ in range(2)]
        for process in processes:
            process.start()
        # Those of the second generation take over the rows of the first, and what was counted stays.
        assert sorted(rows.get(timeout=250) for _ in processes) == [1, 2]
        go.set()
        shared.meter().add("disk", 5)
        for process in processes:
            process.join()
            assert process.exitcode == 0
        go.clear()
        assert shared.counts()[TIERS.index("disk")].tolist() == [generation * 4005, generation * 4001]


def test_one_meter_per_process():
    shared = Shared()
    assert shared.meter() is shared.meter()
    twin = pickle.loads(pickle.dumps(shared))
    shared.meter().add("disk", 7)
    twin.meter().add("disk", 1)
    assert (shared.counts()[TIERS.index("disk"), 0], twin.counts()[TIERS.index("disk"), 0]) == (7, 1)


def test_too_many_processes():
    shared = Shared()
    shared._rows[:, 0] = os.getppid()
    shared._meter = None
    with pytest.raises(ArgumentError, match="num_workers: at most 255 loader processes"):
        shared.meter()


def test_more_workers_than_can_be_told():
    shared = Shared()
    kept = Assignment(1, "/data/größe", 3, "ab" * 32, 7, (5, 6))
    shared.assign(kept)
    with pytest.raises(ArgumentError, match="20000 workers and the path '/data'"):
        shared.assign(Assignment(2, "/data", 3, "ab" * 32, 7, (10**12,) * 20_000))
    assert shared.assignment() == kept
