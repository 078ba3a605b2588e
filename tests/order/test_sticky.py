"""sticky: exact shares of every stratum, and no more moves than they force."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from pyimportance.order.policies import sticky, stripes
from pyimportance.order.policies.task import Task
from pyimportance.order.policies.turns import turns

Owners = npt.NDArray[np.int32]


def assign(current: list[int] | None, n: int, workers: int, k: int) -> Owners:
    held = None if current is None else np.array(current, np.int32)
    return sticky.assign(Task(np.arange(n), workers, current=held), k=k)


@given(st.integers(1, 6), st.integers(1, 5), st.data())
def test_shares_of_every_stratum_are_exact(workers: int, k: int, data: st.DataObject) -> None:
    current = data.draw(st.lists(st.integers(-1, workers - 1), max_size=90))
    owners = assign(current, len(current), workers, k)
    length = k * workers
    for start in range(0, len(current), length):
        counts = np.bincount(owners[start : start + length], minlength=workers)
        if start + length <= len(current):
            assert (counts == k).all()
        else:
            assert np.ptp(counts) <= 1


def fewest_moves(current: list[int], workers: int) -> int:
    """Brute force over one stratum: the fewest held samples that move under counts equal to within one."""
    n = len(current)
    deals = set(permutations([rank % workers for rank in range(n)]))
    relabelled = {tuple((w + shift) % workers for w in deal) for deal in deals for shift in range(workers)}
    return min(sum(c not in (-1, w) for c, w in zip(current, deal, strict=True)) for deal in relabelled)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_moves_are_the_fewest(workers: int) -> None:
    rng = np.random.default_rng(workers)
    for n in (1, 2, 3, 4, 5, 6, 7):
        for _ in range(6):
            current = rng.integers(-1, workers, n).tolist()
            owners = assign(current, n, workers, k=n)  # k * workers >= n: a single stratum
            moved = sum(c not in (-1, w) for c, w in zip(current, owners.tolist(), strict=True))
            assert moved == fewest_moves(current, workers), current


def fewest_bytes(held: Owners, sizes: npt.NDArray[np.int64], shares: list[int]) -> int:
    """By an exact solver: a column is a place of a worker, a sample that moves there costs its bytes."""
    place = np.repeat(np.arange(len(shares)), shares)
    cost = np.where((held[:, None] >= 0) & (held[:, None] != place), sizes[:, None], 0)
    return int(cost[linear_sum_assignment(cost)].sum())


@given(st.integers(1, 5), st.integers(1, 4), st.booleans(), st.data())
def test_bytes_moved_are_the_fewest(workers: int, k: int, unequal: bool, data: st.DataObject) -> None:
    held = np.array(data.draw(st.lists(st.integers(-1, workers - 1), min_size=1, max_size=60)), np.int32)
    n = held.size
    some = st.one_of(st.integers(0, 3), st.integers(0, 2**40))
    sizes = np.array(data.draw(st.lists(some, min_size=n, max_size=n)), np.int64)
    counts = None
    if unequal:
        counts = np.bincount(data.draw(st.lists(st.integers(0, workers - 1), min_size=n, max_size=n)))
        counts = np.pad(counts, (0, workers - counts.size)).astype(np.int64)
    task = Task(np.arange(n), workers, current=held, sizes=sizes, counts=counts)
    owners = sticky.assign(task, k=k)
    moved = int(sizes[(held >= 0) & (owners != held)].sum())

    least, length = 0, k * workers
    for start in range(0, n, length):
        part = slice(start, start + length)
        size = min(length, n - start)
        base, larger = divmod(size, workers)
        if counts is None:  # any workers may have the larger shares of the last stratum
            shares = [
                [base + (w in lucky) for w in range(workers)]
                for lucky in combinations(range(workers), larger)
            ]
        else:
            shares = [np.bincount(turns(task)[part], minlength=workers).tolist()]
        least += min(fewest_bytes(held[part], sizes[part], share) for share in shares)
    assert moved == least


def test_the_smallest_move_and_equal_ones_are_spread() -> None:
    held, sizes = np.zeros(8, np.int32), np.array([9, 1, 9, 1, 9, 1, 9, 1])
    owners = sticky.assign(Task(np.arange(8), 2, current=held, sizes=sizes), k=4)
    assert owners.tolist() == [0, 1] * 4
    owners = sticky.assign(Task(np.arange(8), 2, current=held, sizes=np.array([5] * 7 + [9])), k=4)
    assert np.bincount(owners[:7]).tolist() == [3, 4]
    assert owners[7] == 0
    assert set(owners[:4]) == set(owners[4:]) == {0, 1}


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 80))
def test_nothing_moves_when_the_shares_are_right_already(workers: int, k: int, n: int) -> None:
    first = assign(None, n, workers, k)
    np.testing.assert_array_equal(first, stripes.assign(Task(np.arange(n), workers)))
    np.testing.assert_array_equal(assign(first.tolist(), n, workers, k), first)


def test_nobody_holding_anything_deals_like_stripes() -> None:
    np.testing.assert_array_equal(assign([-1] * 23, 23, 4, 3), np.arange(23) % 4)


def test_what_is_given_up_and_taken_is_spread_over_the_stratum() -> None:
    owners = assign([0] * 16, 16, 2, k=8)
    # Worker 0 keeps every second one: neither keeps the important half.
    assert owners.tolist() == [1, 0] * 8


def test_larger_strata_move_less() -> None:
    rng = np.random.default_rng(0)
    n, workers = 40_000, 4
    moved = []
    for k in (1, 4, 16, 64):
        before = np.arange(n, dtype=np.int32)[rng.permutation(n)] % workers
        owners = sticky.assign(Task(np.arange(n), workers, current=before.astype(np.int32)), k=k)
        moved.append(float((owners != before).mean()))
    # Unrelated orders: 32, 17, 9 and 4 % at 4 workers.
    np.testing.assert_allclose(moved, [0.32, 0.17, 0.086, 0.043], atol=0.01)


@pytest.mark.parametrize("k", [34, 1000, 2**62, 2**80])
def test_a_stratum_longer_than_the_data_is_the_data(k: int) -> None:
    current = np.random.default_rng(0).integers(-1, 3, 100).tolist()
    np.testing.assert_array_equal(assign(current, 100, 3, k=k), assign(current, 100, 3, k=34))
