"""A sample that an epoch has several times: read once, and no oftener twice in a batch than by chance."""

import hashlib
from collections import Counter

import numpy as np
import pytest

from pyimportance import ImportanceDataset, Partition, samplers, write_shards
from pyimportance.io.meter import TIERS
from pyimportance.load.plan import EpochPlan, Recipe, Stock

DIGEST, DISK = hashlib.sha256(b"generation").hexdigest(), TIERS.index("disk")
N, BINS, B = 1200, 3, 32


@pytest.fixture(scope="module")
def shards(tmp_path_factory, write_tar):
    """Of exponential scores, which are positive, as weighted sampling wants them."""
    folder = tmp_path_factory.mktemp("copies")
    write_tar(folder / "source.tar", [(f"s{i:06d}", {"x": bytes(2000)}) for i in range(N)])
    score = np.random.default_rng(0).exponential(size=N).astype(np.float32)
    order, offsets = np.argsort(-score), np.arange(BINS + 1) * (N // BINS)
    start = Partition(1, BINS, order, offsets, values=score[order], measure="loss_mean")
    return write_shards(folder / "source.tar", start, folder / "set", shard_bytes=2**19)


def twice(ids):
    """How many samples of a batch it has already, on average."""
    whole = ids[: len(ids) // B * B].reshape(-1, B)
    return np.mean([B - len(np.unique(batch)) for batch in whole])


@pytest.mark.parametrize(
    ("options", "batches"),  # of a window
    [
        ({"mix": [2, 2, 2]}, 4),
        ({"mix": [2.5, 2.5, 0]}, 4),
        ({"mix": [4, 1, 0.5]}, 6),
        ({"sampler": samplers.WeightedSampling(0.9, smoothing=0.5)}, 8),
    ],
    ids=str,
)
def test_no_more_twice_in_a_batch_than_in_a_random_order(shards, options, batches):
    data = ImportanceDataset(shards, batch_size=B, window_bytes=batches * B * 2560, **options)
    r = np.random.default_rng(0)
    for epoch in range(3):
        data.set_epoch(epoch)
        ids = data.planned_ids()
        random = np.mean([twice(r.permutation(ids)) for _ in range(20)])
        assert random > 0.1
        assert twice(ids) < random


@pytest.mark.parametrize("mix", [[2, 2, 2], [5, 1, 2]], ids=str)
def test_copies_are_read_once(shards, mix):
    window = 150 * 2560
    data = ImportanceDataset(shards, batch_size=B, window_bytes=window, mix=mix)
    read = Counter(sample["__index__"] for sample in data)
    bin_of = dict(zip(shards.index(0).ids.tolist(), shards.index(0).bin.tolist(), strict=True))
    assert read == {i: mix[b] for i, b in bin_of.items()}
    nbytes = shards.index(0).nbytes
    windows = -(-sum(mix) * int(nbytes.sum()) // BINS // window)
    # But for a sample of each bin whose copies may lie on both sides of a window's edge.
    assert nbytes.sum() <= data.counts()[DISK, 0] <= nbytes.sum() + windows * BINS * nbytes.max()


def stock(copies, bins=1):
    """As many of each sample as ``copies`` says, drawn in random order."""
    n = len(copies)
    file = (np.arange(n) * 3 // n).astype(np.int32)
    one = Stock(file, 1024 * np.arange(n), np.full(n, 1024), (np.arange(n) * bins // n).astype(np.int32))
    return one.some(np.random.default_rng(0).permutation(np.repeat(np.arange(n), copies)))


@pytest.mark.parametrize("bins", [1, 4])
def test_copies_are_spread_over_their_window(bins):
    copies = np.repeat([1, 2, 3, 7, 0], 40)
    held = stock(np.random.default_rng(1).permutation(copies), bins)
    p = EpochPlan(held, Recipe(), digest=DIGEST, epoch=0, worker=0)
    rows, n, wherever = p.window(0), len(held), {}
    assert (p.windows, np.sort(rows).tolist()) == (1, list(range(n)))
    offset = held.offset[rows]
    for sample, k in zip(*np.unique(offset, return_counts=True), strict=True):
        places = np.flatnonzero(offset == sample)
        assert (np.abs(np.diff(places) - n / k) < n / (4 * k) + 0.08 * n).all()
        assert (np.diff(places) > n * 3 / (4 * k) - 0.08 * n).all()
        wherever.setdefault(k, []).extend(places / n)
    quantiles = [0.1, 0.25, 0.5, 0.75, 0.9]
    for k, some in wherever.items():  # nowhere are there more of those of two copies, say, than elsewhere
        assert np.abs(np.quantile(some, quantiles) - quantiles).max() < 0.35 / np.sqrt(k)


def test_no_batch_is_like_another(shards):
    ids = ImportanceDataset(shards, batch_size=B, mix=[2, 2, 2]).planned_ids()

    def most_in_common(ids):
        batches = ids[: len(ids) // B * B].reshape(-1, B)
        return max(len(np.intersect1d(a, b)) for i, a in enumerate(batches) for b in batches[:i])

    assert most_in_common(ids) <= 2 * most_in_common(np.random.default_rng(0).permutation(ids))


@pytest.mark.parametrize("window", [3000, 64 * 1024, 64 * 4096, 2**40])
@pytest.mark.parametrize("bins", [1, 5])
def test_no_block_ends_between_copies(window, bins):
    held = stock(np.random.default_rng(2).integers(0, 6, 300), bins)
    blocks, offset = held.blocks(window // 64), held.offset[held.storage_order]
    assert (blocks.start[1:] == blocks.end[:-1]).all()
    assert (blocks.start[0], blocks.end[-1]) == (0, len(held))
    assert (blocks.start < blocks.end).all()
    assert (offset[blocks.start[1:]] != offset[blocks.start[1:] - 1]).all()
    assert np.array_equal(held.bin[held.rows(blocks.start)], held.bin[held.rows(blocks.end - 1)])
    plain = stock(np.ones(300, int), bins)
    assert len(blocks.start) > 0.5 * len(plain.blocks(window // 64).start)
