"""The proportional merge: its prefixes, its proportions, its ties, and that nothing falls in step with it."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimportance.load.merge import merge, taken

LISTS = st.lists(
    st.tuples(st.integers(0, 70), st.integers(0, 2**64 - 1), st.floats(0, 1)), min_size=1, max_size=9
)


def columns(lists):
    """sizes, seeds, and the place in each list that the last number says."""
    sizes = np.array([n for n, _, _ in lists])
    seeds = np.array([seed for _, seed, _ in lists], np.uint64)
    return sizes, seeds, np.array([int(n * share) for n, _, share in lists])


def zeros(sizes):
    return np.zeros(len(sizes), np.int64)


def seeds_of(L, seed=0):
    return np.random.default_rng(seed).integers(0, 2**64, L, dtype=np.uint64)


def splitmix64(seed, j):
    """Word number j, as in the paper's figure 17, with Python's integers."""
    z = (seed + (j + 1) * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def test_the_stream_is_splitmix64():
    known = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]  # of seed 0, as published by others
    assert [splitmix64(0, j) for j in range(3)] == known


@settings(max_examples=50)
@given(lists=LISTS)
def test_the_merge_is_sorted_by_key(lists):
    sizes, seeds, start = columns(lists)
    keys = [
        ((j + (splitmix64(int(seeds[i]), j) >> 11) * 2.0**-53) / int(sizes[i]), i, j)
        for i in range(len(sizes))
        for j in range(start[i], sizes[i])
    ]
    which, element = merge(sizes, seeds, start, sizes)
    assert list(zip(which.tolist(), element.tolist(), strict=True)) == [(i, j) for _, i, j in sorted(keys)]


@settings(max_examples=50)
@given(lists=LISTS, share=st.floats(-0.1, 1.1))
def test_taken_is_a_prefix_of_the_merge(lists, share):
    sizes, seeds, start = columns(lists)
    which, element = merge(sizes, seeds, start, sizes)
    total = int(share * len(which))
    ends = taken(sizes, seeds, start, total)
    assert (ends - start).tolist() == np.bincount(which[: max(total, 0)], minlength=len(sizes)).tolist()
    for i in range(len(sizes)):  # every list in its own order, each element once
        assert element[which == i].tolist() == list(range(start[i], sizes[i]))


@pytest.mark.parametrize("L", [2, 5, 100])
@pytest.mark.parametrize("size", [1000, 10**6, 10**9])
def test_taken_of_long_lists(L, size):
    """Where the search for a key has to be exact: the ends are those of the elements merged around them."""
    sizes, seeds = size - np.arange(L) % 7, seeds_of(L)
    for total in (size // 3, L * size // 2, L * size * 9 // 10):
        ends = taken(sizes, seeds, zeros(sizes), total)
        assert ends.sum() == total
        before = np.maximum(ends - 3, 0)
        which, _ = merge(sizes, seeds, before, np.minimum(ends + 3, sizes))
        first = np.bincount(which[: int((ends - before).sum())], minlength=L)
        assert first.tolist() == (ends - before).tolist()


@given(lists=LISTS, cuts=st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_parts_of_the_merge_join_to_the_whole(lists, cuts):
    sizes, seeds, _ = columns(lists)
    whole = merge(sizes, seeds, zeros(sizes), sizes)
    edges = [
        zeros(sizes),
        *(taken(sizes, seeds, zeros(sizes), int(c * sizes.sum())) for c in sorted(cuts)),
        sizes,
    ]
    parts = [merge(sizes, seeds, a, b) for a, b in itertools.pairwise(edges)]
    for column in range(2):
        assert np.concatenate([part[column] for part in parts]).tolist() == whole[column].tolist()


@given(lists=LISTS, B=st.integers(1, 40))
def test_any_run_is_in_proportion(lists, B):
    sizes, seeds, _ = columns(lists)
    which, _ = merge(sizes, seeds, zeros(sizes), sizes)
    N, L = max(sizes.sum(), 1), len(sizes)
    for begin in range(0, len(which) - B + 1):
        counts = np.bincount(which[begin : begin + B], minlength=L)
        assert (np.abs(counts - B * sizes / N) < (1 + L * sizes / N) * (1 if begin == 0 else 2)).all()


@pytest.mark.parametrize("L", [1, 2, 64, 300])
def test_equal_lists_are_exact_in_every_round(L):
    sizes, seeds = np.full(L, 5), seeds_of(L)
    which, element = merge(sizes, seeds, zeros(sizes), sizes)
    assert (np.sort(which.reshape(5, L), axis=1) == np.arange(L)).all()
    assert element.tolist() == np.repeat(np.arange(5), L).tolist()
    for total in (0, 1, L, L + 1, 5 * L - 1, 5 * L):
        ends = taken(sizes, seeds, zeros(sizes), total)
        assert ends.tolist() == np.bincount(which[:total], minlength=L).tolist()


def test_every_permutation_of_a_round_is_as_likely():
    sizes = np.full(3, 6000)
    which, _ = merge(sizes, np.arange(3, dtype=np.uint64), zeros(sizes), sizes)  # seeds as a deal has them
    rounds = list(map(tuple, which.reshape(-1, 3).tolist()))
    for some in (rounds, rounds[::2]):
        counts = np.array([Counter(some)[p] for p in itertools.permutations(range(3))])
        chi2 = ((counts - len(some) / 6) ** 2 / (len(some) / 6)).sum()
        assert chi2 < 20.5  # 5 degrees of freedom: p = 0.001
    pairs = Counter(itertools.pairwise(rounds))  # and says nothing of the next one
    expected = (len(rounds) - 1) / 36
    assert sum((pairs[p] - expected) ** 2 / expected for p in itertools.product(set(rounds), repeat=2)) < 66.6


@pytest.mark.parametrize("sizes", [[3000] * 2, [3000] * 4, [1500] * 8, [6000, 3000, 1500]], ids=str)
@pytest.mark.parametrize("stride", [2, 3, 4, 8, 16])
def test_no_stride_falls_in_step_with_the_lists(sizes, stride):
    sizes = np.array(sizes)
    which, _ = merge(sizes, seeds_of(len(sizes)), zeros(sizes), sizes)
    share = sizes / sizes.sum()
    for begin in range(stride):
        some = which[begin::stride]
        for n in (64, len(some)):  # within what two tosses in a million are beyond
            off = np.abs(np.bincount(some[:n], minlength=len(sizes)) - n * share)
            assert (off < 4.8 * np.sqrt(n * share * (1 - share))).all()


def test_a_billion_elements_cost_nothing():
    sizes, seeds = np.array([10**9, 3, 10**9 - 7, 0]), seeds_of(4)
    ends = taken(sizes, seeds, zeros(sizes), 10**9)
    assert ends.sum() == 10**9
    assert abs(int(ends[0]) - 5 * 10**8) < 10
    more = taken(sizes, seeds, ends, 1)
    assert more.sum() == 10**9 + 1
