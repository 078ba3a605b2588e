"""The measures: Dynamics -> one score per sample, and the registry that knows them by name.

A measure is one short expression over the arrays of a Dynamics. Samples never observed, or observed too few
times for it, come out as NaN.

Sources: Sheikholeslami 2023, importance-aware data-parallel training (DAIS). Toneva et al. 2019, An empirical
study of example forgetting. Swayamdipta et al. 2020, Dataset cartography. Chang et al. 2017, Active bias.
Paul et al. 2021, Deep learning on a data diet. Pleiss et al. 2020, Identifying mislabeled data using the area
under the margin ranking.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError
from pyimportance.score.dynamics import Dynamics
from pyimportance.score.values import Scores

Array = npt.NDArray[np.float64]
Function = Callable[..., Array]

# What a high value means, and whether that is the more important end: hard, ambiguous, suspect.
_IMPORTANT = {"hard": True, "ambiguous": True, "easy": False, "clean": False, "settled": False}


@dataclass(frozen=True)
class Measure:
    """A measure's name, what a high value means, the quantities it needs, and its formula."""

    name: str
    high: str
    needs: tuple[str, ...]
    function: Function

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the keyword arguments it takes."""
        return tuple(inspect.signature(self.function).parameters)[1:]


_REGISTRY: dict[str, Measure] = {}


def measure(name: str, *, high: str, needs: tuple[str, ...]) -> Callable[[Function], Function]:
    """Registers a function Dynamics -> float64 [N] under a name."""

    def register(function: Function) -> Function:
        if high not in _IMPORTANT:
            raise ArgumentError(f"high={high!r}: must be one of {', '.join(_IMPORTANT)}")
        _REGISTRY[name] = Measure(name, high, needs, function)
        return function

    return register


def measures() -> tuple[str, ...]:
    """The names that `score` knows."""
    return tuple(_REGISTRY)


def score(
    dynamics: Dynamics, measure: str = "loss_mean", *, descending: bool | None = None, **options: Any
) -> Scores:
    """One score per sample, float32.

    measure     one of `measures()`
    descending  whether a high score is the more important; by default as suits the measure: the important end
                is hard, ambiguous or suspect
    options     of the measure: correctness(fraction=False)

    Raises ArgumentError for an unknown measure or option, and where the measure needs what was not recorded.
    """
    if not isinstance(dynamics, Dynamics):
        raise ArgumentError(
            f"dynamics: {type(dynamics).__name__}; must be Dynamics (Tracker.dynamics, Dynamics.from_history)"
        )
    chosen = _REGISTRY.get(str(measure))
    if chosen is None:
        raise ArgumentError(f"measure={measure!r}: must be one of {', '.join(_REGISTRY)}")
    if unknown := [name for name in options if name not in chosen.options]:
        allowed = f"its options are {', '.join(chosen.options)}" if chosen.options else "it has none"
        raise ArgumentError(f"measure {measure!r} has no option {', '.join(map(repr, unknown))}; {allowed}")
    if not dynamics.quantities:
        raise ArgumentError("dynamics: nothing was recorded; observe a batch and end its epoch first")
    if missing := [q for q in chosen.needs if q not in dynamics.quantities]:
        possible = [m.name for m in _REGISTRY.values() if set(m.needs) <= set(dynamics.quantities)]
        raise ArgumentError(
            f"measure {measure!r} needs {', '.join(missing)}, which was not recorded (only "
            f"{', '.join(dynamics.quantities)}); possible are {', '.join(possible)}"
        )
    metadata = {"epochs": str(dynamics.epochs), **{name: str(value) for name, value in options.items()}}
    if measure == "loss_variance" and not (dynamics.count > 1).any():
        metadata["fallback"] = "loss_mean: no sample was observed more than once"
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        values = chosen.function(dynamics, **options).astype(np.float32)
    important = _IMPORTANT[chosen.high] if descending is None else descending
    return Scores(values=values, measure=measure, descending=important, metadata=metadata)


def _observed(dynamics: Dynamics, values: npt.NDArray[Any]) -> Array:
    return np.where(dynamics.count > 0, values, np.nan)


@measure("loss_mean", high="hard", needs=("loss",))
def loss_mean(d: Dynamics) -> Array:
    """Mean loss. Sheikholeslami 2023 ("average")."""
    return d.mean("loss")


@measure("loss_variance", high="hard", needs=("loss",))
def loss_variance(d: Dynamics) -> Array:
    """Variance of the loss, ddof = 1. Sheikholeslami 2023.

    Where no sample was observed more than once it is the mean loss instead (as in the paper's code), which
    the scores' metadata then says.
    """
    return d.variance("loss", ddof=1) if (d.count > 1).any() else d.mean("loss")


@measure("forgetting", high="hard", needs=("correct",))
def forgetting(d: Dynamics) -> Array:
    """How often the sample went from correct to wrong; +inf where it was never correct. Toneva et al.
    2019.
    """
    assert d.forgotten is not None
    assert d.correct is not None
    return _observed(d, np.where(d.correct > 0, d.forgotten, np.inf))


@measure("first_learned", high="hard", needs=("correct",))
def first_learned(d: Dynamics) -> Array:
    """The first epoch, from 0, in which the sample was correct; +inf where none. Toneva et al. 2019."""
    assert d.first_learned is not None
    assert d.correct is not None
    return _observed(d, np.where(d.correct > 0, d.first_learned, np.inf))


@measure("unforgettable", high="settled", needs=("correct",))
def unforgettable(d: Dynamics) -> Array:
    """1 where the sample was learned and never forgotten after, else 0. Toneva et al. 2019."""
    assert d.forgotten is not None
    assert d.correct is not None
    return _observed(d, (d.correct > 0) & (d.forgotten == 0))


@measure("confidence", high="easy", needs=("p_true",))
def confidence(d: Dynamics) -> Array:
    """Mean probability of the target. Swayamdipta et al. 2020."""
    return d.mean("p_true")


@measure("variability", high="ambiguous", needs=("p_true",))
def variability(d: Dynamics) -> Array:
    """Standard deviation of the target's probability, ddof = 0. Swayamdipta et al. 2020."""
    return np.sqrt(d.variance("p_true", ddof=0))


@measure("correctness", high="easy", needs=("correct",))
def correctness(d: Dynamics, fraction: bool = False) -> Array:
    """How often correct, 0 to E; ``fraction``: of the observations. Swayamdipta et al. 2020."""
    assert d.correct is not None
    return d.correct / _observed(d, d.count if fraction else np.ones_like(d.count))


@measure("threshold_closeness", high="ambiguous", needs=("p_true",))
def threshold_closeness(d: Dynamics) -> Array:
    """m (1 - m) of the mean probability m of the target. Chang et al. 2017; Swayamdipta et al. 2020."""
    return d.mean("p_true") * d.mean("p_false")


@measure("prediction_variance", high="ambiguous", needs=("p_true",))
def prediction_variance(d: Dynamics) -> Array:
    """sqrt(v + v^2 / (E - 1)), v the variance of the target's probability. Chang et al. 2017."""
    v = d.variance("p_true", ddof=0)
    return np.sqrt(v + v * v / np.where(d.count > 1, d.observations - 1, np.nan))


@measure("el2n", high="hard", needs=("el2n",))
def el2n(d: Dynamics) -> Array:
    """Mean of ||p - onehot(y)||_2, 0 to sqrt(2). Paul et al. 2021."""
    return d.mean("el2n")


@measure("aum", high="easy", needs=("margin",))
def aum(d: Dynamics) -> Array:
    """Mean margin of the target's logit over the largest other; low: a suspect label. Pleiss et al. 2020."""
    return d.mean("margin")


@measure("entropy", high="ambiguous", needs=("entropy",))
def entropy(d: Dynamics) -> Array:
    """Mean entropy of the predicted distribution, in nats."""
    return d.mean("entropy")
