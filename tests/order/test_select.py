"""select: exactly as many as asked for, the most important first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyimportance import _C, ArgumentError, Scores, argsort, select
from pyimportance.order.ranking import NaNScoresWarning


def scores(values: Any, ids: Any = None, descending: bool = True) -> Scores:
    return Scores(np.asarray(values, np.float32), ids=ids, descending=descending, measure="loss_mean")


def test_top() -> None:
    some = scores([1, 5, 3, 5, 2], ids=np.array([10, 20, 30, 40, 50]))
    assert select(some, count=3).tolist() == [20, 40, 30]
    assert select(some, count=0).tolist() == []
    assert select(some, count=5).tolist() == [20, 40, 30, 50, 10]
    assert select(scores([1, 5, 3], descending=False), count=2).tolist() == [0, 2]


def test_bottom() -> None:
    some = scores([1, 5, 3, 5, 2], ids=np.array([10, 20, 30, 40, 50]))
    assert select(some, count=3, method="bottom").tolist() == [30, 50, 10]
    assert select(some, count=0, method="bottom").tolist() == []
    assert select(scores([1, 5, 3], descending=False), count=2, method="bottom").tolist() == [2, 1]
    with pytest.warns(NaNScoresWarning):
        assert select(scores([np.nan, 1, 2]), count=2, method="bottom").tolist() == [2, 1]
    with pytest.warns(NaNScoresWarning):
        assert select(scores([np.nan, 1, 2, np.nan]), count=3, method="bottom").tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("fraction", "n", "expected"),
    [(0.0, 5, 0), (0.1, 30, 3), (0.3, 5, 2), (0.29, 5, 1), (1.0, 7, 7), (0.7, 10, 7)],
)
def test_fractions_are_exact_counts(fraction: float, n: int, expected: int) -> None:
    assert select(scores(np.arange(n)), fraction=fraction).tolist() == list(range(n))[::-1][:expected]


def test_samples_without_a_score_are_taken_last() -> None:
    with pytest.warns(NaNScoresWarning, match="1 of 3 scores are NaN"):
        assert select(scores([np.nan, 1, 2]), count=2).tolist() == [2, 1]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"fraction": "a"}, r"fraction='a': must be within 0\.\.1"),
        ({"fraction": True}, r"fraction=True: must be within 0\.\.1"),
        ({"count": 1.5}, "count=1.5: must be an integer"),
        ({}, "fraction=None, count=None: exactly one"),
        ({"fraction": 0.5, "count": 1}, "fraction=0.5, count=1: exactly one"),
        ({"fraction": 1.5}, r"fraction=1.5: must be within 0\.\.1"),
        ({"fraction": float("nan")}, "fraction=nan: must be within"),
        ({"count": 4}, "count=4: there are 3 samples"),
        ({"count": -1}, "count=-1: must be at least 0"),
        ({"count": 1, "method": "best"}, "method 'best' is unknown; allowed are top, bottom, ccs, moderate"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        select(scores([1, 2, 3]), **arguments)


def test_an_amount_is_a_fraction_or_a_count_by_its_type() -> None:
    some = scores(np.arange(10))
    assert select(some, 0.5).tolist() == select(some, fraction=0.5).tolist() == [9, 8, 7, 6, 5]
    assert select(some, np.float32(0.5)).tolist() == [9, 8, 7, 6, 5]
    assert select(some, 3).tolist() == select(some, np.int64(3)).tolist() == [9, 8, 7]
    assert select(some, 1).tolist() == [9]
    assert len(select(some, 1.0)) == 10
    with pytest.raises(ArgumentError, match=r"amount=1: must not come with fraction=0\.5 or count=None"):
        select(some, 1, fraction=0.5)
    with pytest.raises(ArgumentError, match="count=True: must be an integer"):
        select(some, True)
    with pytest.raises(ArgumentError, match="fraction='half'"):
        select(some, "half")  # type: ignore[arg-type]


FEW = [0.0, -0.0, 1.0, 2.0, 3.0, 1e-45, np.inf, -np.inf, np.nan]
VALUES = st.one_of(
    st.lists(st.sampled_from(FEW), min_size=1, max_size=90),
    st.lists(st.floats(width=32), min_size=1, max_size=90),
)


@given(VALUES, st.booleans(), st.data())
def test_ranks_are_those_of_the_sort(values: list[float], descending: bool, data: st.DataObject) -> None:
    array = np.array(values, np.float32)
    start = data.draw(st.integers(0, array.size))
    stop = data.draw(st.integers(start, array.size))
    chosen = _C.select_ranks(array, start, stop, descending=descending, threads=1)
    assert chosen.dtype == np.uint32
    np.testing.assert_array_equal(chosen, np.sort(argsort(array, descending=descending)[start:stop]))


@pytest.mark.parametrize("kind", ["ties", "bits", "equal"])
def test_ranks_by_any_number_of_threads(kind: str) -> None:
    n = 4 * 2**16 + 5
    rng = np.random.default_rng(0)
    values = {
        "ties": rng.integers(0, 3, n).astype(np.float32),
        "bits": rng.integers(0, 256, 4 * n, np.uint8).view(np.float32),
        "equal": np.zeros(n, np.float32),
    }[kind]
    order = argsort(values)
    for start, stop in ((0, 0), (0, 1), (0, n), (n // 3, 2 * n // 3), (n - 1, n), (70_000, 70_001)):
        for threads in (1, 2, 3, 7):
            chosen = _C.select_ranks(values, start, stop, descending=True, threads=threads)
            np.testing.assert_array_equal(chosen, np.sort(order[start:stop]))


@given(VALUES.filter(lambda v: not np.isnan(v).all()), st.booleans(), st.data())
@pytest.mark.filterwarnings("ignore::pyimportance.NaNScoresWarning")
def test_a_part_is_a_part_of_the_whole_order(
    values: list[float], descending: bool, data: st.DataObject
) -> None:
    """top, moderate and bottom do not sort where they return little; what they return is the same."""
    some = scores(values, ids=np.arange(len(values)) * 3, descending=descending)
    order = select(some, count=len(values))
    scored = int(np.count_nonzero(~np.isnan(some.values)))
    count = data.draw(st.integers(0, len(values)))
    low = max(scored - count, 0)
    assert select(some, count=count).tolist() == order[:count].tolist()
    bottom = order[low : max(scored, count)].tolist()
    assert select(some, count=count, method="bottom").tolist() == bottom
    middle = order[low // 2 : low // 2 + count].tolist()
    assert select(some, count=count, method="moderate").tolist() == middle


@given(VALUES.filter(lambda v: not np.isnan(v).all()), st.data())
@pytest.mark.filterwarnings("ignore::pyimportance.NaNScoresWarning")
def test_every_class_in_proportion(values: list[float], data: st.DataObject) -> None:
    N = len(values)
    classes = np.array(data.draw(st.lists(st.integers(-2, 3), min_size=N, max_size=N)))
    count = data.draw(st.integers(0, N))
    method = data.draw(st.sampled_from(["top", "bottom", "moderate", "ccs"]))
    options: dict[str, Any] = {"beta": 0.0} if method == "ccs" else {}
    some = scores(values, ids=np.arange(N) + 100)
    chosen = select(some, count=count, method=method, classes=classes, **options)
    assert len(set(chosen.tolist())) == chosen.size == count
    place = {int(i): rank for rank, i in enumerate(select(some, count=N))}
    ranks = [place[i] for i in chosen.tolist()]
    assert ranks == sorted(ranks)
    for name in np.unique(classes):
        members = np.flatnonzero(classes == name)
        mine = chosen[np.isin(chosen, members + 100)]
        assert abs(mine.size - count * members.size / N) < 1
        if method == "top":  # the most important ones of the class
            assert mine.tolist() == sorted(members + 100, key=lambda i: place[int(i)])[: mine.size]


def test_class_shares_by_largest_remainder() -> None:
    some = scores([9, 8, 7, 6, 5, 4, 3, 2, 1])
    classes = [0, 0, 0, 0, 0, 1, 1, 1, 2]
    assert select(some, count=3, classes=classes).tolist() == [0, 1, 5]
    assert select(some, count=3, method="bottom", classes=classes).tolist() == [3, 4, 7]


@pytest.mark.parametrize(
    ("some", "arguments", "text"),
    [
        (scores([]), {"count": 0}, "scores: there are none; at least one sample is needed"),
        (scores([np.nan, np.nan]), {"count": 1}, "scores: all 2 are NaN, so there is no order of importance"),
        ([1.0, 2.0], {"count": 1}, r"scores: list; must be Scores, say Scores\(values=array\)"),
        (
            scores([1, 2]),
            {"count": 1, "classes": [1]},
            r"classes: int64 of shape \[1\]; .* each of 2 samples",
        ),
        (scores([1, 2]), {"count": 1, "classes": ["a", "b"]}, "classes: <U1 of shape"),
    ],
)
def test_scores_that_cannot_be_selected_from(some: Any, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        select(some, **arguments)


def test_ids_must_be_there_once() -> None:
    with pytest.raises(ArgumentError, match="ids: 4 at position 2 follows 4; ids must ascend strictly"):
        scores([1, 2, 3], ids=np.array([2, 4, 4]))
