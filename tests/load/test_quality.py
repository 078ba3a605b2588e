"""How well batches are mixed, in numbers."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from pyimportance import ArgumentError, ImportanceDataset, index, shuffle_quality
from pyimportance.cli.app import app
from pyimportance.load.tars import Tars
from tests.load.samples import ids

COUNTS, BINS, B = (400, 380), 4, 20


@pytest.fixture(scope="module")
def shards(shard_set):
    return shard_set(COUNTS, BINS)[0]


def dataset(shards, **options):
    return ImportanceDataset(shards, **{"rank": 0, "world_size": 2, "batch_size": B} | options)


@pytest.mark.parametrize("options", [{}, {"rank": 1, "shuffle": False}, {"world_size": 1}, {"world_size": 4}])
def test_planned_ids_are_what_is_yielded(shards, options):
    data = dataset(shards, **options)
    data.set_epoch(3)
    planned = data.planned_ids().tolist()
    assert planned == ids(data)
    assert len(planned) == len(data)


def by_hand(shards, data, of):
    """The mean total variation distance between a batch and all, of {id: group}."""
    groups = np.array([of[i] for i in ids(data)])
    kinds = sorted(set(groups.tolist()))
    share = np.array([(groups == k).mean() for k in kinds])
    batches = groups[: len(groups) // B * B].reshape(-1, B)
    return np.mean([np.abs([(b == k).mean() for k in kinds] - share).sum() / 2 for b in batches])


@pytest.mark.parametrize("mix", ["stratified", "sequential"])
def test_distances_of_batches(shards, mix):
    data = dataset(shards, mix=mix)
    classes = np.random.default_rng(0).integers(0, 7, shards.id_bound)
    found = shuffle_quality(data, classes)
    bin_of = {
        i: b
        for w in (0, 1)
        for i, b in zip(shards.index(w).ids.tolist(), shards.index(w).bin.tolist(), strict=True)
    }
    assert found.bins.mean == pytest.approx(by_hand(shards, data, bin_of))
    assert found.classes.mean == pytest.approx(by_hand(shards, data, dict(enumerate(classes.tolist()))))
    assert (found.batch_size, found.batches) == (B, 20)
    assert 0.7 < found.classes.mean / found.classes.random < 1.3  # nothing goes by classes
    if mix == "stratified":
        assert found.bins.mean < found.bins.random / 2
        assert 0.9 < found.displacement < 1.1
    else:
        assert found.bins.mean > 0.7
        assert found.displacement < 0.4


def test_what_random_has_is_what_random_orders_have(shards):
    """The formula beside 200 orders drawn at random."""
    random = shuffle_quality(dataset(shards)).bins.random
    bins = np.repeat(np.arange(BINS), COUNTS[0] // BINS)
    r, means = np.random.default_rng(1), []
    for _ in range(200):
        batches = r.permutation(bins).reshape(-1, B)
        means.append(
            np.mean([np.abs(np.bincount(b, minlength=BINS) / B - 1 / BINS).sum() / 2 for b in batches])
        )
    assert np.mean(means) == pytest.approx(random, rel=0.05)


def test_storage_order(shards):
    assert shuffle_quality(dataset(shards, shuffle=False, mix="sequential")).displacement == 0


def test_plain_tars(tmp_path, write_tar):
    write_tar(tmp_path / "a.tar", [(f"k{i:03d}", {"x": b"x"}) for i in range(100)])
    found = Tars(index(tmp_path / "a.tar"))
    assert found.worker_of(np.array([0, 99, 100])).tolist() == [0, 0, -1]
    assert found.id_bound == 100


@pytest.mark.parametrize(
    ("options", "classes", "text"),
    [
        ({"batch_size": None}, None, "batch_size=None: there is no whole batch in 400 samples"),
        ({"batch_size": 500}, None, "batch_size=500: there is no whole batch"),
        ({}, np.zeros(3, int), "classes: int64 of shape .* one for each of 780"),
    ],
)
def test_what_is_refused(shards, options, classes, text):
    with pytest.raises(ArgumentError, match=text):
        shuffle_quality(dataset(shards, **options), classes)


def test_inspect_prints_them(shards, tmp_path):
    np.save(tmp_path / "classes.npy", np.arange(shards.id_bound) % 5)
    arguments = [
        "inspect",
        shards.root,
        "--batch-size",
        str(B),
        "--classes",
        str(tmp_path / "classes.npy"),
        "--json",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    found = [shuffle_quality(dataset(shards, rank=w), np.arange(shards.id_bound) % 5) for w in (0, 1)]
    assert told["displacement"] == min(f.displacement for f in found)
    assert told["bins_per_batch_distance"] == max(f.bins.mean for f in found)
    assert told["classes_per_batch_distance"] == max(f.classes.mean for f in found)
    assert told["classes_per_batch_distance_if_random"] > 0
