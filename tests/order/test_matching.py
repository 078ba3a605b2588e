"""Groups take the labels under which the most stays where it is."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyimportance.order.matching import match


@given(st.integers(1, 5), st.integers(1, 30), st.booleans(), st.data())
def test_no_relabelling_keeps_more(workers: int, n: int, sized: bool, data: st.DataObject) -> None:
    def draw(low: int, high: int, dtype: type[np.generic]) -> np.ndarray:
        return np.array(data.draw(st.lists(st.integers(low, high), min_size=n, max_size=n)), dtype)

    owners, current = draw(0, workers - 1, np.int32), draw(-1, workers, np.int32)
    sizes = draw(0, 2**40, np.int64) if sized else None
    weight = np.ones(n, np.int64) if sizes is None else sizes

    def kept(labels: np.ndarray) -> int:
        return int(weight[labels == current].sum())

    matched = match(owners, current, workers, sizes)
    assert kept(matched) == max(kept(np.array(p, np.int32)[owners]) for p in permutations(range(workers)))
    pairs = set(zip(owners.tolist(), matched.tolist(), strict=True))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})  # a relabelling, no more


def test_labels_stay_where_nothing_is_gained() -> None:
    owners = np.array([0, 1, 2, 0, 1, 2], np.int32)
    nobody = np.full(6, -1, np.int32)
    np.testing.assert_array_equal(match(owners, nobody, 3), owners)
    tie = np.array([0, 0, 1, 1], np.int32)
    np.testing.assert_array_equal(match(tie, np.array([0, 1, 0, 1], np.int32), 2), tie)


@pytest.mark.parametrize("sizes", [None, np.array([1, 1, 9, 1])])
def test_bytes_count_where_they_are_known(sizes: np.ndarray | None) -> None:
    owners = np.array([0, 0, 0, 1], np.int32)
    current = np.array([0, 0, 1, 0], np.int32)
    expected = [0, 0, 0, 1] if sizes is None else [1, 1, 1, 0]
    assert match(owners, current, 2, sizes).tolist() == expected
