"""torchdata's StatefulDataLoader: it asks every loader process for its state after every batch."""

import json

import pytest

from pyimportance import ArgumentError, ImportanceDataset
from tests.load.samples import ids

stateful = pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata is not installed")

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),  # torchdata's own
]


def loader(dataset, processes, **options):
    return stateful.StatefulDataLoader(
        dataset, batch_size=8, num_workers=processes, collate_fn=ids, **options
    )


def made(shards, epoch=0, **options):
    dataset = ImportanceDataset(shards, batch_size=8, **options)
    dataset.set_epoch(epoch)
    return dataset


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.parametrize("persistent", [False, True])
def test_goes_on_after_every_batch(shard_set, processes, persistent):
    shards, _ = shard_set((31, 33))
    options = {"persistent_workers": persistent and processes > 0}
    dataset = made(shards, epoch=3, rank=0, world_size=2)
    first, whole, states = loader(dataset, processes, **options), [], []
    for batch in first:
        whole.append(batch)
        states.append(json.loads(json.dumps(first.state_dict())))
    assert whole == list(loader(made(shards, epoch=3, rank=0, world_size=2), 0))
    for n in (1, 3, len(whole)):
        dataset = made(shards, epoch=3, rank=0, world_size=2)
        again = loader(dataset, processes, **options)
        again.load_state_dict(states[n - 1])
        assert (
            list(iter(again)) == whole[n:]
        )  # `list` of a loader would ask for its length, and expect it ever after
        dataset.set_epoch(4)
        assert list(iter(again)) == list(loader(made(shards, epoch=4, rank=0, world_size=2), 0))


@pytest.mark.parametrize("processes", [0, 2])
def test_an_epoch_that_was_finished_is_followed_by_the_one_that_is_set(shard_set, processes):
    shards, _ = shard_set((31, 33))
    first = loader(made(shards), processes)
    list(first)
    state = first.state_dict()
    dataset = made(shards, epoch=1)
    again = loader(dataset, processes)
    again.load_state_dict(state)
    assert list(iter(again)) == list(loader(made(shards, epoch=1), 0))


def test_batches_made_here(shard_set):
    shards, _ = shard_set((31, 33))
    options = {"batch_size": 8, "batched": True, "equalize": "batch", "rank": 0, "world_size": 2}

    def read(loader):
        return [(batch["__index__"].tolist(), batch["__weight__"].tolist()) for batch in loader]

    def make():
        return stateful.StatefulDataLoader(
            ImportanceDataset(shards, **options), batch_size=None, num_workers=2
        )

    whole, first = read(make()), make()
    iterator = iter(first)
    for _ in range(3):
        next(iterator)
    again = make()
    again.load_state_dict(first.state_dict())
    assert read(again) == whole[3:]


def test_another_number_of_processes_is_refused(shard_set):
    first = loader(made(shard_set((31, 33))[0]), 2)
    next(iter(first))
    state = first.state_dict()["_snapshot"]["_worker_snapshots"]["worker_0"]["dataset_state"]
    with pytest.raises(ArgumentError, match=r"of loader process 0 of 2 on rank 0 of 1; this is the training"):
        made(shard_set((31, 33))[0]).load_state_dict(state)
    for wrong in ([0, 1, 0], [0, 1, 0, -2], [0, 1, 0, 2.0]):
        with pytest.raises(ArgumentError, match="place and yielded must be five integers"):
            made(shard_set((31, 33))[0]).load_state_dict({**state, "place": wrong})


def test_the_position_of_a_finished_epoch_is_good_for_one_iteration(shard_set):
    dataset = made(shard_set((31, 33))[0], epoch=5)
    whole = ids(dataset)
    dataset.load_state_dict(dataset.state_dict())
    assert (ids(dataset), ids(dataset)) == ([], whole)
