"""What a measure is, and those there are."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError
from pyimportance.score.dynamics import Dynamics

Array = npt.NDArray[np.float64]
Function = Callable[..., Array]
Notes = Callable[[Dynamics, npt.NDArray[np.float32]], dict[str, str]]

# What a high value means, and whether that is the more important end.
IMPORTANT = {
    **dict.fromkeys(("hard", "ambiguous", "rare", "worth learning"), True),
    **dict.fromkeys(("easy", "clean", "settled"), False),
}


@dataclass(frozen=True)
class Measure:
    """A name, what a high value means, what must have been recorded (see `recorded`), the formula, and what
    the metadata of its scores should say of them.
    """

    name: str
    high: str
    needs: tuple[str, ...]
    function: Function
    notes: Notes | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments it takes and their defaults; `inspect.Parameter.empty`: must be given."""
        parameters = list(inspect.signature(self.function).parameters.values())
        return {p.name: p.default for p in parameters[1:]}

    @property
    def required(self) -> tuple[str, ...]:
        """The options that have no default."""
        return tuple(name for name, default in self.options.items() if default is inspect.Parameter.empty)


REGISTRY: dict[str, Measure] = {}


def builtin(
    name: str, *, high: str, needs: tuple[str, ...], notes: Notes | None = None
) -> Callable[[Function], Function]:
    """Registers a function (Dynamics, **options) -> float64 [N] under a name."""

    def register(function: Function) -> Function:
        assert high in IMPORTANT
        assert name not in REGISTRY
        REGISTRY[name] = Measure(name, high, needs, function, notes)
        return function

    return register


def find(name: str) -> Measure:
    """The measure of that name; ArgumentError, naming them all, where there is none."""
    chosen = REGISTRY.get(str(name))
    if chosen is None:
        raise ArgumentError(f"measure={name!r}: must be one of {', '.join(REGISTRY)}")
    return chosen


def recorded(dynamics: Dynamics) -> tuple[str, ...]:
    """What a measure may need of a Dynamics: its quantities, "history" where it was kept, and "probs" where
    that has the probabilities of all classes.
    """
    history = dynamics.history
    kept = () if history is None else ("history", *(("probs",) if history.probabilities is not None else ()))
    return dynamics.quantities + kept


def observed(dynamics: Dynamics, values: npt.NDArray[Any]) -> Array:
    """NaN for the samples that were never observed."""
    return np.where(dynamics.count > 0, values, np.nan)
