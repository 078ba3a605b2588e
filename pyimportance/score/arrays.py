"""A history given as plain arrays [E, N]: what they may hold, and the columns of a Dynamics they come to.

The native reduction (csrc/observe/reduce.h) reads arrays of float32 and float64, and bools for ``correct``,
where they lie, once. Others are converted a part at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance import _C
from pyimportance.errors import ArgumentError
from pyimportance.score import ranges, state
from pyimportance.score.history import NAMES, observed
from pyimportance.threads import default_threads

Arrays = Mapping[str, npt.NDArray[Any]]

_PART = 1 << 16  # samples that are converted, or looked through for what is wrong, at a time


def reduced(arrays: Arrays) -> state.Columns:
    """The columns, [N] each; ArgumentError where the arrays disagree, or hold what they must not.

    arrays  by the names of a history, [E, N]; NaN: not observed
    """
    epochs, num_samples = _shape(arrays)
    columns = state.zeros(num_samples, tuple(q for q in state.QUANTITIES if q in arrays))
    direct = all(_is_direct(name, array) for name, array in arrays.items())
    for part in _parts(num_samples, num_samples if direct else _PART):
        given = dict(arrays) if direct else _converted(arrays, part)
        views = {name: column[part] for name, column in columns.items()}
        size = part.stop - part.start
        if not _C.reduce(views, given, epochs, size, ranges.EL2N_MAX, default_threads()):
            _refuse(arrays)
    columns.pop("ends", None)  # which only more epochs would ask for
    return columns


def _parts(num_samples: int, size: int) -> Iterator[slice]:
    for start in range(0, num_samples, max(size, 1)):
        yield slice(start, min(start + size, num_samples))


def _shape(arrays: Arrays) -> tuple[int, int]:
    if not arrays:
        raise ArgumentError(f"from_history: nothing was given; at least one of {', '.join(NAMES)} is needed")
    shape = next(iter(arrays.values())).shape
    for name, array in arrays.items():
        if array.ndim != 2 or array.dtype.kind not in "fiub" or array.shape != shape:
            raise ArgumentError(
                f"{name}: {array.dtype} of shape {list(array.shape)}; "
                f"must be numbers [E, N], here {list(shape)}"
            )
    return shape[0], shape[1]


def _is_direct(name: str, array: npt.NDArray[Any]) -> bool:
    known = array.dtype in (np.float32, np.float64) or (name == "correct" and array.dtype == np.bool_)
    return known and array.dtype.isnative and (array.strides[1] == array.itemsize or array.shape[1] < 2)


def _converted(arrays: Arrays, part: slice) -> dict[str, npt.NDArray[np.float64]]:
    seen = observed(arrays, part)
    result: dict[str, npt.NDArray[np.float64]] = {}
    for name, array in arrays.items():
        result[name] = np.array(array[:, part], dtype=np.float64, order="C")
        result[name][~seen] = np.nan
    return result


def _refuse(arrays: Arrays) -> None:
    """Raises ArgumentError about what is wrong with them."""
    first = next((name for name, array in arrays.items() if array.dtype.kind == "f"), "")
    for part in _parts(next(iter(arrays.values())).shape[1], _PART):
        seen = observed(arrays, part)
        for name, array in arrays.items():
            values = array[:, part].astype(np.float64)
            if array.dtype.kind == "f" and (differ := np.isnan(values) == seen).any():
                e, n = np.argwhere(differ)[0]
                raise ArgumentError(
                    f"{name}: epoch {e} of sample {part.start + n} is {values[e, n]}, while in {first} it is "
                    f"{arrays[first][e, part.start + n]}; NaN must mark the same as not observed"
                )
        for name, array in arrays.items():
            values = array[:, part].astype(np.float64)
            low, high = _RANGES.get(name, (-np.inf, np.inf))
            wrong = seen & ~((values >= low) & (values <= high))
            if name == "correct":
                wrong |= seen & (values != 0) & (values != 1)
            if name != "margin":  # which is infinite where there is but one class
                wrong |= seen & np.isinf(values)
            if wrong.any():
                e, n = np.argwhere(wrong)[0]
                raise ArgumentError(
                    f"{name}: {array[e, part.start + n]} in epoch {e} of sample {part.start + n}; "
                    f"allowed are {_ALLOWED[name]}"
                )
    raise ArgumentError("correct: bools whose bytes are neither 0 nor 1")


_RANGES = {
    "p_true": (0, 1),
    "correct": (0, 1),
    "el2n": (0, ranges.EL2N_MAX),
    "entropy": (0, np.inf),
    "grand": (0, np.inf),
}
_ALLOWED = {
    "loss": "finite numbers",
    "p_true": "0 to 1",
    "correct": "0 and 1",
    "margin": "all but NaN",
    "el2n": "0 to sqrt(2)",
    "entropy": "finite numbers from 0",
    "grand": "finite numbers from 0",
}
