"""The batch that a sampler is given: ids, one number per id, and a state that was saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError
from pyimportance.score import inputs


def batch(
    name: str, ids: npt.ArrayLike, values: npt.ArrayLike
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """ids int64 [B] and float64 [B]; NumPy or torch. ArgumentError, naming the sample, where one is not
    finite.

    Unlike the score of a sample that nobody has seen, a number that was worked out for this batch and is NaN
    means that training has gone wrong.
    """
    numbers = inputs.integers("ids", ids)
    floats = inputs.floats(name, values, (numbers.size,)).astype(np.float64)
    if (wrong := ~np.isfinite(floats)).any():
        at = int(wrong.argmax())
        raise ArgumentError(f"{name}: {floats[at]} for sample {numbers[at]}; must be finite")
    return numbers, floats


def check_state(saved: Any, sampler: str, fields: Mapping[str, type]) -> None:
    """ArgumentError unless ``saved`` is a version 1 state of ``sampler`` with just these fields."""
    if not isinstance(saved, Mapping) or saved.get("sampler") != sampler or saved.get("version") != 1:
        raise ArgumentError(f"state: not a version 1 state of {sampler}")
    if set(saved) != {"sampler", "version", *fields}:
        held = ", ".join(sorted(map(str, saved)))
        raise ArgumentError(f"state: holds {held}; must hold sampler, version, {', '.join(fields)}")
    for field, kind in fields.items():
        if type(saved[field]) is not kind:
            raise ArgumentError(f"state: {field} is {saved[field]!r}; must be of type {kind.__name__}")
