"""on_error: a sample that is in error is raised, or another takes its place and it is counted."""

import copy
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from torch.utils.data import DataLoader

from pyimportance import DataError, ImportanceDataset, ShardSet
from pyimportance.load.skips import Skips

COUNTS = (31, 33)


@pytest.fixture
def damaged(shard_set, tmp_path):
    """damaged(ids): a copy of shards in which the headers of these samples are overwritten."""

    def damage(ids):
        shutil.copytree(shard_set(COUNTS)[0].root, tmp_path / "set")
        shards = ShardSet.open(tmp_path / "set")
        for w in range(2):
            found = shards.index(w)
            for row in np.flatnonzero(np.isin(found.ids, ids)):
                with open(found.files[found.file[row]], "r+b") as file:
                    file.seek(int(found.offset[row]))
                    file.write(b"?")
        return shards

    return damage


def samples_of(dataset, batched, processes):
    if not batched:
        loader = DataLoader(dataset, batch_size=4, num_workers=processes, collate_fn=list)
        return [(s["__index__"], s["__pad__"], s["bin"]) for batch in loader for s in batch]
    loader = DataLoader(dataset, batch_size=None, num_workers=processes, collate_fn=dict)
    columns = [(b["__index__"].tolist(), b["__pad__"].tolist(), b["bin"]) for b in loader]
    return [sample for column in columns for sample in zip(*column, strict=True)]


def planned(shard_set, **options):
    return [s["__index__"] for s in ImportanceDataset(shard_set(COUNTS)[0], rank=0, world_size=1, **options)]


@pytest.mark.parametrize(("batched", "processes"), [(False, 0), (True, 0), (False, 2), (True, 2)])
@pytest.mark.parametrize("window_bytes", [1, 2**13, 2**25])
@pytest.mark.parametrize("bad", [[17, 40], range(12), "the first"])
def test_others_take_the_places_of_bad_samples(damaged, shard_set, batched, processes, window_bytes, bad):  # noqa: PLR0917
    """In windows of one sample, one that another window had."""
    options = {"batch_size": 4, "window_bytes": window_bytes}
    order = planned(shard_set, **options)
    bad = order[:6] if bad == "the first" else list(bad)
    shards, parts = damaged(bad), shard_set(COUNTS)[1]
    dataset = ImportanceDataset(shards, **options, batched=batched, on_error="skip", rank=0, world_size=1)
    got = samples_of(dataset, batched, processes)
    assert dataset.skipped == len(bad)
    for (i, pad, data), right in zip(got, order, strict=True):
        assert (pad, i != right) == (right in bad, right in bad)
        assert i not in bad
        assert data == parts[i]["bin"]


def test_no_sample_is_sound(damaged):
    dataset = ImportanceDataset(damaged(range(64)), on_error="skip", rank=0, world_size=1, window_bytes=2**13)
    with pytest.raises(DataError, match=r"(?s)the index has this member here.*none could be read"):
        next(iter(dataset))


@pytest.mark.parametrize("fields", [None, {"cls": ("uint8", (1,))}])
@pytest.mark.parametrize("window_bytes", [1, 2**25])
def test_a_job_goes_on_where_nothing_sound_is_left(damaged, shard_set, fields, window_bytes):
    """Others of the epoch take the places."""
    options = {"batch_size": 4, "window_bytes": window_bytes}
    left, parts = planned(shard_set, **options)[60:], shard_set(COUNTS)[1]
    options |= {"batched": True, "fields": fields, "on_error": "skip", "rank": 0, "world_size": 1}
    dataset = ImportanceDataset(damaged(left), **options)
    list(dataset)
    dataset.load_state_dict(dataset.state_dict(batches=15))
    (batch,) = dataset
    assert batch["__pad__"].all()
    assert not np.isin(batch["__index__"], left).any()
    assert [bytes(np.ravel(data)) if fields else data for data in batch["cls"]] == [
        parts[i]["cls"] for i in batch["__index__"]
    ]
    assert batch["bin"] == [parts[i]["bin"] for i in batch["__index__"]]


@pytest.mark.parametrize("processes", [0, 2])
def test_a_budget_goes_by_samples(damaged, processes):
    """Of the whole rank, over its loader processes; in another epoch it is the same samples. A job that was
    resumed goes on as it would have."""
    options = {"batch_size": 4, "rank": 0, "world_size": 1, "on_error": "skip", "window_bytes": 2**13}
    dataset = ImportanceDataset(damaged([3, 50]), **options, max_skipped=2)
    loader = DataLoader(dataset, batch_size=4, num_workers=processes, collate_fn=list)
    for epoch in range(3):
        dataset.set_epoch(epoch)
        assert sum(map(len, loader)) == sum(COUNTS)
    assert dataset.skipped == 6
    again = ImportanceDataset(dataset.shards, **options, max_skipped=2)
    again.load_state_dict(dataset.state_dict(epoch=3))
    assert sum(map(len, DataLoader(again, 4, num_workers=processes, collate_fn=list))) == sum(COUNTS)
    for spent in (ImportanceDataset(dataset.shards, **options, max_skipped=1), copied(dataset, 1)):
        with pytest.raises(DataError, match="the index has this member here"):
            list(DataLoader(spent, batch_size=4, num_workers=processes, collate_fn=list))
        assert spent.skipped % 6 <= 1


def copied(dataset, max_skipped):
    """One that has skipped what ``dataset`` had, and may skip no more."""
    other = copy.deepcopy(dataset)
    assert other._skips.may(3, 0)
    assert not other._skips.may(4, 2)
    assert other._skips.may(4, 3)
    assert not dataset._skips.may(4, 2)
    other._skips, other._making = Skips(), replace(other._making, max_skipped=max_skipped)
    return other


def test_more_samples_than_are_told_apart():
    skips = Skips()
    skips._memory[:8] = np.array([2**20], np.int64).tobytes()
    assert skips.may(0, 2**20 + 2)  # there already, as the memory says
    assert [skips.may(7, 2**20 + 2) for _ in range(3)] == [True, True, False]


def test_a_shard_that_is_gone(damaged):
    shards = damaged([])
    found = shards.index(0)
    lost = np.flatnonzero(found.file == found.file[0])
    os.remove(found.files[found.file[0]])
    dataset = ImportanceDataset(shards, rank=0, world_size=1, on_error="skip")
    assert sum(sample["__pad__"] for sample in dataset) == dataset.skipped == len(lost)


def test_by_default_it_raises(damaged):
    with pytest.raises(DataError, match="the index has this member here"):
        list(ImportanceDataset(damaged([5]), rank=0, world_size=1))
