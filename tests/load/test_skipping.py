"""on_error: a sample that is in error is raised, or another takes its place and it is counted."""

import os
import shutil

import numpy as np
import pytest
from torch.utils.data import DataLoader

from pyimportance import DataError, ImportanceDataset, ShardSet

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


@pytest.mark.parametrize("processes", [0, 2])
def test_a_budget_that_is_spent(damaged, processes):
    """For the whole rank, over its loader processes and epochs; then the error comes at its sample."""
    shards = damaged([3, 50])
    dataset = ImportanceDataset(
        shards, batch_size=4, rank=0, world_size=1, on_error="skip", max_skipped=3, window_bytes=2**13
    )
    loader = DataLoader(dataset, batch_size=4, num_workers=processes, collate_fn=list)
    assert sum(map(len, loader)) == sum(COUNTS)
    dataset.set_epoch(1)
    with pytest.raises(DataError, match="the index has this member here"):
        list(loader)
    assert dataset.skipped == 3


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
