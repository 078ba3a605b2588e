"""Checks of plain arguments, for all folders; each gives back what it checked, or raises ArgumentError."""

from __future__ import annotations

import math
import numbers
import operator
from typing import Any

from pyimportance.errors import ArgumentError


def check_integer(name: str, value: Any, least: int) -> int:
    """``value`` as an int of at least ``least``; a bool is none."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise ArgumentError(f"{name}={value!r}: must be an integer of at least {least}")
    if number < least:
        raise ArgumentError(f"{name}={number}: must be at least {least}")
    return number


def check_fraction(name: str, value: Any) -> float:
    """``value`` as a float within 0..1."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real or not 0 <= value <= 1:
        raise ArgumentError(f"{name}={value!r}: must be within 0..1")
    return float(value)


def check_nonnegative(name: str, value: Any) -> float:
    """``value`` as a finite float >= 0."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real or not 0 <= value < math.inf:
        raise ArgumentError(f"{name}={value!r}: must be a finite number >= 0")
    return float(value)


def check_flag(name: str, value: Any) -> bool:
    """``value`` as a bool."""
    if value is not True and value is not False:
        raise ArgumentError(f"{name}={value!r}: must be True or False")
    return bool(value)
