"""What the columns of a Dynamics can hold. Measures divide by them and compare them, so nothing else may."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError

_SLACK = 1e-6  # sums of rounded numbers may pass their limit by this part of it
_TINY = 1e-300  # or by this, where everything has faded to nothing
_MOST_EPOCHS = 2**31 - 1  # counts are int32

EL2N_MAX = 2**0.5 * (1 + _SLACK)


def check(epochs: Any, columns: Mapping[str, npt.NDArray[Any]]) -> None:
    """ArgumentError, naming column and sample, for the first number that no training leaves behind.

    columns  by name as in Dynamics, all [N] and of its dtypes; ``count`` is one of them
    """
    if type(epochs) is not int or not 0 <= epochs <= _MOST_EPOCHS:
        raise ArgumentError(f"epochs={epochs!r}: must be an integer from 0 to {_MOST_EPOCHS}")
    count = columns["count"]
    weight = columns.get("weight", count)
    correct = columns.get("correct", count)
    limits: dict[str, Any] = {
        "count": epochs,
        "weight": count,
        "weight_sq": count,
        "loss_mean": None,
        "loss_m2": np.inf,
        "loss_last": None,
        "p_mean": 1.0 + _SLACK,
        "p_m2": np.inf,
        "q_sum": _above(weight, 1),
        "margin_last": None,
        "el2n_sum": _above(weight, EL2N_MAX),
        "el2n_last": EL2N_MAX,
        "entropy_sum": np.inf,
        "entropy_last": np.inf,
        "grand_sum": np.inf,
        "correct": count,
        "forgotten": correct,
    }
    for name, limit in limits.items():
        if name in columns:
            _check_one(name, columns[name], limit)
    if "first_learned" in columns:
        learned = np.where(correct > 0, columns["first_learned"], 0)
        _check_one("first_learned", learned, max(epochs - 1, 0))


def _above(weight: npt.NDArray[Any], each: float) -> npt.NDArray[np.float64]:
    return weight * (each * (1 + _SLACK)) + _TINY


def _check_one(name: str, values: npt.NDArray[Any], limit: Any) -> None:
    """``limit`` None: any number."""
    good = ~np.isnan(values) if limit is None else (values >= 0) & (values <= limit)
    if good.all():
        return
    at = int(good.argmin())
    if limit is None:
        raise ArgumentError(f"{name}: {values[at]} for sample {at}; must be a number")
    most = np.broadcast_to(limit, values.shape)[at]
    raise ArgumentError(f"{name}: {values[at]} for sample {at}; allowed are 0 to {most}")
