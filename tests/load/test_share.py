"""A share is worked out piece by piece: the same samples whatever the pieces, and only those asked for."""

import gc
import tracemalloc

import numpy as np
import pytest
import torch

from pyimportance import ImportanceDataset
from pyimportance.load import share
from pyimportance.load.deal import Deal
from pyimportance.load.share import joined
from tests.load.samples import ids

COLUMNS = ("worker", "position", "pad")


def equal(one, other):
    return all((getattr(one, c) == getattr(other, c)).all() for c in COLUMNS) and len(one) == len(other)


@pytest.mark.parametrize("seed", range(24))
def test_the_same_samples_in_pieces_of_any_size(seed, monkeypatch):
    r = np.random.default_rng(seed)
    workers, world, B = (int(n) for n in r.integers(1, 7, size=3))
    sizes = r.multinomial(int(r.integers(0, 90)), r.dirichlet(np.ones(workers)))
    equalize = ("pad", "drop", "batch")[seed % 3] if sizes.sum() > 50 and sizes.min() > world else "pad"
    whole = Deal(sizes, world, B, equalize, elastic=True)
    stop = whole.after(min(int(r.integers(0, whole.batches + 1)) * B, whole.length)) if world == 1 else None
    deal = Deal(sizes, world, B, equalize, True, np.zeros(0, np.int64) if stop is None else stop)
    for rank in range(world):
        size, right = int(deal.batch_sizes[rank]), deal.share(rank).whole()
        assert len(right) == deal.lengths[rank]
        for piece in (1, 20):
            monkeypatch.setattr(share, "PIECE", piece)
            assert equal(deal.share(rank).whole(), right)
            for processes in (1, 3):
                parts = [deal.share(rank).process(p, processes, size) for p in range(processes)]
                for part in parts:
                    pieces = list(part.pieces())
                    assert all(len(some) for some in pieces)
                    assert not any(len(some) % size for some in pieces[:-1])  # no batch is of two
                    assert len(part) == sum(map(len, pieces))
                    assert part.is_empty == (not pieces)
                    assert {w for some in pieces for w in some.places} <= set(part.workers)
                    for skip in (1, len(part) + 3):
                        assert equal(part.after(skip).whole(), joined(pieces).where(slice(skip, None)))
                        assert len(part.after(skip)) == max(0, len(part) - skip)
            monkeypatch.undo()


@pytest.mark.parametrize(("workers", "world"), [(1, 1), (1, 4), (8, 1), (8, 8), (8, 2), (3, 4)], ids=str)
def test_of_billions_of_samples_only_a_piece_is_worked_out(workers, world):
    sizes = np.full(workers, 10**9) - np.arange(workers)
    tracemalloc.start()
    deal = Deal(sizes, world, 256, elastic=True)
    part = deal.share(world - 1).process(1, 2, 256).after(7)
    if deal.world_size in (1, workers) or workers == 1:  # else it takes a look at all of them
        assert len(part.workers) == (workers if world == 1 else 1)
    piece = next(part.pieces())
    assert len(piece) == share.PIECE // 2 - 7
    assert not piece.pad.any()
    assert tracemalloc.get_traced_memory()[1] < 64e6
    tracemalloc.stop()


def test_pads_of_a_rank_that_has_little(monkeypatch):
    monkeypatch.setattr(share, "PIECE", 4)
    few, many = (Deal(np.array([3, 20]), 2, 2).share(rank).whole() for rank in range(2))
    assert few.position.tolist() == [0, 1, 2, *(n % 3 for n in range(17))]
    assert few.pad.tolist() == [False] * 3 + [True] * 17
    assert many.position.tolist() == list(range(20))


@pytest.mark.parametrize("options", [{}, {"batched": True}, {"mix": "sequential"}], ids=str)
def test_a_loader_reads_the_same_in_small_pieces(shard_set, monkeypatch, options):
    shards, _ = shard_set((31, 2, 33, 30))

    def read():
        dataset = ImportanceDataset(shards, batch_size=6, window_bytes=2**14, **options)
        loader = torch.utils.data.DataLoader(
            dataset, batch_size=None if "batched" in options else 6, num_workers=2, collate_fn=list_of
        )
        return (
            ids(dataset) if "batched" not in options else None,
            list(loader),
            dataset.planned_ids().tolist(),
        )

    right = read()
    monkeypatch.setattr(share, "PIECE", 10)
    assert read() == right


def list_of(batch):
    return batch["__index__"].tolist() if isinstance(batch, dict) else [s["__index__"] for s in batch]


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("counts", [(600,), (300, 300)])
def test_pieces_that_were_read_are_let_go(shard_set, monkeypatch, batched, counts):
    shards, _ = shard_set(counts)
    monkeypatch.setattr(share, "PIECE", 2)
    dataset = ImportanceDataset(shards, batch_size=2, batched=batched, window_bytes=2**13)
    most = 0
    for number, _ in enumerate(dataset):
        if number in (150, 280):
            gc.collect()
            most = max(most, sum(type(o) is share.Piece for o in gc.get_objects()))
    assert len(dataset) == 600 // (2 if batched else 1)
    assert 0 < most < 150  # of 300
