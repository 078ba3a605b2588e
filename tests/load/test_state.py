"""Stopping in the middle and going on: exactly, on any shape of job."""

import json
from itertools import islice

import numpy as np
import pytest
from torch.utils.data import DataLoader

from pyimportance import (
    ArgumentError,
    DataError,
    ImportanceDataset,
    ShardSet,
    WebDataset,
    repartition,
    write_shards,
)
from tests.load.samples import ids


def first(dataset, count):
    return list(islice(dataset, count))


def test_goes_on_exactly_where_it_stopped(shard_set):
    shards, _ = shard_set((31, 33))
    options = {"batch_size": 4, "rank": 0, "world_size": 1, "window_bytes": 5000}
    whole = ImportanceDataset(shards, **options)
    whole.set_epoch(3)
    for count in (0, 1, 7, 20, 63, 64):
        dataset = ImportanceDataset(shards, **options)
        dataset.set_epoch(3)
        head = ids(first(dataset, count))
        state = json.loads(json.dumps(dataset.state_dict()))
        again = ImportanceDataset(shards, **options)
        again.load_state_dict(state)
        again.set_epoch(3)  # as a training loop does: the position stays
        assert len(again) == 64 - count
        assert head + ids(again) == ids(whole)
        again.set_epoch(4)
        assert len(again) == 64


def test_the_state_fits_in_a_tweet(shard_set):
    dataset = ImportanceDataset(shard_set((20, 20, 20, 20))[0])
    first(dataset, 40)
    state = dataset.state_dict()
    assert state["consumed"] == [10] * 4
    assert len(json.dumps(state)) <= 280


@pytest.mark.parametrize("seed", range(40))
def test_any_shape_goes_on_where_another_stopped(shard_set, seed):
    r = np.random.default_rng(seed)
    shards, samples = shard_set([(31, 33), (20, 20, 20, 20), (9, 0, 30, 2), (5,) * 6][seed % 4])
    seen, state = [], None
    for leg in range(3):
        world, B = int(r.integers(1, 7)), int(r.integers(1, 9))
        states = []
        for rank in range(world):
            dataset = ImportanceDataset(shards, batch_size=B, rank=rank, world_size=world, elastic=True)
            if state is None:
                dataset.set_epoch(seed)
            else:
                dataset.load_state_dict(state)
            total = -(-len(dataset) // B)
            batches = total if leg == 2 else total * leg // 3 + total % 2
            seen += [s["__index__"] for s in first(dataset, batches * B) if not s["__pad__"]]
            states.append(dataset.state_dict())
            assert states[-1] == dataset.state_dict(batches=batches)
        assert all(s == states[0] for s in states)
        state = states[0]
    assert sorted(seen) == list(range(len(samples)))
    assert state["consumed"] == [info.samples for info in shards.manifest.indexes]


def test_loader_processes_read_ahead(shard_set):
    dataset = ImportanceDataset(shard_set((31, 33))[0], batch_size=8)
    loader = DataLoader(dataset, batch_size=8, num_workers=1, collate_fn=list)
    batches = []
    for batch in loader:
        batches.append(ids(batch))
        if len(batches) == 3:
            break
    with pytest.raises(ArgumentError, match=r"say how many batches it consumed, state_dict\(batches=n\)"):
        dataset.state_dict()
    state = dataset.state_dict(batches=3)
    dataset.load_state_dict(state)
    assert dataset.state_dict() == state
    rest = [ids(batch) for batch in loader]
    assert sorted(i for batch in batches + rest for i in batch) == list(range(64))
    dataset.set_epoch(1)
    assert dataset.state_dict()["consumed"] == [0, 0]


@pytest.mark.parametrize("processes", [0, 2])
def test_the_generation_that_it_was_saved_on(tmp_path, write_tar, divide, processes):
    """Other generations were committed since, with more workers; loader processes live on."""
    write_tar(tmp_path / "source.tar", [(f"{i:02d}", {"cls": b"%d" % i}) for i in range(40)])
    first = write_shards(tmp_path / "source.tar", divide((20, 20), 2), tmp_path / "set")
    dataset = ImportanceDataset(first, batch_size=4)
    loader = DataLoader(
        dataset, batch_size=4, num_workers=processes, persistent_workers=processes > 0, collate_fn=ids
    )
    dataset.set_epoch(5)
    order, state = list(loader), dataset.state_dict(batches=3)
    second = repartition(first, divide((5, 15, 10, 10), 2))
    repartition(second, divide((30, 10), 2))
    for generation in (second, ShardSet.open(first.root)):
        dataset.set_shards(generation)
        assert list(loader) != order
        dataset.load_state_dict(state)
        assert (dataset.shards.generation, dataset.shards.digest) == (0, first.digest)
        assert list(loader) == order[3:]
        new = ImportanceDataset(tmp_path / "set", batch_size=4)
        new.load_state_dict(state)
        assert (new.epoch, ids(new)) == (5, [i for batch in order[3:] for i in batch])
    (tmp_path / "set" / "manifest-000000.json").unlink()
    dataset.set_shards(first.root)
    for data, generation in ((dataset, 2), (ImportanceDataset(second, batch_size=4), 1)):
        with pytest.raises(DataError, match="set: holds no generation 0; the current one is 2"):
            data.load_state_dict(state)
        assert data.shards.generation == generation


def test_the_start_of_an_epoch(shard_set):
    """After one that loader processes read, and whose last batches nobody counted."""
    dataset = ImportanceDataset(shard_set((31, 33))[0], batch_size=8)
    list(DataLoader(dataset, batch_size=8, num_workers=1, collate_fn=list))
    state = dataset.state_dict(epoch=1)
    assert dataset.epoch == 0
    with pytest.raises(ArgumentError, match="give batches= within an epoch, or epoch= between two"):
        dataset.state_dict(epoch=1, batches=0)
    with pytest.raises(ArgumentError, match="epoch=-1: must be at least 0"):
        dataset.state_dict(epoch=-1)
    dataset.set_epoch(1)
    assert dataset.state_dict() == state
    dataset.load_state_dict(state)
    assert (dataset.epoch, len(dataset)) == (1, 64)


def test_batches_must_be_known(shard_set):
    shards, _ = shard_set((31, 33))
    with pytest.raises(ArgumentError, match="batches= needs the batch_size argument"):
        ImportanceDataset(shards).state_dict(batches=1)
    for wrong, text in ((-1, "batches=-1: must be at least 0"), (9, "batches=9: an iteration has 8")):
        with pytest.raises(ArgumentError, match=text):
            ImportanceDataset(shards, batch_size=8).state_dict(batches=wrong)


@pytest.mark.parametrize("kind", [ImportanceDataset, WebDataset])
@pytest.mark.parametrize("processes", [0, 2])
def test_an_epoch_set_while_another_is_read(shard_set, kind, processes):
    """As Lightning does where it resumes: an iteration that has begun is of no epoch that was set later."""
    dataset = kind(shard_set((31, 33))[0], batch_size=4)
    again = kind(dataset.shards, batch_size=4)
    loader = iter(DataLoader(dataset, batch_size=4, num_workers=processes, collate_fn=ids))
    dataset.set_epoch(2)  # without loader processes nothing begins before it is asked for a sample
    seen = [next(loader) for _ in range(5)]
    if processes:
        with pytest.raises(ArgumentError, match="batches=5: no iteration of this epoch, generation and pos"):
            dataset.state_dict(batches=5)
    else:
        again.load_state_dict(dataset.state_dict(batches=5))
        assert again.epoch == 2
        assert sorted(ids(again) + [i for batch in seen for i in batch]) == list(range(64))
    dataset.set_epoch(5)
    with pytest.raises(ArgumentError, match="batches=1: no iteration of this epoch, generation and position"):
        dataset.state_dict(batches=1)
    assert dataset.state_dict(batches=0) == dataset.state_dict(epoch=5)


def test_a_look_before_loader_processes_read(shard_set):
    dataset = ImportanceDataset(shard_set((31, 33))[0], batch_size=4)
    next(iter(dataset))
    with pytest.raises(
        ArgumentError, match="batches=1: by batch_size they have 4 samples, and 1 were yielded"
    ):
        dataset.state_dict(batches=1)
    assert len(list(DataLoader(dataset, batch_size=4, num_workers=1, collate_fn=ids))) == 16
    assert dataset.state_dict(batches=16)["consumed"] == [31, 33]


@pytest.mark.parametrize(
    ("kind", "method"),
    [(ImportanceDataset, "fork"), (WebDataset, "fork"), (ImportanceDataset, "spawn")],
)
def test_batches_in_no_order(shard_set, kind, method):
    """Their number does not say which of them were consumed, but for all of them."""
    dataset = kind(shard_set((31, 33))[0], batch_size=4)
    options = {"batch_size": 4, "num_workers": 2, "multiprocessing_context": method, "collate_fn": ids}
    loader = iter(DataLoader(dataset, in_order=False, **options))
    next(loader)
    with pytest.raises(ArgumentError, match=r"batches=1: of a DataLoader\(in_order=False\)"):
        dataset.state_dict(batches=1)
    assert len(list(loader)) == 15
    after = dataset.state_dict(batches=16)
    assert kind is WebDataset or after["consumed"] == [31, 33]
    if method == "fork":
        dataset.set_epoch(3)
        next(iter(DataLoader(dataset, in_order=True, **options)))
        assert dataset.state_dict(batches=1)["epoch"] == 3


def test_within_a_batch_of_ranks_that_share_a_worker(shard_set):
    dataset = ImportanceDataset(shard_set((40,))[0], batch_size=8, rank=0, world_size=2)
    first(dataset, 11)
    with pytest.raises(ArgumentError, match="11 samples is within a batch of 8"):
        dataset.state_dict()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"version": 2}, "version 2; this release reads 3"),
        (
            {"digest": "0" * 16},
            "saved on generation 0 with digest 0000000000000000; that of /.* other shards",
        ),
        ({"generation": "0"}, "must be integers of 0 or more"),
        ({"options": "0" * 16}, "saved with other options than Recipe"),
        ({"epoch": -1}, "must be integers of 0 or more"),
        ({"epoch": 1.5}, "must be integers of 0 or more"),
        ({"consumed": [1]}, r"consumed is \[1\]; the workers hold \[31, 33\] samples"),
        ({"consumed": [32, 0]}, r"consumed is \[32, 0\]; the workers hold \[31, 33\] samples"),
        ({"consumed": None}, "not a state of ImportanceDataset"),
    ],
)
def test_a_state_that_does_not_fit(shard_set, change, text):
    dataset = ImportanceDataset(shard_set((31, 33))[0])
    before = ids(dataset)
    with pytest.raises(ArgumentError, match=text):
        dataset.load_state_dict({**dataset.state_dict(), **change})
    assert ids(dataset) == before


def test_a_missing_field():
    from pyimportance.load.plan import Recipe
    from pyimportance.load.state import Position

    with pytest.raises(ArgumentError, match="not a state of ImportanceDataset"):
        Position.from_state({"epoch": 1}, Recipe())


@pytest.mark.parametrize("option", [{"seed": 1}, {"keep": 0.9}, {"mix": "sequential"}, {"shuffle": False}])
def test_options_that_decide_the_order_must_be_the_same(shard_set, option):
    shards, _ = shard_set((31, 33))
    with pytest.raises(ArgumentError, match="saved with other options"):
        ImportanceDataset(shards, **option).load_state_dict(ImportanceDataset(shards).state_dict())
