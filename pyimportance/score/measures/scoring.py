"""The verbs: which measures there are, and one of them applied."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyimportance.errors import ArgumentError
from pyimportance.score.dynamics import Dynamics
from pyimportance.score.measures.registry import IMPORTANT, REGISTRY, find, recorded
from pyimportance.score.values import Scores


def measures(dynamics: Dynamics | None = None) -> tuple[str, ...]:
    """The names that `score` knows; of a Dynamics, those that it can be scored by with nothing else given."""
    if dynamics is None:
        return tuple(REGISTRY)
    there = recorded(dynamics)
    return tuple(m.name for m in REGISTRY.values() if not m.lacks(there, {}) and not m.required)


def score(
    dynamics: Dynamics, measure: str = "loss_mean", *, descending: bool | None = None, **options: Any
) -> Scores:
    """One score per sample, float32.

    measure     one of `measures()`
    descending  whether a high score is the more important; by default as suits the measure: the important end
                is hard, ambiguous, rare, suspect or worth learning
    options     of the measure: correctness(fraction=False)

    Raises ArgumentError for an unknown measure or option, and where the measure needs what was not recorded.
    """
    if not isinstance(dynamics, Dynamics):
        raise ArgumentError(
            f"dynamics: {type(dynamics).__name__}; must be Dynamics (Tracker.dynamics, Dynamics.from_history)"
        )
    chosen = find(measure)
    arguments = chosen.resolve(options, dynamics.num_samples)
    there = recorded(dynamics)
    if not dynamics.quantities:
        raise ArgumentError("dynamics: nothing was recorded; observe a batch and end its epoch first")
    if missing := chosen.lacks(there, arguments):
        raise ArgumentError(
            f"measure {measure!r} needs {', '.join(missing)}, which was not recorded (only "
            f"{', '.join(there)}); possible are {', '.join(measures(dynamics))}"
        )
    metadata = {"epochs": str(dynamics.epochs), **{name: _told(value) for name, value in options.items()}}
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        values = chosen.function(dynamics, **arguments).astype(np.float32)
    if chosen.notes is not None:
        metadata |= chosen.notes(dynamics, values)
    important = IMPORTANT[chosen.high] if descending is None else descending
    return Scores(
        values=values, measure=chosen.name, descending=important, keys=dynamics.keys, metadata=metadata
    )


def _told(value: Any) -> str:
    """An option as metadata: itself, and of arrays what they are."""
    if hasattr(value, "dtype") and hasattr(value, "shape") and value.shape:
        return f"{value.dtype} {list(value.shape)}"
    return str(value)
