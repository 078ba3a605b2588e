"""Batches have every bin in proportion, whoever reads them; what is dealt by the sample is a random draw."""

import hashlib
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch.utils.data

from pyimportance import ImportanceDataset
from pyimportance.load.deal import Deal
from pyimportance.load.plan import EpochPlan, Recipe, Stock
from tests.load.samples import ids

DIGEST = hashlib.sha256(b"generation").hexdigest()
EVEN = {f"{bins} bins": (1920 // bins,) * bins for bins in (2, 4, 8)}
SIZES = EVEN | {"unequal bins": (1000, 500, 300, 120), "rates": (1920, 960, 480, 0, 240)}
LOADER_BATCH = 64  # of a DataLoader where the data set was told none


@cache
def sequence(sizes, epoch, worker):
    """The bins of a worker's samples, in the order of the epoch; rates of 2 take samples twice."""
    n, bin = sum(sizes), np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    stock = Stock(np.zeros(n, np.int32), 1024 * np.arange(n), np.full(n, 1024), bin)
    if sizes == SIZES["rates"]:
        stock = stock.some(np.arange(n) // 2 * 2)
    plan = EpochPlan(stock, Recipe(window_bytes=2**19), digest=DIGEST, epoch=epoch, worker=worker)
    return stock.bin[np.concatenate([plan.window(k) for k in range(plan.windows)])]


def batches(deal, rank, processes, every, size):
    """The bins of the whole batches that a rank's DataLoader makes of what it is given: [n, size].

    every: the bins of all workers' sequences."""
    parts = []
    for p in range(max(1, processes)):
        piece = deal.share(rank).process(p, processes, deal.batch_size).whole()
        bins = every[piece.worker, piece.position][~piece.pad]
        parts.append(bins[: len(bins) // size * size].reshape(-1, size))
    return np.concatenate(parts)


def counts(batches, bins):
    return np.stack([(batches == b).sum(axis=1) for b in range(bins)], axis=1)


@pytest.mark.parametrize("B", [None, 1, 3, 4, 12, 64])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=list(SIZES))
def test_bins_of_batches_and_of_ranks(sizes, B):
    share, bins = np.array(sizes) / sum(sizes), len(sizes)
    for (workers, ranks), processes in product([(1, 1), (1, 2), (1, 3), (2, 2), (2, 4), (2, 1)], (0, 2)):
        several = max(1, workers // ranks)  # sequences that a batch is of
        by_sample, off = B is None and (processes > 1 or ranks > workers), []
        deal, size = Deal(np.full(workers, sum(sizes)), ranks, B or 1), B or LOADER_BATCH
        for epoch, rank in product(range(3), range(ranks)):
            every = np.stack([sequence(sizes, epoch, w) for w in range(workers)])
            found = counts(batches(deal, rank, processes, every, size), bins)
            n = len(found)
            # What a random draw of as many samples would give a rank of each bin.
            spread = np.sqrt(n * size * share * (1 - share))
            assert (np.abs(found.sum(axis=0) - n * size * share) <= 4.5 * spread).all()
            off += (np.abs(found / size - share).sum(axis=1) / 2).tolist()
            if by_sample:
                continue
            if sizes in EVEN.values() and not size % (bins * several):
                assert (found * bins == size).all()
            else:
                assert (np.abs(found - size * share) < 2 * several * (1 + bins * share)).all()
        if by_sample:  # beside the normal approximation of a random draw
            assert np.mean(off) < 1.25 * np.sqrt(share * (1 - share) / LOADER_BATCH * 2 / np.pi).sum() / 2


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("B", [None, 16])
@pytest.mark.filterwarnings("ignore:batch_size. not given")
def test_batches_of_a_dataloader(shard_set, B, world_size, processes):
    shards, _ = shard_set((640,), 2)
    index = shards.index(0)
    bin_of = dict(zip(index.ids.tolist(), index.bin.tolist(), strict=True))
    for rank in range(world_size):
        dataset = ImportanceDataset(shards, rank=rank, world_size=world_size, batch_size=B)
        loader = torch.utils.data.DataLoader(dataset, 16, num_workers=processes, collate_fn=ids)
        ones = [sum(bin_of[i] for i in batch) for batch in loader if len(batch) == 16]
        assert len(ones) == 640 // world_size // 16
        if B is None and max(1, processes) * world_size > 1:
            assert min(ones) > 0
            assert max(ones) < 16
        else:
            assert set(ones) == {8}
