"""What a measure is, and those there are."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.checks import check_flag, check_fraction, check_integer
from pyimportance.errors import ArgumentError
from pyimportance.score import inputs
from pyimportance.score.dynamics import Dynamics
from pyimportance.score.measures import runs as over_runs

Array = npt.NDArray[np.float64]
Function = Callable[..., Array]
Notes = Callable[[Sequence[Dynamics], npt.NDArray[np.float32]], dict[str, str]]
Rule = Callable[[Sequence[Dynamics], Array, Mapping[str, Any]], Array]
"""(runs, their scores float64 [R, N], options) -> float64 [N]"""
Check = Callable[[str, Any, int], Any]
"""(option, value, number of samples) -> the value as the formula takes it; ArgumentError for any other."""

# What a high value means, and whether that is the more important end.
IMPORTANT = {
    **dict.fromkeys(("hard", "ambiguous", "rare", "worth learning"), True),
    **dict.fromkeys(("easy", "clean", "settled"), False),
}


@dataclass(frozen=True)
class Measure:
    """A notion of importance, and what can be known of it before there is anything to score.

    name      what `score` knows it by
    high      what a high value means
    needs     what must have been recorded, see `recorded`
    function  the formula: (Dynamics, **options) -> float64 [N]
    notes     what the metadata of its scores should say of them
    checks    of its options, one each
    least     observations a sample must have to get a score, or the name of the option that says how many
    prepare   what can fail of itself (compiling), done before it is first used
    besides   what else must have been recorded where an option is given
    runs      what the scores of several runs come to; None: it is of one run
    """

    name: str
    high: str
    needs: tuple[str, ...]
    function: Function
    notes: Notes | None = None
    checks: Mapping[str, Check] = field(default_factory=dict)
    least: int | str = 1
    prepare: Callable[[], object] | None = None
    besides: Mapping[str, str] = field(default_factory=dict)
    runs: Rule | None = over_runs.mean

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments it takes and their defaults; `inspect.Parameter.empty`: must be given."""
        parameters = list(inspect.signature(self.function).parameters.values())
        return {p.name: p.default for p in parameters[1:]}

    @property
    def required(self) -> tuple[str, ...]:
        """The options that have no default."""
        return tuple(name for name, default in self.options.items() if default is inspect.Parameter.empty)

    def resolve(self, options: Mapping[str, Any], num_samples: int) -> dict[str, Any]:
        """All its options, as the formula takes them for so many samples; it can then be applied.

        Raises ArgumentError for an option that is unknown, missing or has a value that is not allowed.
        """
        if unknown := [name for name in options if name not in self.checks]:
            allowed = f"its options are {', '.join(self.checks)}" if self.checks else "it has none"
            raise ArgumentError(
                f"measure {self.name!r} has no option {', '.join(map(repr, unknown))}; {allowed}"
            )
        if missing := [name for name in self.required if name not in options]:
            raise ArgumentError(f"measure {self.name!r} needs the option {', '.join(missing)}")
        given = {**self.options, **options}
        if self.prepare is not None:
            self.prepare()
        return {name: check(name, given[name], num_samples) for name, check in self.checks.items()}

    def lacks(self, there: Iterable[str], options: Mapping[str, Any]) -> tuple[str, ...]:
        """What it needs of what is neither ``there`` nor given as an option of that name."""
        given = {name for name, value in options.items() if value is not None}
        needs = (*self.needs, *(need for option, need in self.besides.items() if option in given))
        return tuple(need for need in needs if need not in there and need not in given)


REGISTRY: dict[str, Measure] = {}


def builtin(
    name: str,
    *,
    high: str,
    needs: tuple[str, ...],
    notes: Notes | None = None,
    least: int | str = 1,
    besides: Mapping[str, str] | None = None,
    runs: Rule | None = over_runs.mean,
    **checks: Check,
) -> Callable[[Function], Function]:
    """Registers a function (Dynamics, **options) -> float64 [N] under a name, with a check of each option."""

    def register(function: Function) -> Function:
        assert high in IMPORTANT
        assert name not in REGISTRY
        more = {} if besides is None else besides
        REGISTRY[name] = Measure(name, high, needs, function, notes, checks, least, besides=more, runs=runs)
        assert REGISTRY[name].options.keys() == checks.keys()
        return function

    return register


def at_least(least: int, *, or_none: bool = False) -> Check:
    """The check of an option that is an integer."""
    return lambda name, value, _: None if or_none and value is None else check_integer(name, value, least)


def epoch_numbers(name: str, value: Any, _: int) -> tuple[int, ...] | None:
    """The check of an option that is epochs, in any order, each once; or None."""
    if value is None:
        return None
    numbers: list[int] = inputs.integers(name, value).tolist()
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise ArgumentError(f"{name}={value!r}: must be at least one epoch, counted from 0, each once")
    return tuple(numbers)


def flag(name: str, value: Any, _: int) -> bool:
    """The check of an option that is True or False."""
    return check_flag(name, value)


def fraction(name: str, value: Any, _: int) -> float:
    """The check of an option within 0..1."""
    return check_fraction(name, value)


def find(name: str) -> Measure:
    """The measure of that name; ArgumentError, naming them all, where there is none."""
    chosen = REGISTRY.get(str(name))
    if chosen is None:
        raise ArgumentError(f"measure={name!r}: must be one of {', '.join(REGISTRY)}")
    return chosen


def recorded(dynamics: Dynamics) -> tuple[str, ...]:
    """What a measure may need of a Dynamics: its quantities, "history" where it was kept, "probs" where that
    has the probabilities of all classes, and "classes" where it is known how many there are, 2 at least.
    """
    history = dynamics.history
    kept = () if history is None else ("history", *(("probs",) if history.probabilities is not None else ()))
    return dynamics.quantities + kept + (("classes",) if (dynamics.classes or 0) > 1 else ())


def observed(dynamics: Dynamics, values: npt.NDArray[Any]) -> Array:
    """NaN for the samples that were never observed."""
    return np.where(dynamics.count > 0, values, np.nan)
