"""The proportional merge: its prefixes, its proportions, its ties."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimportance.load.merge import merge, taken

LISTS = st.lists(st.tuples(st.integers(0, 70), st.floats(0, 0.999), st.floats(0, 1)), min_size=1, max_size=9)


def zeros(sizes):
    return np.zeros(len(sizes), np.int64)


@settings(max_examples=50)
@given(lists=LISTS, share=st.floats(-0.1, 1.1))
def test_taken_is_a_prefix_of_the_merge(lists, share):
    sizes = np.array([n for n, _, _ in lists])
    phases = np.array([p for _, p, _ in lists])
    start = np.array([int(n * s) for n, _, s in lists])
    which, element = merge(sizes, phases, start, sizes)
    total = int(share * len(which))
    ends = taken(sizes, phases, start, total)
    assert (ends - start).tolist() == np.bincount(which[: max(total, 0)], minlength=len(sizes)).tolist()
    for i in range(len(sizes)):  # every list in its own order, each element once
        assert element[which == i].tolist() == list(range(start[i], sizes[i]))


@given(lists=LISTS, cuts=st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_parts_of_the_merge_join_to_the_whole(lists, cuts):
    sizes = np.array([n for n, _, _ in lists])
    phases = np.array([p for _, p, _ in lists])
    whole = merge(sizes, phases, zeros(sizes), sizes)
    edges = [
        zeros(sizes),
        *(taken(sizes, phases, zeros(sizes), int(c * sizes.sum())) for c in sorted(cuts)),
        sizes,
    ]
    parts = [merge(sizes, phases, a, b) for a, b in itertools.pairwise(edges)]
    for column in range(2):
        assert np.concatenate([part[column] for part in parts]).tolist() == whole[column].tolist()


@given(lists=LISTS, B=st.integers(1, 40))
def test_any_run_is_in_proportion(lists, B):
    sizes = np.array([n for n, _, _ in lists])
    phases = np.array([p for _, p, _ in lists])
    which, _ = merge(sizes, phases, zeros(sizes), sizes)
    N, L = max(sizes.sum(), 1), len(sizes)
    for begin in range(0, len(which) - B + 1):
        counts = np.bincount(which[begin : begin + B], minlength=L)
        assert (np.abs(counts - B * sizes / N) < 1 + L * sizes / N).all()


@pytest.mark.parametrize("L", [1, 2, 64, 300])
def test_equal_lists_tie_and_the_first_goes_first(L):
    sizes = np.full(L, 5)
    which, element = merge(sizes, np.full(L, 0.5), zeros(sizes), sizes)
    assert which.tolist() == list(range(L)) * 5
    assert element.tolist() == np.repeat(np.arange(5), L).tolist()
    for total in (0, 1, L, L + 1, 5 * L - 1, 5 * L):
        ends = taken(sizes, np.full(L, 0.5), zeros(sizes), total)
        assert ends.tolist() == np.bincount(which[:total], minlength=L).tolist()


def test_a_billion_elements_cost_nothing():
    sizes = np.array([10**9, 3, 10**9 - 7, 0])
    ends = taken(sizes, np.full(4, 0.5), zeros(sizes), 10**9)
    assert ends.sum() == 10**9
    assert abs(int(ends[0]) - 5 * 10**8) < 10
    more = taken(sizes, np.full(4, 0.5), ends, 1)
    assert more.sum() == 10**9 + 1
