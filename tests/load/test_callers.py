"""What a data set is given to: a DataLoader of other batches, or one that would divide it once more."""

import copy
import pickle

import pytest
from torch.utils.data import DataLoader, IterableDataset

from pyimportance import ArgumentError, ImportanceDataset, WebDataset

METHODS = [None, "fork", "forkserver", "spawn"]


class DataLoaderDispatcher(DataLoader):
    """As Accelerate's of that name: rank 0 reads, and sends the others their parts."""

    def __iter__(self):
        yield from super().__iter__()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", [ImportanceDataset, WebDataset])
def test_divided_once_more(shard_set, method, kind):
    """However loader processes start, those that inherit no calls included."""
    shards, _ = shard_set((40, 40))
    options = {"batch_size": None, "num_workers": 1 if method else 0, "multiprocessing_context": method}
    dataset = kind(shards.root, rank=0, world_size=2)
    with pytest.raises(ArgumentError, match="DataLoaderDispatcher would divide it among ranks once more"):
        next(iter(DataLoaderDispatcher(dataset, **options)))
    copies = [copy.deepcopy(dataset), pickle.loads(pickle.dumps(dataset))]
    assert [len(each) for each in copies] == [40, 40]


@pytest.mark.parametrize("kind", [ImportanceDataset, WebDataset])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_sharding_filter(shard_set, kind):
    """Of torch's data pipes: it divides among loader processes, where there are several."""
    datapipes = pytest.importorskip("torch.utils.data.datapipes.iter")
    pipe = datapipes.IterableWrapper(kind(shard_set((40, 40))[0], rank=0, world_size=1)).sharding_filter()
    for processes in (0, 1):
        assert len(list(DataLoader(pipe, batch_size=None, num_workers=processes))) == 80
    with pytest.raises(ArgumentError, match=r"sharding_filter\(\) would divide it among processes once more"):
        list(DataLoader(pipe, batch_size=None, num_workers=2))


@pytest.mark.parametrize("method", METHODS)
def test_a_loader_of_other_batches(shard_set, method):
    """Positions, and what loader processes are dealt, go by batches."""
    options = {"num_workers": 2 if method else 0, "multiprocessing_context": method, "collate_fn": list}
    root = shard_set((40, 40))[0].root
    for kind in (ImportanceDataset, WebDataset):
        dataset = kind(root, rank=0, world_size=1, batch_size=16)
        with pytest.raises(
            ArgumentError, match="batch_size=16, and the DataLoader's is 8; give both the same"
        ):
            next(iter(DataLoader(dataset, 8, **options)))
    batched = ImportanceDataset(root, rank=0, world_size=1, batch_size=16, batched=True)
    with pytest.raises(ArgumentError, match="would make batches of 8 of them; give it batch_size=None"):
        next(iter(DataLoader(batched, 8, **options)))


@pytest.mark.parametrize("processes", [0, 2])
def test_batches_that_are_taken_apart_again(shard_set, processes):
    """The DataLoader makes those that the training loop has."""
    dataset = WebDataset(shard_set((40, 40))[0].root, rank=0, world_size=1, batch_size=16)
    whole = dataset.listed(4).listed(2)
    for pipeline in (dataset.listed(4).unlisted(), whole.unlisted().unlisted()):
        assert not pipeline.makes_batches
        batches = list(DataLoader(pipeline, 16, num_workers=processes, collate_fn=list))
        assert [len(batch) for batch in batches] == [16] * 5
    for pipeline in (dataset.listed(4), whole.unlisted(), dataset.map(list).unlisted().listed(4)):
        assert pipeline.makes_batches
        with pytest.raises(ArgumentError, match="would make batches of 16 of them"):
            next(iter(DataLoader(pipeline, 16, num_workers=processes, collate_fn=list)))


def test_batches_that_were_not_yielded(shard_set):
    dataset = ImportanceDataset(shard_set((40, 40))[0], rank=0, world_size=1, batch_size=16)
    samples = iter(dataset)
    for _ in range(6 * 8):
        next(samples)
    with pytest.raises(ArgumentError, match="batches=5: by batch_size they have 80 samples, and 48 were"):
        dataset.state_dict(batches=6 - 1)
    assert dataset.state_dict(batches=3) == dataset.state_dict()
    assert dataset.state_dict(batches=2)["consumed"] == [16, 16]  # one that was read ahead


@pytest.mark.parametrize("kind", [ImportanceDataset, WebDataset])
def test_a_length_that_is_not_exact(shard_set, kind):
    """Of samples that are dealt one by one, where the DataLoader makes batches in several processes."""
    dataset = kind(shard_set((40, 40))[0], rank=0, world_size=1)
    for processes, size in ((0, 7), (1, 7), (2, None), (2, 1)):
        list(DataLoader(dataset, size, num_workers=processes, collate_fn=len))
    with pytest.raises(UserWarning, match=r"len\(loader\) is not exact; give the DataLoader's, 7"):
        list(DataLoader(dataset, 7, num_workers=2, collate_fn=len))
    exact = kind(dataset.shards, rank=0, world_size=1, batch_size=7)
    loader = DataLoader(exact, 7, num_workers=2, collate_fn=len)
    assert len(list(loader)) == len(loader) == 12


class Mixed(IterableDataset):
    """One of somebody's own, that reads two."""

    def __init__(self, *datasets):
        self.datasets = datasets

    def __iter__(self):
        for samples in zip(*self.datasets, strict=True):
            yield from samples


def test_the_loader_of_another_data_set(shard_set):
    """Makes batches of its own."""
    shards, _ = shard_set((40, 40))
    halves = [ImportanceDataset(shards, rank=r, world_size=2, batch_size=4) for r in range(2)]
    assert len(list(DataLoader(Mixed(*halves), 8, collate_fn=list))) == 10
