"""How well batches are mixed, in numbers."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from pyimportance import (
    ArgumentError,
    ImportanceDataset,
    index,
    repartition,
    shuffle_quality,
    write_shards,
)
from pyimportance.cli.app import app
from pyimportance.load.plan import EpochPlan, Recipe, Stock
from pyimportance.load.quality import Beside, _neighbours, _storage_order
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
    else:
        assert found.bins.mean > 0.7


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


N, WINDOW = 6000, 600 * 1024  # ten windows of 600 samples of a header and a block


@pytest.fixture(scope="module")
def many(tmp_path_factory, write_tar, divide):
    """86 shards or so of one worker."""
    folder = tmp_path_factory.mktemp("many")
    write_tar(folder / "s.tar", [(f"{i:05d}", {"x": b"x" * 500}) for i in range(N)])
    return write_shards(folder / "s.tar", divide([N], 4), folder / "set", shard_bytes=70 * 1024)


def neighbours(shards, **options):
    options = {"rank": 0, "world_size": 1, "batch_size": 64, "window_bytes": WINDOW} | options
    return shuffle_quality(ImportanceDataset(shards, **options)).neighbours


@pytest.mark.parametrize("options", [{}, {"shuffle": "shards"}, {"mix": [2, 1, 1, 0.5]}, {"keep": 0.3}])
def test_neighbours_by_hand(many, options):
    """Of every pair in a batch, whether fewer than B of what is yielded lie between them."""
    B, index = 48, many.index(0)
    data = ImportanceDataset(many, rank=0, world_size=1, batch_size=B, window_bytes=WINDOW, **options)
    rows = index.rows_of(np.array(ids(data)))
    assert (
        np.diff(index.file.astype(np.int64) * (1 << 40) + index.offset) > 0
    ).all()  # rows are in order of storage
    place = np.argsort(np.argsort(rows, kind="stable"))
    batches = place[: len(place) // B * B].reshape(-1, B)
    near = (np.abs(batches[:, :, None] - batches[:, None, :]) < B).sum() / batches.size - 1
    assert shuffle_quality(data).neighbours.mean == pytest.approx(near)


def test_neighbours_in_order_and_of_shards(many):
    assert len(many.shards) > 80
    in_order = neighbours(many, shuffle=False, mix="sequential")
    assert in_order.mean == 63
    assert in_order.random == pytest.approx(2 * 63 * 63 / N, rel=0.01)
    assert neighbours(many, shuffle=False).mean == pytest.approx(15, abs=0.1)  # in order within four bins
    # Shards of 70 samples or so: a batch is of one of each bin, or of two, or of two alone.
    assert neighbours(many, shuffle="shards", mix="sequential").mean > 0.6 * 63
    assert neighbours(many, shuffle="shards").mean > 0.8 * 15


def test_neighbours_by_default(many):
    """As windows are of 64 blocks: (B - 1) / 64 and what is random; that alone where all is one window."""
    mixed = neighbours(many)
    assert mixed.random + 0.4 < mixed.mean < mixed.random + 1
    assert neighbours(many, window_bytes=1 << 30).mean == pytest.approx(mixed.random, rel=0.1)
    assert neighbours(many, window_bytes=WINDOW // 8, mix="sequential").mean > mixed.random + 0.1


@pytest.mark.parametrize(("samples", "size"), [(64, 64), (100, 20), (5000, 64)])
def test_neighbours_of_random_orders(samples, size):
    """The formula beside orders drawn at random."""
    r = np.random.default_rng(2)
    told = [_neighbours(r.permutation(samples) * 3, size) for _ in range(100)]
    assert np.mean([found.mean for found in told]) == pytest.approx(told[0].random, rel=0.05)


@pytest.mark.parametrize(("options", "mean"), [({}, 3.1), ({"shuffle": "shards"}, 246)])
def test_neighbours_of_large_sets(options, mean):
    """README's figures: of shards of 256 MiB, with all other options as they are."""
    n, nbytes = 160_000, 110_000
    numbers, per_shard = np.arange(n), 2**28 // nbytes
    stock = Stock(
        (numbers // per_shard).astype(np.int32),
        numbers % per_shard * nbytes,
        np.full(n, nbytes),
        np.zeros(n, np.int32),
    )
    plan = EpochPlan(stock, Recipe(**options), digest="0" * 64, epoch=0, worker=0)
    found = _neighbours(np.concatenate([plan.window(k) for k in range(plan.windows)]), 256)
    assert found.mean == pytest.approx(mean, rel=0.05)
    assert found.random == pytest.approx(0.8, abs=0.05)


def test_neighbours_of_ones():
    assert _neighbours(np.arange(1), 1) == _neighbours(np.arange(9), 1) == Beside(0, 0)


def test_storage_is_where_the_bytes_lie(many, divide):
    """After a repartition indexes list what came last, and what stayed, in whichever order."""
    moved = repartition(many, divide([N // 2, N // 2], 4, seed=1))
    index = moved.index(0)
    order = np.lexsort((index.offset, index.file))
    assert _storage_order([index])[order].tolist() == list(range(len(index)))
    both = _storage_order([index, moved.index(1)])
    assert both.tolist() == [*_storage_order([index]), *(_storage_order([moved.index(1)]) + len(index))]


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
    assert told["neighbours_in_batch"] == max(f.neighbours.mean for f in found)
    assert 0 < told["neighbours_in_batch_if_random"] <= B - 1
    assert told["bins_per_batch_distance"] == max(f.bins.mean for f in found)
    assert told["classes_per_batch_distance"] == max(f.classes.mean for f in found)
    assert told["classes_per_batch_distance_if_random"] > 0


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], {}),
        (["--shuffle", "true"], {}),
        (["--shuffle", "shards"], {"shuffle": "shards"}),
        (["--shuffle", "false", "--mix", "sequential"], {"shuffle": False, "mix": "sequential"}),
        (["--mix", "2,1,1,0.5", "--keep", 0.5], {"mix": [2, 1, 1, 0.5], "keep": 0.5}),
        (["--mix", "2,1,1,0.5"], {"mix": [2, 1, 1, 0.5]}),
        (["--keep", 0.5, "--window-bytes", 4096], {"keep": 0.5, "window_bytes": 4096}),
    ],
)
def test_inspect_of_other_orders(shards, arguments, options):
    arguments = ["inspect", shards.root, "--json", "--batch-size", B, *arguments]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    found = [shuffle_quality(dataset(shards, rank=w, **options)) for w in (0, 1)]
    assert told["neighbours_in_batch"] == max(f.neighbours.mean for f in found)
    assert told["bins_per_batch_distance"] == max(f.bins.mean for f in found)
