"""sticky: exact shares of every stratum, and no more moves than they force."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyimportance.order.policies import sticky, stripes

Owners = npt.NDArray[np.int32]


def assign(current: list[int] | None, n: int, workers: int, k: int) -> Owners:
    held = None if current is None else np.array(current, np.int32)
    return sticky.assign(np.arange(n), workers, 0, held, k=k)


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


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 80))
def test_nothing_moves_when_the_shares_are_right_already(workers: int, k: int, n: int) -> None:
    first = assign(None, n, workers, k)
    np.testing.assert_array_equal(first, stripes.assign(np.arange(n), workers, 0, None))
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
        owners = sticky.assign(np.arange(n), workers, 0, before.astype(np.int32), k=k)
        moved.append(float((owners != before).mean()))
    # Unrelated orders: 32, 17, 9 and 4 % at 4 workers.
    np.testing.assert_allclose(moved, [0.32, 0.17, 0.086, 0.043], atol=0.01)


@pytest.mark.parametrize("k", [34, 1000, 2**62, 2**80])
def test_a_stratum_longer_than_the_data_is_the_data(k: int) -> None:
    current = np.random.default_rng(0).integers(-1, 3, 100).tolist()
    np.testing.assert_array_equal(assign(current, 100, 3, k=k), assign(current, 100, 3, k=34))
