"""Positions in a pipeline: which samples went into it."""

import json
from itertools import islice

import numpy as np
import pytest
from torch.utils.data import DataLoader

from pyimportance import ArgumentError, WebDataset
from tests.load.samples import ids

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),  # torchdata's own
]


@pytest.fixture
def tar(tmp_path, write_tar):
    write_tar(tmp_path / "a.tar", [(f"{i:03d}", {"cls": b"%d" % i}) for i in range(64)])
    return tmp_path / "a.tar"


def numbers(batches):
    return [i for batch in batches for (i,) in batch]


def made(tar, B=4, **options):
    dataset = WebDataset(tar, **{"shardshuffle": 1, "window_bytes": 20_000, **options}).shuffle(5)
    return dataset.decode().to_tuple("__index__").batched(B, None)


@pytest.mark.parametrize("seed", range(8))
def test_any_shape_goes_on_where_another_stopped(tar, seed):
    r = np.random.default_rng(seed)
    seen, state = [], None
    for leg in range(3):
        world, B = int(r.integers(1, 5)), int(r.integers(1, 9))
        states = []
        for rank in range(world):
            dataset = made(tar, B, rank=rank, world_size=world, equalize="pad").map(list)
            pads = WebDataset(tar, shardshuffle=1, window_bytes=20_000, rank=rank, world_size=world).shuffle(
                5
            )
            pads = pads.to_tuple("__index__", "__pad__").batched(B, None)
            for one in (dataset, pads):
                if state is None:
                    one.set_epoch(seed)
                else:
                    one.load_state_dict(state)
            total = len(pads)
            assert (len(dataset), dataset.epoch) == (total, seed)
            take = total if leg == 2 else total * leg // 3 + total % 2
            got = list(islice(pads, take))
            seen += [i for batch in got for i, pad in batch if not pad]
            assert [[(i,) for i, _ in batch] for batch in got] == list(islice(dataset, take))
            if take < total:
                assert dataset.state_dict() == dataset.state_dict(batches=take) == pads.state_dict()
            states.append(json.loads(json.dumps(dataset.state_dict(batches=take))))
        assert all(s == states[0] for s in states)
        state = states[0]
    assert sorted(seen) == list(range(64))
    assert (state["epoch"], state["consumed"]) == (seed + 1, [0])


@pytest.mark.parametrize("processes", [1, 2])
def test_batches_of_loader_processes(tar, processes):
    whole = made(tar)
    epochs = [numbers(whole) for _ in range(3)]
    dataset = made(tar)
    loader = DataLoader(dataset, batch_size=None, num_workers=processes)
    assert numbers(loader) == epochs[0]
    head = numbers(islice(loader, 5))
    with pytest.raises(ArgumentError, match=r"say how many batches it consumed, state_dict\(batches=n\)"):
        dataset.state_dict()
    state = dataset.state_dict(batches=5)
    again = made(tar)
    again.load_state_dict(state)
    assert (again.epoch, len(again)) == (1, 11)
    other = DataLoader(again, batch_size=None, num_workers=3 - processes)
    assert head + numbers(other) == epochs[1]
    assert len(again) == 16
    assert numbers(other) == epochs[2]
    with pytest.raises(ArgumentError, match="batches=17: an iteration has 16"):
        dataset.state_dict(batches=17)


def test_the_batches_of_a_loader(tar):
    dataset = WebDataset(tar, batch_size=4).shuffle(64)
    loader = DataLoader(dataset, batch_size=4, num_workers=2, collate_fn=ids)
    first = list(islice(loader, 3))
    again = WebDataset(tar, batch_size=4).shuffle(64)
    again.load_state_dict(dataset.state_dict(batches=3))
    rest = list(DataLoader(again, batch_size=4, collate_fn=ids))
    assert sorted(i for batch in first + rest for i in batch) == list(range(64))
    plain = WebDataset(tar)
    next(iter(plain))
    with pytest.raises(ArgumentError, match="needs the batch_size argument of WebDataset, or"):
        plain.state_dict(batches=1)


def test_between_epochs(tar):
    dataset = made(tar)
    start = dataset.state_dict()
    with pytest.raises(
        ArgumentError, match="batches=1: no iteration of this epoch, generation and position has begun"
    ):
        dataset.state_dict(batches=1)
    one, two = numbers(dataset), numbers(dataset)
    dataset.load_state_dict(start)
    assert (dataset.epoch, numbers(dataset), numbers(dataset)) == (0, one, two)
    dataset.load_state_dict(dataset.state_dict(epoch=1))
    assert numbers(dataset) == two
    dataset.load_state_dict(dataset.state_dict())
    assert dataset.epoch == 2
    dataset.set_epoch(1)
    assert numbers(dataset) == two


def test_samples_that_were_left_out_are_consumed(tar):
    def pipeline():
        return WebDataset(tar).shuffle(64).select(lambda sample: sample["__index__"] % 3)

    whole = ids(pipeline())
    dataset = pipeline()
    head = ids(islice(dataset, 7))
    again = pipeline()
    again.load_state_dict(dataset.state_dict())
    assert head + ids(again) == whole
    with pytest.raises(TypeError, match="depends on the samples"):
        len(dataset)


def odd(sample):
    return sample if sample[0] % 2 else None


def test_batches_that_do_not_tell_how_much_was_read(tar):
    chosen = WebDataset(tar).to_tuple("__index__").select(odd).batched(4)
    dropped = WebDataset(tar).to_tuple("__index__").map(odd).batched(4)
    for dataset in (chosen, dropped):
        next(iter(DataLoader(dataset, batch_size=None, num_workers=1)))
        with pytest.raises(ArgumentError, match="stages left samples out"):
            dataset.state_dict(batches=1)


NO_POSITION = {
    "shuffle": lambda d: d.batched(4).shuffle(3),
    "unbatched": lambda d: d.batched(4).unbatched(),
    "slice": lambda d: d.slice(3),
    "rsample": lambda d: d.rsample(),
    "compose": lambda d: d.compose(iter),
}


@pytest.mark.parametrize("stage", NO_POSITION)
def test_stages_without_a_position(tar, stage):
    with pytest.raises(ArgumentError, match=rf"state_dict: \.{stage}\(\) remembers samples"):
        NO_POSITION[stage](WebDataset(tar)).state_dict()


def test_epochs_of_a_number_of_batches(tar):
    dataset = made(tar).with_epoch(3)
    list(dataset)
    with pytest.raises(ArgumentError, match="resume in torchdata's StatefulDataLoader"):
        dataset.state_dict()
    again = made(tar).with_epoch(3)
    again.load_state_dict(dataset.state_dict(epoch=1))
    assert list(again) == list(dataset)


def test_a_state_of_another_pipeline(tar):
    dataset = made(tar)
    for other in (WebDataset(tar), made(tar, seed=1)):
        with pytest.raises(ArgumentError, match="saved with other options"):
            other.load_state_dict(dataset.state_dict())


# -- torchdata ----------------------------------------------------------------------------------------------

STATEFUL = {
    "batched": made,
    "select": lambda tar: made(tar).select(lambda batch: sum(batch[0]) % 3),
    "with_epoch": lambda tar: made(tar, B=2).with_epoch(9),
    "left out": lambda tar: WebDataset(tar).to_tuple("__index__").map(odd).batched(4, None).with_epoch(5),
}


@pytest.mark.parametrize(
    ("pipeline", "processes"),
    [("batched", 0), ("select", 0), ("batched", 2), ("select", 2), ("with_epoch", 2), ("left out", 2)],
)
def test_stateful_dataloader(tar, pipeline, processes):
    """Stops after each of some batches, and goes on into the epoch after that."""
    stateful = pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata is not installed")

    def loader():
        return stateful.StatefulDataLoader(STATEFUL[pipeline](tar), batch_size=None, num_workers=processes)

    first, epochs, states = loader(), [], []
    for _ in range(2):
        epochs.append([])
        for batch in first:
            epochs[-1].append(batch)
            states.append((len(epochs) - 1, len(epochs[-1]), json.loads(json.dumps(first.state_dict()))))
    assert epochs[0] != epochs[1]
    finished = first.state_dict()
    third = list(iter(first))
    for epoch, count, state in states[::5]:
        again = loader()
        again.load_state_dict(state)
        assert list(iter(again)) == epochs[epoch][count:]
        assert list(iter(again)) == [*epochs, third][epoch + 1]
    again = loader()
    again.load_state_dict(finished)
    assert list(iter(again)) == third
