"""balanced: every degree of importance for everyone, and nearly as many bytes."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyimportance import _C, ArgumentError
from pyimportance.order.policies import balanced
from pyimportance.order.policies.task import Task
from pyimportance.order.policies.turns import turns

Ints = npt.NDArray[np.int64]


def loads(owners: npt.NDArray[np.int32], sizes: Ints, workers: int) -> npt.NDArray[np.float64]:
    return np.bincount(owners, sizes, minlength=workers)


def by_hand(sizes: Ints, counts: Ints, dealt: npt.NDArray[np.int32]) -> list[int]:
    """The rule as `csrc/order/balance.h` states it, in plain Python."""
    workers, n = len(counts), len(sizes)
    load, owners, places = [0] * workers, [-1] * n, counts.tolist()

    def needs(w: int) -> Fraction:
        """How large the samples of its remaining places must be on average."""
        return (Fraction(int(counts[w] * sizes.sum()), n) - load[w]) / places[w]

    strata = [range(a, min(a + workers, n)) for a in range(0, n, workers)]
    strata.sort(key=lambda s: -(max(sizes[i] for i in s) - min(sizes[i] for i in s)))
    for stratum in strata:
        left = np.bincount(dealt[stratum.start : stratum.stop], minlength=workers).tolist()
        for i in sorted(stratum, key=lambda i: (-sizes[i], i)):
            w = min((w for w in range(workers) if left[w]), key=lambda w: (-needs(w), w))
            owners[i], load[w], left[w], places[w] = w, load[w] + int(sizes[i]), left[w] - 1, places[w] - 1
    return owners


@given(st.integers(1, 6), st.lists(st.integers(0, 50), min_size=1, max_size=70), st.booleans(), st.data())
def test_the_rule(workers: int, sizes: list[int], unequal: bool, data: st.DataObject) -> None:
    n = len(sizes)
    counts = None
    if unequal:
        chosen = data.draw(st.lists(st.integers(0, workers - 1), min_size=n, max_size=n))
        counts = np.bincount(chosen, minlength=workers).astype(np.int64)
    task = Task(np.arange(n), workers, sizes=np.array(sizes, np.int64), counts=counts)
    dealt = turns(task)
    total = np.bincount(dealt, minlength=workers).astype(np.int64)
    owners = balanced.assign(task)
    assert owners.tolist() == by_hand(np.array(sizes), total, dealt)
    assert np.bincount(owners, minlength=workers).tolist() == total.tolist()


@pytest.mark.parametrize("workers", [2, 16])
def test_bytes_are_nearly_even_even_with_heavy_tails(workers: int) -> None:
    rng = np.random.default_rng(workers)
    sizes = rng.lognormal(10, 1, 16_000).astype(np.int64)
    task = Task(np.arange(16_000), workers, sizes=sizes)
    even, striped = (loads(o, sizes, workers) for o in (balanced.assign(task), turns(task)))
    assert np.ptp(even) < 0.01 * np.ptp(striped)
    assert np.ptp(even) < 0.001 * even.mean()
    strata = balanced.assign(task).reshape(-1, workers)
    assert (np.sort(strata) == np.arange(workers)).all()


def test_with_counts_bytes_per_sample_are_alike() -> None:
    rng = np.random.default_rng(0)
    sizes, counts = rng.integers(1, 10_000, 6000), np.array([1000, 2000, 3000])
    owners = balanced.assign(Task(np.arange(6000), 3, sizes=sizes, counts=counts))
    mean = loads(owners, sizes, 3) / counts
    np.testing.assert_allclose(mean, sizes.mean(), rtol=1e-3)


def test_sizes_whose_products_need_more_than_64_bits() -> None:
    sizes = np.array([2**61, 1, 2**61 - 1, 2], np.int64)
    assert balanced.assign(Task(np.arange(4), 2, sizes=sizes)).tolist() == [0, 1, 1, 0]


def test_native_refuses_what_does_not_fit() -> None:
    sizes = np.ones(4, np.int64)
    with pytest.raises(ArgumentError, match="balance: edges and shares do not fit the sizes"):
        _C.balance(sizes, np.array([0, 3]), np.array([[2, 1]]))
