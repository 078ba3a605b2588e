"""Samples that stages leave out: one rank loses more than others, and yields as many batches all the same."""

import gc
import weakref
from itertools import islice

import pytest
import webdataset as wds
from torch.utils.data import DataLoader

from pyimportance import ArgumentError, WebDataset
from tests.load.samples import ids

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # webdataset leaves files to the collector
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),  # torchdata's own
]
N = 64
SHAPES = [(2, 0), (5, 0), (2, 2)]  # ranks, loader processes


@pytest.fixture
def tar(tmp_path, write_tar):
    """tar(bad): of samples whose json cannot be decoded if they are among ``bad``."""

    def make(bad, n=N):
        samples = [(f"{i:03d}", {"json": b"{bad" if i in bad else b'{"i": %d}' % i}) for i in range(n)]
        write_tar(tmp_path / "a.tar", samples)
        return tmp_path / "a.tar"

    return make


def ranks(tar, world_size, **options):
    return [WebDataset(tar, rank=r, world_size=world_size, **options) for r in range(world_size)]


def read(dataset, processes, most=None):
    return list(islice(DataLoader(dataset, batch_size=None, num_workers=processes, collate_fn=list), most))


BAD = {
    "one": {3},
    "the first": range(7),
    "the last": range(57, N),
    "most": set(range(N)) - set(range(5, N, 9)),
}


@pytest.mark.parametrize(("world_size", "processes"), SHAPES)
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("partial", [True, False])
def test_neighbours_take_the_places_of_what_cannot_be_decoded(tar, world_size, processes, bad, partial):
    bad, plain = set(BAD[bad]), ranks(tar(BAD[bad]), world_size)
    counts = []
    for dataset, planned in zip(ranks(tar(bad), world_size), plain, strict=True):
        dataset = dataset.decode(handler=wds.ignore_and_continue).batched(4, None, partial=partial)  # noqa: PLW2901
        batches = read(dataset, processes)
        assert len(batches) == len(dataset)
        right = list(planned.batched(4, None, partial=partial))
        for batch, wanted in zip(batches, right, strict=True):
            assert len(batch) == len(wanted)
            for got, sample in zip(batch, wanted, strict=True):
                lost = sample["__index__"] in bad
                assert got["__index__"] not in bad
                assert (got["__index__"] != sample["__index__"], got["__pad__"]) == (
                    lost,
                    lost or sample["__pad__"],
                )
                assert got["json"] == {"i": got["__index__"]}
        lost = sum(s["__index__"] in bad for batch in right for s in batch)
        assert dataset.skipped == lost if partial else dataset.skipped >= lost  # some of a batch that is not
        counts.append(len(batches))
    assert len(set(counts)) == 1


def flattened(batches):
    return (
        [batches] if isinstance(batches, dict | int) else [s for batch in batches for s in flattened(batch)]
    )


def some(sample):
    return sample if sample["__index__"] % 3 else None


def spoiled(sample):
    """Changes what it was given, and then leaves it out or does not."""
    sample["seen"] = sample.get("seen", 0) + 1
    return some(sample)


def none_of_29(batch):
    return None if any(sample["__index__"] % 29 == 0 for sample in batch) else batch


LOSSES = {
    "map": lambda d: d.map(some).batched(4, None),
    "map, in place": lambda d: d.map(spoiled).batched(4, None),
    "map of batches": lambda d: d.batched(4, None).map(none_of_29),
    "twice": lambda d: d.map(some).batched(2, None).map(none_of_29).batched(2, None),
    "no batches": lambda d: d.map(some).map(lambda sample: [sample]),
    "repeat": lambda d: d.map(some).repeat(2).batched(4, None),
    "shuffle": lambda d: d.shuffle(20).map(some).batched(4, None).shuffle(3),
}


@pytest.mark.parametrize(("world_size", "processes"), SHAPES)
@pytest.mark.parametrize("losses", LOSSES)
def test_ranks_yield_equally_many_whatever_is_lost(tar, world_size, processes, losses):
    lengths = set()
    for dataset in ranks(tar(()), world_size):
        pipeline = LOSSES[losses](dataset)
        batches = read(pipeline, processes)
        assert len(batches) == len(pipeline)
        flat = flattened(batches)
        assert all(s.get("seen", 1) == 1 for s in flat)
        lengths.add((len(batches), len(flat)))
    assert len(lengths) == 1


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.parametrize("taken", [0, 1, 3])
def test_a_position_says_the_same_on_every_rank(tar, processes, taken):
    """What one rank lost does not shift it; it goes on in another world with every sample once."""

    def pipelines(world_size):
        return [
            d.decode(handler=wds.ignore_and_continue).batched(4, None)
            for d in ranks(tar({0, 1, 2, 3, 40}), world_size, shardshuffle=True)
        ]

    seen, states = [], []
    for dataset in pipelines(2):
        iterator = iter(DataLoader(dataset, batch_size=None, num_workers=processes, collate_fn=list))
        seen += [s for _ in range(taken) for s in next(iterator)]
        states.append(dataset.state_dict(batches=taken))
        if not processes:
            assert dataset.state_dict() == states[-1]
    assert states[0] == states[1]
    lengths = set()
    for dataset in pipelines(3):
        dataset.load_state_dict(states[0])
        length, rest = len(dataset), read(dataset, 2 - processes)
        lengths |= {length, len(rest)}
        seen += [s for batch in rest for s in batch]
    assert len(lengths) == 1
    assert sorted(s["__index__"] for s in seen if not s["__pad__"]) == [*range(4, 40), *range(41, N)]


def test_a_state_of_each_process_goes_on_where_it_stopped(tar):
    stateful = pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata is not installed")

    def loader():
        dataset = ranks(tar({0, 1, 2, 3, 40}), 2)[0].decode(handler=wds.ignore_and_continue)
        return stateful.StatefulDataLoader(dataset.batched(4, ids), batch_size=None, num_workers=2)

    whole = list(loader())
    assert len(whole) == 8
    for taken in range(1, 8):
        first = loader()
        head = list(islice(iter(first), taken))
        again = loader()
        again.load_state_dict(first.state_dict())
        rest = list(again)
        assert [len(batch) for batch in head + rest] == [4] * 8
        others = [
            pair for pair in zip(flattened(head + rest), flattened(whole), strict=True) if len({*pair}) > 1
        ]
        assert others in ([], [(41, 27)])  # the place of 40 is the next one's where none was before it


def test_nothing_to_take_the_places(tar):
    dataset = ranks(tar(range(N)), 2)[0].decode(handler=wds.ignore_and_continue)
    with pytest.raises(ArgumentError, match=r"leaves out every sample .* as ranks yield equally many"):
        next(iter(dataset))


class Sample:
    """What the stages hold of these can be counted."""

    def __init__(self, sample):
        self.id = sample["__index__"]


def test_few_are_held_while_one_is_looked_for(tar):
    """Of those that follow; what takes the places of the first may lie far behind."""
    there, most = weakref.WeakSet(), [0]

    def made(sample):
        there.add(made := Sample(sample))
        return made

    def sound(sample):
        most[0] = max(most[0], len(there))
        return sample if sample.id >= 198 else None

    for dataset in ranks(tar((), 200), 2):
        found = [sample.id for sample in dataset.map(made).map(sound)]
        assert len(found) == len(dataset) == 100
        assert set(found) == set(found[-1:])
        assert 0 < most[0] < 25


def test_no_rank_stops_alone(tar):
    for dataset in ranks(tar({0}), 2)[:1]:
        with pytest.raises(ArgumentError, match=r"would end the epoch of this rank alone"):
            list(dataset.decode(handler=wds.ignore_and_stop))


def many(sample):
    """One, two or no samples of each."""
    return [sample] * (sample["__index__"] % 3)


def columns(sample):
    return tuple([value] * (sample["__index__"] % 3) for value in (sample["__index__"], sample["json"]))


def once(batch):
    """A collation of one's own, which leaves samples out."""
    return batch[:1]


CHOICES = {
    "select": lambda d: d.select(some),
    "rsample": lambda d: d.rsample(0.5),
    "compose": lambda d: d.compose(lambda samples: (s for s in samples if some(s))),
    "unlisted": lambda d: d.map(many).unlisted(),
    "unbatched": lambda d: d.map(columns).unbatched(),
    "unlisted, changed": lambda d: d.listed(3).map(lambda batch: [s for s in batch if some(s)]).unlisted(),
    "unlisted, collated": lambda d: d.batched(3, once).unlisted(),
    "unbatched, of lists": lambda d: d.to_tuple("__index__").listed(3).unbatched(),
    "unlisted, twice": lambda d: d.map(many).listed(2).unlisted().unlisted(),
}


@pytest.mark.parametrize(("stage", "processes"), [*((name, 0) for name in CHOICES), ("select", 2)])
def test_what_chooses_is_refused_before_the_first_sample(tar, stage, processes):
    """As no rank can know of another; one alone may choose as it likes, and all of them for epochs of a
    number of batches, or where the training loop says that they may end one after the other."""
    path, choose, name = tar(()), CHOICES[stage], stage.partition(",")[0]
    for dataset in (choose(ranks(path, 2)[1]), choose(ranks(path, 2)[1]).listed(4).repeat(2, 5)):
        with pytest.raises(TypeError, match=r"depends on the samples|no length"):
            len(dataset)
        with pytest.raises(ArgumentError, match=rf"\.{name}\(\): .* \.with_epoch\(nbatches=n\), .*'join'"):
            next(iter(DataLoader(dataset, batch_size=None, num_workers=processes)))
    gc.collect()  # of the loaders that raised, lest a forked process does, in the middle of an import
    alone = read(choose(WebDataset(path)), processes)
    assert 0 < len(alone) != N
    lengths = {len(read(choose(d).batched(4, None).with_epoch(5), processes)) for d in ranks(path, 2)}
    assert lengths == {5 * max(1, processes)}
    lengths = [len(read(choose(d), processes)) for d in ranks(path, 2, equalize="join")]
    assert all(lengths)
    if "rsample" not in stage and "of lists" not in stage:
        assert sum(lengths) == len(alone)


UNDONE = {
    "lists": lambda d: d.listed(5).unlisted(),
    "lists, whole": lambda d: d.listed(5, partial=False).unlisted(),
    "of lists": lambda d: d.listed(5).listed(3).unlisted().unlisted(),
    "batches": lambda d: d.to_tuple("__index__", "__key__").batched(5).unbatched(),
    "shuffled": lambda d: d.listed(5).shuffle(3).unlisted(),
    "lost before": lambda d: d.map(some).listed(5).unlisted(),
}


@pytest.mark.parametrize("undone", UNDONE)
def test_batches_that_are_taken_apart_again(tar, undone):
    """As they were made, so that ranks yield equally many."""
    lengths = [len(list(UNDONE[undone](d))) for d in ranks(tar(()), 3)]
    assert lengths in ([22] * 3, [20] * 3)  # of 64 samples and two pads, but for batches that are not whole


LOST = {"first": 0, "in the middle": 20, "last": N - 1}


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("processes", [0, 1])
def test_a_length_that_has_shown_itself_wrong_is_none(tar, lost, processes):
    """A DataLoader then has none either, and yields what there is; until something is lost it is exact."""

    def but_one(sample):
        return None if sample["__index__"] == LOST[lost] else sample

    dataset = WebDataset(tar(())).map(but_one)
    loader = DataLoader(dataset, batch_size=None, num_workers=processes)
    assert len(loader) == N
    assert len(ids(loader)) == N - 1
    for has_none in (loader, dataset):
        with pytest.raises(TypeError, match="depends on the samples"):
            len(has_none)
    assert len(ids(loader)) == N - 1
    assert len(dataset.with_length(N - 1)) == N - 1
    assert len(WebDataset(tar(())).map(but_one)) == N


@pytest.mark.parametrize("partial", [True, False])
def test_a_length_that_is_right_stays(tar, partial):
    dataset = WebDataset(tar(())).map(dict).listed(5, partial=partial).repeat(2)
    assert len(list(dataset)) == len(dataset) == (26 if partial else 25)


def test_one_rank_leaves_samples_out_as_webdataset_does(tar):
    path = tar({3, 9})
    ours = WebDataset(path).decode(handler=wds.ignore_and_continue)
    theirs = wds.WebDataset(str(path), shardshuffle=False).decode(handler=wds.ignore_and_continue)
    assert [s["__key__"] for s in ours] == [s["__key__"] for s in theirs]
