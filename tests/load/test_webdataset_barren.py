"""Epochs of a number of outputs, of stages that leave out all: these do not read on for ever."""

from itertools import islice

import pytest
from torch.utils.data import DataLoader

from pyimportance import ArgumentError, WebDataset
from pyimportance.load.webdataset import barren
from tests.load.samples import ids

N = 200


@pytest.fixture(scope="module")
def tar(tmp_path_factory, write_tar):
    folder = tmp_path_factory.mktemp("barren")
    write_tar(folder / "a.tar", [(f"{i:03d}", {"cls": b"%d" % i}) for i in range(N)])
    return folder / "a.tar"


def never(sample):
    return None


def empty(sample):
    return []


def last(sample):
    return sample["__index__"] == N - 1


def nothing(samples):
    return (sample for sample in samples if never(sample))


STAGES = {
    "select": lambda d: d.select(never),
    "map": lambda d: d.map(never).batched(3),
    "compose": lambda d: d.compose(nothing),
    "unlisted": lambda d: d.map(empty).unlisted(),
    "select, after batches": lambda d: d.listed(30).select(never),
    "map, after others": lambda d: d.shuffle(10).select(last).map(never),
}
EPOCHS = {
    "with_epoch": (lambda d: d.with_epoch(5), {}),
    "repeat": (lambda d: d.repeat(), {}),
    "resampled": (lambda d: d, {"resampled": True}),
}


@pytest.mark.timeout(100)
@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("epochs", EPOCHS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_leaves_out_all_is_told(tar, stage, epochs, world_size):
    make, options = EPOCHS[epochs]
    dataset = make(STAGES[stage](WebDataset(tar, rank=0, world_size=world_size, **options)))
    with pytest.raises(
        ArgumentError, match=rf"^\.{stage.partition(',')[0]}\(\) gives nothing: of \d+ inputs"
    ):
        next(iter(dataset))


@pytest.mark.timeout(100)
def test_in_loader_processes(tar):
    dataset = WebDataset(tar).select(never).with_epoch(5)
    with pytest.raises(ArgumentError, match=r"\.select\(\) gives nothing"):
        next(iter(DataLoader(dataset, batch_size=None, num_workers=2)))


def test_nothing_is_sampled_of_none(tar):
    assert list(WebDataset(tar).rsample(0)) == []
    with pytest.raises(ArgumentError, match=r"\.rsample\(\) gives nothing"):
        next(iter(WebDataset(tar).rsample(0).with_epoch(3)))


PATIENT = {
    "a batch of many passes": (lambda d: d.listed(3000).with_epoch(2), 2),
    "one of each pass": (lambda d: d.select(last).listed(3).with_epoch(2), 2),
    "of batches": (lambda d: d.listed(15 * N).select(len).with_epoch(2), 2),
    "what holds samples": (lambda d: d.compose(hoarded).with_epoch(2), 2),
    "few by chance": (lambda d: d.rsample(1e-3).with_epoch(2), 2),
}


def hoarded(samples):
    """One of the samples of 20 passes."""
    yield from islice(samples, 20 * N - 1, None, 20 * N)


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.parametrize("stage", PATIENT)
def test_whole_passes_may_give_nothing(tar, stage, processes):
    make, count = PATIENT[stage]
    loader = DataLoader(make(WebDataset(tar)), batch_size=None, num_workers=processes, collate_fn=list)
    assert sum(1 for _ in loader) == count * max(1, processes)


def test_the_end_of_a_pass_is_not_one(tar, monkeypatch):
    """An epoch that begins behind the only sample that is chosen."""
    monkeypatch.setattr(barren, "_INPUTS", 1)
    dataset = WebDataset(tar).select(lambda sample: sample["__index__"] == 0).with_epoch(1)
    dataset.set_epoch(1)
    assert ids(dataset) == [0]
