"""Options as plain int, float and bool, NumPy's scalars included, so that a loader's state can be JSON."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyimportance.errors import ArgumentError


def integer(name: str, value: Any) -> int:
    """``value`` as an int; a bool, a float (even 2.0) and a string are none. Raises ArgumentError."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise ArgumentError(f"{name}: got {value!r}; it must be an integer")
    return int(value)


def real(name: str, value: Any) -> float:
    """``value`` as a float; integers are. Raises ArgumentError."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ArgumentError(f"{name}: got {value!r}; it must be a number")
    return float(value)


def flag(name: str, value: Any) -> bool:
    """``value`` as a bool; 0, 1 and strings are none. Raises ArgumentError."""
    if not isinstance(value, (bool, np.bool_)):
        raise ArgumentError(f"{name}: got {value!r}; it must be True or False")
    return bool(value)
