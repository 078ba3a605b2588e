"""Checks of arguments that several verbs share; each gives back what it checked, or raises ArgumentError."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from pyimportance.checks import check_integer
from pyimportance.errors import ArgumentError
from pyimportance.score import inputs
from pyimportance.score.values import Scores

# Each group costs 8 bytes wherever a partition goes: what a file says must not ask for more than memory has.
MOST_GROUPS = 2**22


def check_scores(scores: Scores) -> Scores:
    """``scores``, which are Scores and not, say, an array."""
    if not isinstance(scores, Scores):
        raise ArgumentError(f"scores: {type(scores).__name__}; must be Scores, say Scores(values=array)")
    return scores


def part_of(fraction: float, num_samples: int) -> int:
    """How many samples a fraction of them is: floor(fraction * N + 1/2)."""
    return math.floor(fraction * num_samples + 0.5)


def check_groups(workers: int, bins: int) -> tuple[int, int]:
    """Both as ints of at least 1, of MOST_GROUPS groups together."""
    workers, bins = check_integer("workers", workers, 1), check_integer("bins", bins, 1)
    if workers * bins > MOST_GROUPS:
        raise ArgumentError(f"workers={workers}, bins={bins}: their product must be at most {MOST_GROUPS}")
    return workers, bins


def check_classes(classes: npt.ArrayLike, num_samples: int) -> npt.NDArray[np.int64]:
    """``classes`` as int64 [num_samples]."""
    array = inputs.as_array("classes", classes)
    if array.dtype.kind not in "iu" or array.shape != (num_samples,):
        raise ArgumentError(
            f"classes: {array.dtype} of shape {list(array.shape)}; must be integers, one for each "
            f"of {num_samples} samples"
        )
    return array.astype(np.int64)  # uint64 from 2**63 wraps: still a class of its own


def check_sizes(sizes: npt.ArrayLike, num_samples: int) -> npt.NDArray[np.int64]:
    """``sizes`` as int64 [num_samples] bytes >= 0, whose sum int64 holds as well."""
    array = inputs.as_array("sizes", sizes)
    if array.dtype.kind not in "iu" or array.shape != (num_samples,):
        raise ArgumentError(
            f"sizes: {array.dtype} of shape {list(array.shape)}; must be integers, one for each "
            f"of {num_samples} samples"
        )
    if array.size and array.min() < 0:
        raise ArgumentError(f"sizes: {array.min()} at position {int(array.argmin())} is negative")
    if array.size and array.max() >= 2**63:
        raise ArgumentError(f"sizes: {array.max()} at position {int(array.argmax())} is 2**63 or more")
    nbytes = array.astype(np.int64)
    total = (int((nbytes >> 32).sum()) << 32) + int((nbytes & 0xFFFFFFFF).sum())  # halves cannot overflow
    if total >= 2**63:
        raise ArgumentError(f"sizes: their sum is {total}; must be below 2**63")
    return nbytes
