"""Capacity: how many samples unequal machines get each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError
from pyimportance.score import inputs


def apportion(capacity: npt.ArrayLike, workers: int, num_samples: int) -> npt.NDArray[np.int64]:
    """int64 [workers]: ``num_samples`` in proportion to ``capacity`` [workers], numbers >= 0.

    By largest remainder (Hamilton's method): everyone gets the whole part of its quota, and one more those
    whose quotas have the largest fractions, of equal ones the lower workers. Exact: nothing is rounded.
    Raises ArgumentError where capacity is not as described, or is 0 everywhere.
    """
    weights = _integers(check_capacity(capacity, workers))
    total = sum(weights)
    if total == 0:
        raise ArgumentError(f"capacity: all {workers} are 0, which can hold no samples")
    quotas = [divmod(num_samples * weight, total) for weight in weights]
    counts = np.array([whole for whole, _ in quotas], np.int64)
    by_fraction = sorted(range(workers), key=lambda worker: -quotas[worker][1])  # stable
    counts[by_fraction[: num_samples - int(counts.sum())]] += 1
    return counts


def check_capacity(capacity: npt.ArrayLike, workers: int) -> npt.NDArray[Any]:
    """``capacity`` as an array [workers] of finite numbers >= 0, or ArgumentError."""
    array = inputs.as_array("capacity", capacity)
    if array.dtype.kind not in "iuf" or array.shape != (workers,):
        raise ArgumentError(
            f"capacity: {array.dtype} of shape {list(array.shape)}; must be numbers, one for each of "
            f"{workers} workers"
        )
    wrong = ~(np.isfinite(array) & (array >= 0))
    if wrong.any():
        at = int(wrong.argmax())
        raise ArgumentError(f"capacity: {array[at]} of worker {at}; must be finite and >= 0")
    return array


def _integers(numbers: npt.NDArray[Any]) -> Sequence[int]:
    """Integers in the very proportion of ``numbers``: a float is one over a power of two."""
    ratios = [number.as_integer_ratio() for number in numbers.tolist()]
    denominator = max(below for _, below in ratios)
    return [above * (denominator // below) for above, below in ratios]
