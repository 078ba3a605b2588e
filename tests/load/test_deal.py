"""Ranks, rounds and padding: equal lengths, every sample once, local where it can be."""

import numpy as np
import pytest

from pyimportance.errors import ArgumentError
from pyimportance.load.deal import Deal


def shares(deal):
    return [deal.share(rank).whole() for rank in range(deal.world_size)]


def once(deal, dealt, *, since=None):
    """Every sample from ``since`` on exactly once, but for pads (and what "drop" dropped)."""
    since = np.zeros(len(deal.sizes), np.int64) if since is None else since
    seen = sorted(
        (int(w), int(j)) for s in dealt for w, j, p in zip(s.worker, s.position, s.pad, strict=True) if not p
    )
    want = [(w, j) for w, n in enumerate(deal.sizes) for j in range(since[w], n)]
    if deal.equalize == "drop":
        assert len(set(seen)) == len(seen)
        assert set(seen) <= set(want)
        assert len(seen) == deal.length * deal.world_size
    else:
        assert seen == want


def random_shape(seed):
    r = np.random.default_rng(seed)
    workers = int(r.integers(1, 9))
    N = int(r.integers(0, 4 * workers)) if r.random() < 0.3 else int(r.integers(0, 900))
    even = np.full(workers, N // workers) + (np.arange(workers) < N % workers)
    sizes = even if r.random() < 0.6 else r.multinomial(N, r.dirichlet(np.ones(workers)))
    return sizes.astype(np.int64), int(r.integers(1, 13)), int(r.integers(1, 33)), r


@pytest.mark.parametrize("seed", range(200))
def test_random_shapes(seed):
    sizes, world, B, _ = random_shape(seed)
    deal = Deal(sizes, world, B, elastic=True)
    dealt = shares(deal)
    assert {len(s) for s in dealt} == {deal.length}
    once(deal, dealt)
    if sizes.sum():
        # Padding never reaches a whole further batch per rank unless a group had less to give.
        even = deal.groups == 1
        assert not even or sum(s.pad.sum() for s in dealt) < world
    for processes in (1, 2, 3, 4):
        for rank, share in enumerate(dealt):
            parts = [deal.share(rank).process(p, processes, B).whole() for p in range(processes)]
            batches = [[p.position[i : i + B].tolist() for i in range(0, len(p), B)] for p in parts]
            taken_in_turn = [batches[k % processes][k // processes] for k in range(deal.batches)]
            assert taken_in_turn == [share.position[i : i + B].tolist() for i in range(0, len(share), B)]


@pytest.mark.parametrize("seed", range(60))
def test_batches_in_proportion(seed):
    sizes, world, B, r = random_shape(seed)
    deal = Deal(sizes, world, B, equalize="batch", elastic=True)
    dealt, own = shares(deal), deal.batch_sizes
    once(deal, dealt)
    assert [len(share) for share in dealt] == deal.lengths.tolist()
    assert (-(-deal.lengths // own) == deal.batches).all()  # equally many batches
    assert own.min() >= 1
    assert own.sum() <= world * B
    # No fewer batches with the same samples per round: it takes larger ones.
    ranks = world // deal.groups
    held = sizes.reshape(deal.groups, -1).sum(axis=1)
    if deal.batches > 1:
        shorter = np.maximum(-(-held // ((deal.batches - 1) * ranks)), 1)
        assert shorter.sum() * ranks > world * B
    for share in dealt:  # what is repeated is what rounding adds to batches
        assert share.pad.sum() <= deal.batches
    check_weights(deal, dealt, r)
    # A stop after some batches: every rank tells the same, and any shape goes on from there.
    stop = int(r.integers(0, deal.batches + 1))
    told = [deal.after(min(stop * int(own[rank]), int(deal.lengths[rank])), rank) for rank in range(world)]
    assert len({tuple(t.tolist()) for t in told}) == 1
    seen = sum(int((~s.pad[: stop * own[rank]]).sum()) for rank, s in enumerate(dealt))
    assert told[0].sum() == seen
    rest = Deal(sizes, int(r.integers(1, 9)), B, equalize="batch", elastic=True, consumed=told[0])
    left = shares(rest)
    once(rest, left, since=told[0])
    check_weights(rest, left, r)


def check_weights(deal, dealt, r):
    """In every round the mean over ranks of their weighted means is that over all samples of the round."""
    losses = r.random(int(deal.sizes.max(initial=0)) * len(deal.sizes) + 1)
    for batch in range(deal.batches):
        means, seen = [], []
        for rank, share in enumerate(dealt):
            size = deal.batch_sizes[rank]
            part = share.where(np.arange(batch * size, min((batch + 1) * size, len(share))))
            loss = losses[part.worker * deal.sizes.max() + part.position] * ~part.pad
            means.append((loss * deal.weight(rank, batch)).mean())
            seen += loss[~part.pad].tolist()
        assert np.mean(means) == pytest.approx(np.mean(seen))


def test_unequal_machines_have_as_many_batches():
    deal = Deal(np.array([1000, 2000, 3000]), 3, 20, equalize="batch")
    assert deal.batch_sizes.tolist() == [10, 20, 30]
    assert (deal.batches, deal.lengths.tolist()) == (100, [1000, 2000, 3000])
    assert [deal.weight(rank, batch) for batch in (0, 99) for rank in range(3)] == [0.5, 1, 1.5] * 2
    with pytest.raises(ArgumentError, match=r"15 samples is within a batch of 10, .* have batches of other"):
        deal.after(15, 0)
    assert deal.after(20, 0).tolist() == deal.after(60, 2).tolist() == [20, 40, 60]
    even = Deal(np.array([1000, 2000, 3000]), 3, 20)
    assert (even.batches, even.weight(0, 0)) == (150, 1.0)


@pytest.mark.parametrize("seed", range(200))
def test_any_stop_can_be_resumed_by_any_shape(seed):
    sizes, world, B, r = random_shape(seed)
    start = np.zeros(len(sizes), np.int64)
    seen = []
    for step in range(3):
        deal = Deal(sizes, world, B, elastic=True, consumed=start)
        batches = int(r.integers(0, deal.batches + 1)) if step < 2 else deal.batches
        yielded = min(batches * B, deal.length)
        for s in shares(deal):
            real = ~s.pad[:yielded]
            seen += zip(s.worker[:yielded][real].tolist(), s.position[:yielded][real].tolist(), strict=True)
        start = deal.after(yielded)
        world, B = int(r.integers(1, 13)), int(r.integers(1, 33))
    assert sorted(seen) == [(w, j) for w, n in enumerate(sizes) for j in range(n)]


@pytest.mark.parametrize("seed", range(60))
def test_the_same_shape_resumes_with_the_same_batches(seed):
    sizes, world, B, r = random_shape(seed)
    whole = Deal(sizes, world, B, elastic=True)
    batches = int(r.integers(0, whole.length // B + 1))
    rest = Deal(sizes, world, B, elastic=True, consumed=whole.after(batches * B))
    assert rest.length == whole.length - batches * B
    for a, b in zip(shares(whole), shares(rest), strict=True):
        real = ~a.pad[batches * B :]
        assert a.worker[batches * B :][real].tolist() == b.worker[~b.pad].tolist()
        assert a.position[batches * B :][real].tolist() == b.position[~b.pad].tolist()


@pytest.mark.parametrize("seed", range(60))
def test_drop_cuts_to_the_shortest(seed):
    sizes, world, B, _ = random_shape(seed)
    try:
        deal = Deal(sizes, world, B, equalize="drop", elastic=True)
    except ArgumentError as error:
        assert "has no sample" in str(error)  # noqa: PT017
        return
    dealt = shares(deal)
    assert {len(s) for s in dealt} == {deal.length}
    assert not any(s.pad.any() for s in dealt)
    once(deal, dealt)


def test_as_many_ranks_as_workers():
    deal = Deal(np.array([5, 4, 5]), 3, 2)
    for rank, share in enumerate(shares(deal)):
        assert deal.home(rank) == range(rank, rank + 1)
        assert set(share.worker) == {rank}
        assert share.position.tolist() == ([0, 1, 2, 3, 0] if rank == 1 else [0, 1, 2, 3, 4])
        assert share.pad.tolist() == [False] * 4 + [rank == 1]


def test_a_rank_interleaves_its_workers():
    deal = Deal(np.array([4, 2, 3, 3]), 2, 3)
    first, second = shares(deal)
    assert (deal.home(0), deal.home(1)) == (range(2), range(2, 4))
    assert first.worker.tolist() == [0, 1, 0, 0, 1, 0]
    assert first.position.tolist() == [0, 0, 1, 2, 1, 3]
    assert second.worker.tolist() == [3, 2, 3, 2, 2, 3]  # one of each in every round, in any order
    assert second.position.tolist() == [0, 0, 1, 1, 2, 2]


def test_ranks_share_a_worker_by_batch_and_the_rest_evenly():
    deal = Deal(np.array([14, 14]), 4, 3)
    one, two, three, four = shares(deal)
    assert one.position.tolist() == [0, 1, 2, 6, 7, 8, 12]
    assert two.position.tolist() == [3, 4, 5, 9, 10, 11, 13]
    assert three.position.tolist() == one.position.tolist()
    assert {deal.home(rank).start for rank in (2, 3)} == {1}
    assert four.worker.tolist() == [1] * 7


@pytest.mark.parametrize(("workers", "world"), [(4, 3), (3, 4), (4, 6), (5, 2), (7, 12), (9, 6)])
def test_elastic_keeps_what_it_can_at_home(workers, world):
    B = 24
    deal = Deal(np.full(workers, 1000), world, B, elastic=True)
    local = sum(int(np.isin(s.worker, list(deal.home(r))).sum()) for r, s in enumerate(shares(deal)))
    # The most that any deal with equal ranks could keep, worker by worker and rank by rank.
    g = deal.groups
    W, R = workers // g, world // g
    if W > R:
        best = sum(min(1, len([w for w in range(W) if w * R // W == r]) * R / W) for r in range(R)) / R
    else:
        best = sum(min(1, len([r for r in range(R) if r * W // R == w]) * W / R) for w in range(W)) / W
    assert local / (1000 * workers) == pytest.approx(best, abs=0.02)


def test_a_rank_without_samples_borrows_its_groups_then_anybodys():
    dealt = shares(Deal(np.array([1, 1]), 8, 4))
    assert [int(s.pad.sum()) for s in dealt] == [0, 1, 1, 1] * 2
    assert [int(s.worker[0]) for s in dealt] == [0] * 4 + [1] * 4
    dealt = shares(Deal(np.array([0, 2]), 2, 4))
    assert dealt[0].worker.tolist() == [1, 1]
    assert dealt[0].pad.all()
    assert not dealt[1].pad.any()


def test_no_samples_at_all():
    deal = Deal(np.zeros(4, np.int64), 2, 3)
    assert (deal.length, deal.batches) == (0, 0)
    assert [len(s) for s in shares(deal)] == [0, 0]
    assert deal.after(0).tolist() == [0] * 4


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"sizes": [5] * 4, "world_size": 3}, "world_size 3 and 4 workers: neither divides the other"),
        ({"sizes": [5, 4], "world_size": 2, "equalize": "error"}, "2 ranks would get 4 to 5 samples"),
        ({"sizes": [1, 1], "world_size": 4, "equalize": "drop"}, "rank 1 of 4 has no sample"),
        (
            {"sizes": [5], "world_size": 1, "equalize": "trim"},
            "equalize='trim': allowed are pad, drop, error",
        ),
        ({"sizes": [5], "world_size": 1, "batch_size": 0}, "batch_size=0: must be at least 1"),
        ({"sizes": [5], "world_size": 0}, "world_size=0: must be at least 1"),
    ],
)
def test_wrong_use(arguments, text):
    with pytest.raises(ArgumentError, match=text):
        Deal(**{**arguments, "sizes": np.array(arguments["sizes"])})


def test_shared_workers_stop_between_batches():
    deal = Deal(np.array([40]), 2, 4)
    assert deal.after(8).tolist() == [16]
    with pytest.raises(ArgumentError, match="6 samples is within a batch of 4"):
        deal.after(6)
    assert Deal(np.array([40]), 1, 4).after(6).tolist() == [6]
