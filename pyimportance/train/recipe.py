"""What a controller goes by, as plain values: a state holds them, and fits no controller of others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyimportance.errors import ArgumentError
from pyimportance.train.schedule import Schedule

Recipe = dict[str, str | int | float | None]


def recipe(
    measure: str,
    options: Mapping[str, Any],
    schedule: Schedule,
    **others: str | float | NDArray[Any] | None,
) -> Recipe:
    """``schedule`` without its total: training may go on for longer than was planned."""
    text = ", ".join(f"{name}={_text(value)}" for name, value in options.items())
    return {
        "measure": f"{measure}({text})" if text else measure,
        **{name: _text(value) if isinstance(value, np.ndarray) else value for name, value in others.items()},
        "warmup": schedule.warmup,
        "interval": schedule.interval,
        "ignore": schedule.ignore,
        "warmup_on": schedule.warmup_on,
    }


def check_same(saved: Any, mine: Recipe) -> None:
    """ArgumentError that names the first setting that differs."""
    if not isinstance(saved, Mapping):
        raise ArgumentError(f"state: recipe {saved!r}: not of a state of Controller")
    for name, value in mine.items():
        if saved.get(name) != value:
            raise ArgumentError(
                f"state: saved with {name}={saved.get(name)!r}, but this controller has {name}={value!r}"
            )


def _text(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return repr(value)
    digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:16]
    return f"{value.dtype}{list(value.shape)}:{digest}"
