"""Ranks that may end one after the other, as the training loop copes with that: equalize="join"."""

from itertools import islice

import pytest
import webdataset as wds
from torch.utils.data import DataLoader

from pyimportance import ArgumentError, WebDataset
from tests.load.samples import ids

N = 40


@pytest.fixture
def tars(tmp_path, write_tar):
    """Four of ten samples; 7 and 12 cannot be decoded."""
    for n in range(4):
        samples = [(f"{i:02d}", {"json": b"{" if i in (7, 12) else b"1"}) for i in range(10 * n, 10 * n + 10)]
        write_tar(tmp_path / f"{n}.tar", samples)
    return f"{tmp_path}/{{0..3}}.tar"


def some(sample):
    return None if sample["__index__"] % 7 == 3 else sample


LOSSES = {
    "map": lambda d: d.map(some),
    "decode": lambda d: d.decode(handler=wds.ignore_and_continue),
    "select": lambda d: d.select(some),
    "unlisted": lambda d: d.map(lambda sample: [sample] * (sample["__index__"] % 3)).unlisted(),
    "rsample": lambda d: d.rsample(0.5),
    "compose": lambda d: d.compose(lambda samples: filter(some, samples)),
}
SURE = {
    "none": lambda d: d,
    "decode": lambda d: d.decode(only=["txt"]).rename(x="json").to_tuple("x", "__index__"),
    "webdataset's": lambda d: d.decode(only=["txt"], handler=wds.reraise_exception),
}


def ranks(tars, losses, world_size=2, **options):
    """In batches of four."""
    options = {"equalize": "join", "batch_size": 4, "world_size": world_size, **options}
    return [losses(WebDataset(tars, rank=r, **options)) for r in range(world_size)]


@pytest.mark.parametrize("processes", [0, 1])
@pytest.mark.parametrize("losses", LOSSES)
def test_no_rank_tells_where_others_are(tars, losses, processes):
    """Not those either that have lost nothing: after two batches they have read less than the others."""
    for dataset in ranks(tars, LOSSES[losses]):
        with pytest.raises(TypeError, match=r"depends on the samples; with_length\(n\)"):
            len(dataset)
        loader = DataLoader(dataset, batch_size=4, num_workers=processes, collate_fn=ids)
        batches = iter(loader)
        list(islice(batches, 2))
        for how in ({}, {"batches": 2}, {"batches": 0}):
            with pytest.raises(ArgumentError, match=r"(not in step|remembers) .* state_dict\(epoch=\)"):
                dataset.state_dict(**how)
        del batches


@pytest.mark.parametrize("losses", LOSSES)
def test_between_epochs(tars, losses):
    """All ranks have the same state, and go on from it."""
    first, second, states = [], [], []
    for dataset in ranks(tars, LOSSES[losses]):
        first.append(ids(dataset))
        states.append(dataset.state_dict(epoch=1))
        if losses not in ("unlisted", "rsample", "compose"):
            assert dataset.state_dict() == states[-1]
        second.append(ids(dataset))
    assert states[0] == states[1]
    assert all(first)
    for dataset, wanted in zip(ranks(tars, LOSSES[losses]), second, strict=True):
        dataset.load_state_dict(states[0])
        assert (dataset.epoch, ids(dataset)) == (1, wanted)


@pytest.mark.parametrize("stages", SURE)
def test_stages_that_lose_nothing(tars, stages):
    """Ranks are in step, as with "pad"; every sample once over another number of them."""
    seen, states = [], []
    for dataset in ranks(tars, SURE[stages]):
        assert len(dataset) == 20
        seen += islice(iter(dataset), 8)
        states.append(dataset.state_dict(batches=2))
        assert states[-1] == dataset.state_dict()
    assert states[0] == states[1]
    for dataset in ranks(tars, SURE[stages], 3):
        dataset.load_state_dict(states[0])
        seen += dataset
    found = [sample[1] if isinstance(sample, tuple) else sample["__index__"] for sample in seen]
    assert sorted(found) == list(range(N))


def test_losses_are_left_out(tars):
    """As of one rank."""
    found = [list(dataset) for dataset in ranks(tars, LOSSES["map"])]
    assert sorted(s["__index__"] for rank in found for s in rank) == [i for i in range(N) if i % 7 != 3]
    assert not any(s["__pad__"] for rank in found for s in rank)


@pytest.mark.filterwarnings("ignore:DataError")
@pytest.mark.parametrize("handler", [wds.ignore_and_stop, wds.warn_and_stop])
def test_a_rank_that_stops_at_what_it_cannot_decode(tars, handler):
    lengths = [len(list(dataset)) for dataset in ranks(tars, lambda d: d.decode(handler=handler))]
    assert lengths == [20, 3]


@pytest.mark.filterwarnings("ignore:DataError")
@pytest.mark.parametrize("handler", [wds.ignore_and_stop, wds.warn_and_stop, lambda error: False])
def test_a_rank_that_stops_at_what_it_cannot_read(tars, handler):
    datasets = ranks(tars, SURE["none"], handler=handler)
    place = WebDataset(tars)._source.samples.offset[17]
    with open(f"{tars.rpartition('/')[0]}/1.tar", "r+b") as file:
        file.seek(place)
        file.write(b"damaged")
    for dataset, length in zip(datasets, (9, 20), strict=True):
        with pytest.raises(TypeError, match="depends on the samples"):
            len(dataset)
        next(iter(dataset))
        with pytest.raises(ArgumentError, match=r"handler= may end reading, so that 2 ranks are not in step"):
            dataset.state_dict()
        assert len(list(dataset)) == length
