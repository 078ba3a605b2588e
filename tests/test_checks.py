"""Checks of plain arguments: what passes comes back plain, what does not is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pyimportance import ArgumentError
from pyimportance.checks import check_flag, check_fraction, check_integer, check_rank


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3)])
def test_integers(value: Any) -> None:
    assert (check_integer("n", value, 3), type(check_integer("n", value, 3))) == (3, int)


@pytest.mark.parametrize("value", [3.0, np.float32(3), "3", None, True, np.True_, [3], np.array([3, 3])])
def test_what_is_no_integer(value: Any) -> None:
    with pytest.raises(ArgumentError, match=r"n=.*: must be an integer of at least 2"):
        check_integer("n", value, 2)


def test_integers_too_small() -> None:
    with pytest.raises(ArgumentError, match="n=-1: must be at least 0"):
        check_integer("n", np.int64(-1), 0)


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.5), np.int64(1)])
def test_fractions(value: Any) -> None:
    assert check_fraction("f", value) == value
    assert type(check_fraction("f", value)) is float


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), "half", None, True, np.True_, 1j])
def test_what_is_no_fraction(value: Any) -> None:
    with pytest.raises(ArgumentError, match=r"f=.*: must be within 0\.\.1"):
        check_fraction("f", value)


def test_fractions_above_zero() -> None:
    assert check_fraction("f", 1e-300, positive=True) == 1e-300
    for value in (0, -0.0, 2, float("nan")):
        with pytest.raises(ArgumentError, match=r"f=.*: must be above 0 and at most 1"):
            check_fraction("f", value, positive=True)


def test_flags() -> None:
    assert check_flag("b", np.False_) is False
    assert check_flag("b", True) is True
    for value in (0, 1, "yes", None, np.array(True)):
        with pytest.raises(ArgumentError, match=r"b=.*: must be True or False"):
            check_flag("b", value)


def test_ranks() -> None:
    assert check_rank(np.int32(1), 2) == (1, 2)
    for rank, world_size, text in (
        (2, 2, "rank=2: must be below world_size=2"),
        (-1, 2, "rank=-1"),
        (0, 0, "w"),
    ):
        with pytest.raises(ArgumentError, match=text):
            check_rank(rank, world_size)
