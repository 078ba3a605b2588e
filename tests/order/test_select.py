"""select: exactly as many as asked for, the most important first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pyimportance import ArgumentError, Scores, select
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
