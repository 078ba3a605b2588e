"""Checks of plain arguments, for all folders; each gives back what it checked, or raises ArgumentError.

What comes back is a plain int, float or bool, of NumPy's scalars as well: states and manifests are JSON.
"""

from __future__ import annotations

import math
import numbers
import operator
from typing import Any

import numpy as np

from pyimportance.errors import ArgumentError


def check_integer(name: str, value: Any, least: int) -> int:
    """``value`` as an int of at least ``least``; a bool, a float (even 2.0) and a string are none."""
    try:
        number = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise ArgumentError(f"{name}={value!r}: must be an integer of at least {least}")
    if number < least:
        raise ArgumentError(f"{name}={number}: must be at least {least}")
    return number


def _real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_fraction(name: str, value: Any, *, positive: bool = False) -> float:
    """``value`` as a float within 0..1, and not 0 if ``positive``."""
    if not _real(value) or not 0 <= value <= 1 or (positive and not value):
        allowed = "above 0 and at most 1" if positive else "within 0..1"
        raise ArgumentError(f"{name}={value!r}: must be {allowed}")
    return float(value)


def check_nonnegative(name: str, value: Any) -> float:
    """``value`` as a finite float >= 0."""
    if not _real(value) or not 0 <= value < math.inf:
        raise ArgumentError(f"{name}={value!r}: must be a finite number >= 0")
    return float(value)


def check_positive(name: str, value: Any) -> float:
    """``value`` as a finite float > 0."""
    if not _real(value) or not 0 < value < math.inf:
        raise ArgumentError(f"{name}={value!r}: must be a finite number > 0")
    return float(value)


def check_flag(name: str, value: Any) -> bool:
    """``value`` as a bool; 0, 1 and strings are none."""
    if not isinstance(value, bool | np.bool_):
        raise ArgumentError(f"{name}={value!r}: must be True or False")
    return bool(value)


def check_rank(rank: Any, world_size: Any) -> tuple[int, int]:
    """Both as ints, 0 <= rank < world_size."""
    rank, world_size = check_integer("rank", rank, 0), check_integer("world_size", world_size, 1)
    if rank >= world_size:
        raise ArgumentError(f"rank={rank}: must be below world_size={world_size}")
    return rank, world_size
