"""Checks of arguments that several verbs share; each gives back what it checked, or raises ArgumentError."""

from __future__ import annotations

import operator

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError


def check_integer(name: str, value: int, least: int) -> int:
    """``value`` as an int of at least ``least``."""
    try:
        number = operator.index(value)
    except TypeError:
        raise ArgumentError(f"{name}={value!r}: must be an integer of at least {least}") from None
    if number < least:
        raise ArgumentError(f"{name}={number}: must be at least {least}")
    return number


def check_groups(workers: int, bins: int) -> tuple[int, int]:
    """Both as ints of at least 1; group numbers must fit int32."""
    workers, bins = check_integer("workers", workers, 1), check_integer("bins", bins, 1)
    if workers * bins >= 2**31:
        raise ArgumentError(f"workers={workers}, bins={bins}: their product must be below 2**31")
    return workers, bins


def check_sizes(sizes: npt.ArrayLike, num_samples: int) -> npt.NDArray[np.int64]:
    """``sizes`` as int64 [num_samples] bytes >= 0."""
    array = np.asarray(sizes)
    if array.dtype.kind not in "iu" or array.shape != (num_samples,):
        raise ArgumentError(
            f"sizes: {array.dtype} of shape {list(array.shape)}; must be integers, one for each "
            f"of {num_samples} samples"
        )
    if array.size and array.min() < 0:
        raise ArgumentError(f"sizes: {array.min()} at position {int(array.argmin())} is negative")
    return array.astype(np.int64)
