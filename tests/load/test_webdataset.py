"""WebDataset beside webdataset's: the same pipelines give the same, and what only ours does."""

import os
import random

import numpy as np
import pytest
import torch
import webdataset as wds
from torch.utils.data import DataLoader

from pyimportance import SampleIndex, WebDataset, index
from tests.load.samples import ids, plain
from tests.server import Server

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # webdataset leaves files to the collector
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
]


def odd_only(sample):
    return sample if sample["cls"] % 2 else None


def even_fails(x):
    if x % 2 == 0:
        raise ValueError(x)
    return x


def text_of(stream):
    return stream.read().decode()


def npy_of(stream):
    return np.load(stream)


PIPELINES = {
    "bytes": lambda d: d,
    "decode": lambda d: d.decode(),
    "decode only": lambda d: d.decode(only="cls json"),
    "decode, a function": lambda d: d.decode(lambda key, data: key if key == ".json" else None),
    "decode twice": lambda d: d.decode(only=["cls"]).decode(partial=True),
    "to_tuple": lambda d: d.decode().to_tuple("txt;text", "cls", "npy"),
    "to_tuple, in words": lambda d: d.decode().to_tuple("json cls"),
    "to_tuple, missing": lambda d: d.to_tuple("txt", missing_is_error=False),
    "to_tuple, left out": lambda d: d.to_tuple("txt", handler=wds.ignore_and_continue),
    "map": lambda d: d.decode().map(odd_only),
    "map, stopped": lambda d: (
        d.decode().to_tuple("cls").map(lambda x: x[0]).map(even_fails, wds.ignore_and_stop)
    ),
    "map_dict": lambda d: d.decode().map_dict(cls=lambda x: -x, json=len),
    "map_dict, left out": lambda d: d.decode().map_dict(cls=even_fails, handler=wds.ignore_and_continue),
    "map_tuple": lambda d: d.decode().to_tuple("cls", "json", "npy").map_tuple(float, None),
    "rename": lambda d: d.rename(text="text;txt", label="cls"),
    "rename, alone": lambda d: d.rename(keep=False, text="text;txt"),
    "rename_keys": lambda d: d.rename_keys(("label", "cls"), text="*t*xt", keep_unselected=True),
    "xdecode": lambda d: d.xdecode(("*.npy", npy_of), cls=text_of, text=False, json=text_of),
    "xdecode, some": lambda d: d.xdecode(must_decode=False),
    "extract_keys": lambda d: d.decode().extract_keys("*.cls", "*.txt;*.text"),
    "select": lambda d: d.decode().select(lambda sample: sample["cls"] < 7),
    "slice": lambda d: d.slice(2, 20, 3),
    "batched": lambda d: d.decode().to_tuple("cls", "npy", "json").batched(5),
    "batched, whole": lambda d: d.decode().to_tuple("cls").batched(5, partial=False),
    "batched dicts": lambda d: d.decode().rename(text="text;txt").batched(7),
    "batched tensors": lambda d: d.decode().to_tuple("npy").map_tuple(torch.from_numpy).batched(5),
    "listed": lambda d: d.decode().to_tuple("cls").listed(5),
    "unbatched": lambda d: d.decode().to_tuple("cls", "npy").batched(5).unbatched(),
    "unlisted": lambda d: d.listed(5).unlisted(),
    "compose": lambda d: d.compose(wds.decode(), wds.to_tuple("cls"), lambda samples: (s for s in samples)),
    "repeat": lambda d: d.to_tuple("cls").repeat(2),
    "with_epoch": lambda d: d.to_tuple("cls").with_epoch(30),
    "shuffle(0)": lambda d: d.shuffle(0).to_tuple("cls"),
    "shuffle(-1)": lambda d: d.shuffle(-1).to_tuple("cls"),
    "rename_keys, alone": lambda d: d.rename_keys(("key", "__key__"), label="cls"),
    "rsample(0)": lambda d: d.rsample(0),
}


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_gives_the_same(tars, pipeline):
    theirs = PIPELINES[pipeline](wds.WebDataset(tars, shardshuffle=False))
    ours = PIPELINES[pipeline](WebDataset(tars, shardshuffle=False))
    assert [plain(sample) for sample in ours] == [plain(sample) for sample in theirs]


def test_log_keys(tars, tmp_path):
    assert len(list(WebDataset(tars).log_keys(tmp_path / "log").to_tuple("cls"))) == 24
    assert (tmp_path / "log").read_text().splitlines()[23] == "23\t023\t23"
    assert len(list(WebDataset(tars).log_keys())) == 24


def test_a_pipeline_is_left_as_it_is(tars):
    base = WebDataset(tars)
    base.decode().shuffle(10).to_tuple("cls")
    assert ids(base) == list(range(24))
    assert base.epoch == 1
    assert base.decode().epoch == 0


@pytest.mark.parametrize("processes", [0, 2, 3])
@pytest.mark.parametrize("persistent", [False, True])
def test_every_iteration_of_a_loader_is_another_epoch(tars, processes, persistent):
    def made():
        return WebDataset(tars, shardshuffle=6, seed=3).shuffle(24).to_tuple("__index__").batched(5, None)

    def read(batches):
        return [[row[0] for row in batch] for batch in batches]

    alone = made()
    expected = [read(alone) for _ in range(4)]
    options = {"persistent_workers": persistent and processes > 0, "batch_size": None}
    dataset = made()
    loader = DataLoader(dataset, num_workers=processes, **options)
    assert len(loader) == 5
    assert [read(loader) for _ in range(3)] == expected[:3]
    assert len({str(epoch) for epoch in expected}) == 4
    assert {tuple(sorted(i for batch in epoch for i in batch)) for epoch in expected} == {tuple(range(24))}
    dataset.set_epoch(1)
    assert [read(loader) for _ in range(3)] == expected[1:]


def test_loaders_with_equal_generators(tars):
    """Their processes cannot be told apart by their seeds; each begins an epoch of its own all the same."""
    dataset, seen = WebDataset(tars).shuffle(24), set()
    for _ in range(3):
        generator = torch.Generator().manual_seed(0)
        loader = DataLoader(dataset, batch_size=None, num_workers=2, generator=generator)
        seen.add(tuple(ids(loader)))
    assert len(seen) == 3
    assert {tuple(sorted(epoch)) for epoch in seen} == {tuple(range(24))}


@pytest.mark.parametrize("processes", [0, 2])
def test_epochs_of_a_number_of_batches_cover_everything(tars, processes):
    dataset = WebDataset(tars).shuffle(24).to_tuple("__index__").batched(2, None).with_epoch(nbatches=3)
    loader = DataLoader(dataset, batch_size=None, num_workers=processes)
    with pytest.raises(TypeError, match="no length"):
        len(loader)
    each = 6 * max(1, processes)
    epochs = [[row[0] for batch in loader for row in batch] for _ in range(4 * 24 // each)]
    assert {len(epoch) for epoch in epochs} == {each}
    seen = [i for epoch in epochs for i in epoch]
    for n in range(4):
        assert sorted(seen[24 * n : 24 * n + 24]) == list(range(24))


def test_endless_epochs(tars):
    dataset = WebDataset(tars, resampled=True).to_tuple("__index__").with_epoch(100)
    rows = [row[0] for row in dataset]
    assert len(rows) == 100
    for n in range(4):
        assert sorted(rows[24 * n : 24 * n + 24]) == list(range(24))
    assert dataset.with_length(7) is dataset
    assert len(dataset) == 7


def test_a_shuffle_of_batches_is_a_buffer(tars):
    dataset = WebDataset(tars).to_tuple("__index__").batched(2, None).shuffle(6, initial=3)
    one, two = list(dataset), list(dataset)
    assert one != two
    for epoch in (one, two):
        assert sorted(epoch) == [[(i,), (i + 1,)] for i in range(0, 24, 2)]
    dataset.set_epoch(0)
    assert list(dataset) == one


def test_a_shuffle_of_an_own_seed(tars):
    """Of samples and of batches, given or drawn from what is given, as webdataset takes them."""
    orders = set()
    for seed in ({}, {"seed": 1}, {"seed": 2}, {"rng": random.Random(3)}):
        for made in (lambda d: d, lambda d: d.listed(2)):
            for make in (WebDataset, wds.WebDataset):
                samples = made(make(tars, shardshuffle=False).to_tuple("cls")).shuffle(24, **seed)
                assert len({str(sample) for sample in samples}) in (24, 12)
        of_batches = WebDataset(tars).to_tuple("cls").listed(2).shuffle(24, **seed)
        orders.add(str(list(of_batches)))
        of_samples = WebDataset(tars).to_tuple("cls").shuffle(24, **seed)
        orders.add(str(list(of_samples)))
    assert len(orders) == 8
    again = [list(WebDataset(tars).shuffle(24, rng=random.Random(3)).to_tuple("cls")) for _ in range(2)]
    assert again[0] == again[1]


def test_a_part_of_each_epoch(tars):
    dataset = WebDataset(tars).rsample(0.5)
    epochs = [ids(dataset) for _ in range(4)]
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert all(4 <= len(epoch) <= 20 for epoch in epochs)


def test_shards_in_random_order_are_read_one_after_the_other(tars):
    dataset = WebDataset(tars, shardshuffle=True, window_bytes=3000)
    orders = []
    for _ in range(3):
        epoch = ids(dataset)
        orders.append(epoch[::4])
        assert epoch == [i + k for i in epoch[::4] for k in range(4)]
    assert len({tuple(order) for order in orders}) == 3
    assert sorted(orders[0]) == list(range(0, 24, 4))


def test_some_parts(tars, shard_set):
    """What is small and lies between is read, and given to nobody; the order is that of all parts."""

    def wanted(name):
        return name.endswith((".cls", ".npy"))

    whole = WebDataset(tars, window_bytes=3000).shuffle(1)
    some = WebDataset(tars, window_bytes=3000, select_files=wanted).shuffle(1)
    assert ids(some) == ids(whole)
    for dataset in (whole, some):
        dataset.set_epoch(0)
    for few, all_ in zip(some, whole, strict=True):
        assert few == {name: all_[name] for name in all_ if name not in ("json", "txt", "text")}
    assert some.io_report().bytes("origin") == 2 * 24 * 3 * 1024
    shards, samples = shard_set((31, 33))
    for sample in WebDataset(shards, select_files=lambda name: name.endswith(".cls")):
        assert {name: sample.get(name) for name in ("cls", "bin")} == {
            "cls": samples[sample["__index__"]]["cls"],
            "bin": None,
        }


def test_importance_shards(shard_set):
    """Keep, bins and ranks of shards, through a pipeline."""
    shards, _ = shard_set((31, 33))
    dataset = WebDataset(shards.root, keep=0.25, rank=1, world_size=2, equalize="drop").shuffle(10)
    assert len(dataset) == len(ids(dataset)) == 8
    assert set(ids(dataset)) <= set(shards.index(1).ids.tolist())
    assert dataset.shards.digest == shards.digest
    assert dataset.io_report().bytes("disk") > 0
    batches = WebDataset(shards, rank=0, world_size=2).to_tuple("cls").batched(8)
    assert len(batches) == len(list(batches)) == 5


def test_an_index_is_not_made_anew(tars, tmp_path):
    index(tars).save(tmp_path / "index.arrow")
    dataset = WebDataset(SampleIndex.load(tmp_path / "index.arrow"))
    assert ids(dataset) == list(range(24))
    report = dataset.io_report()
    assert (report.bytes("index"), report.bytes("origin")) == (0, 24 * 4 * 1024)


def test_spawned_processes(tars):
    def made():
        return WebDataset(tars, shardshuffle=True).shuffle(8).decode().to_tuple("__index__", "cls").batched(5)

    dataset, alone = made(), made()
    options = {"num_workers": 1, "multiprocessing_context": "spawn", "persistent_workers": True}
    loader = DataLoader(dataset, batch_size=None, **options)
    expected = [plain(list(DataLoader(alone, batch_size=None))) for _ in range(3)]
    assert [plain(list(loader)) for _ in range(2)] == expected[:2]
    dataset.load_state_dict(dataset.state_dict(epoch=2))
    assert plain(list(loader)) == expected[2]


def test_an_iteration_that_is_given_up_leaves_nothing_open(tars, tmp_path, open_below):
    dataset = WebDataset(tars, window_bytes=2000).decode().to_tuple("cls").batched(2).with_epoch(50)
    threads = len(os.listdir("/proc/self/task"))
    iterator = iter(dataset)
    next(iterator)
    assert open_below(tmp_path)
    del iterator
    assert open_below(tmp_path) == []
    assert len(os.listdir("/proc/self/task")) <= threads  # those of the index may have ended only now


def test_tars_behind_a_url(tars, tmp_path):
    with Server(tmp_path) as server:
        dataset = WebDataset(f"{server.url}/{{000..005}}.tar", shardshuffle=True).shuffle(8)
        assert sorted(ids(dataset)) == list(range(24))
        # What reads URLs has threads, which a forked process would lack.
        options = {"num_workers": 1, "multiprocessing_context": "forkserver", "batch_size": None}
        loader = DataLoader(dataset.to_tuple("__index__").batched(5, None), **options)
        assert sorted(i for batch in loader for (i,) in batch) == list(range(24))
        assert dataset.io_report().bytes("origin") == 24 * 4 * 1024


def test_webdatasets_own_loader(tars):
    batched = WebDataset(tars).decode().to_tuple("cls").batched(4)
    loader = wds.WebLoader(batched, batch_size=None, num_workers=1).unbatched().batched(6)
    assert [len(batch[0]) for batch in loader] == [6] * 4
