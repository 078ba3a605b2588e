"""What a measure comes to over several training runs of the same samples: one rule for each kind of measure.

A run that never observed a sample says nothing of it; a sample that no run observed has no score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError
from pyimportance.score.dynamics import Dynamics

Array = npt.NDArray[np.float64]


def mean(runs: Sequence[Dynamics], values: Array, options: Mapping[str, Any]) -> Array:
    """The mean of the scores [R, N] of the runs that have one."""
    there = ~np.isnan(values)
    return _quotient(np.where(there, values, 0.0).sum(0), there.sum(0))


def of_observations(runs: Sequence[Dynamics], values: Array, options: Mapping[str, Any]) -> Array:
    """The mean over the observations of all runs together. Of the latest ones, or of those of chosen epochs,
    it is the mean over runs, each of which chose as many.
    """
    if options.get("latest") or options.get("epochs") is not None:
        return mean(runs, values, options)
    weights: Array = np.stack([run.count if run.weight is None else run.weight for run in runs])
    weights = np.where(np.isnan(values), 0.0, weights)
    return _quotient(np.where(weights > 0, weights * values, 0.0).sum(0), weights.sum(0))


def of_perplexity(runs: Sequence[Dynamics], values: Array, options: Mapping[str, Any]) -> Array:
    """exp of the mean loss over the observations of all runs together."""
    return np.exp(_together(runs, "loss"))


def of_threshold(runs: Sequence[Dynamics], values: Array, options: Mapping[str, Any]) -> Array:
    """m (1 - m) of the mean m over the observations of all runs: mean first, then the product."""
    return _together(runs, "p_true") * _together(runs, "p_false")


def of_variances(runs: Sequence[Dynamics], values: Array, options: Mapping[str, Any]) -> Array:
    """The mean of the runs' variances; of their fallback where no run has a variance."""
    varied = np.array([bool((run.count > 1).any()) for run in runs])
    return mean(runs, values[varied] if varied.any() else values, options)


def of_counts(runs: Sequence[Dynamics], values: Array, options: Mapping[str, Any]) -> Array:
    """The sum; of fractions, that of all observations."""
    if options.get("fraction"):
        whole = np.stack([run.count for run in runs])  # of counts, which do not fade
        return _quotient(np.nansum(values * whole, 0), whole.sum(0))
    return np.where(_seen(runs), np.nansum(values, 0), np.nan)


def of_forgetting(runs: Sequence[Dynamics], values: Array, options: Mapping[str, Any]) -> Array:
    """The sum, in which a run that observed the sample E times and never learned it counts E; +inf where none
    ever learned it. Toneva et al. 2019.
    """
    never = np.isinf(values)
    counts = np.where(never, np.stack([run.count for run in runs]), values)
    learned = (~never & ~np.isnan(values)).any(0)
    return np.where(_seen(runs), np.where(learned, np.nansum(counts, 0), np.inf), np.nan)


def all_of(runs: Sequence[Dynamics], values: Array, options: Mapping[str, Any]) -> Array:
    """1 where it is 1 in every run that observed the sample."""
    return np.where(_seen(runs), np.nanmin(np.where(np.isnan(values), 1.0, values), 0), np.nan)


def check(runs: Sequence[Any]) -> list[Dynamics]:
    """ArgumentError unless these are Dynamics, at least one, of the same samples."""
    known: tuple[str, ...] | None = None
    for at, run in enumerate(runs):
        if not isinstance(run, Dynamics):
            raise ArgumentError(f"dynamics[{at}]: {type(run).__name__}; must be Dynamics")
        if run.num_samples != runs[0].num_samples:
            raise ArgumentError(
                f"dynamics[{at}]: {run.num_samples} samples; dynamics[0] is of {runs[0].num_samples}, and "
                "all runs must be of the same samples"
            )
        if run.keys is not None and known is not None and run.keys != known:
            raise ArgumentError(
                f"dynamics[{at}]: has other keys than a run before it; must be of the same samples"
            )
        known = known or run.keys
    if not runs:
        raise ArgumentError("dynamics: no runs; must be at least one")
    return list(runs)


def _together(runs: Sequence[Dynamics], quantity: str) -> Array:
    return of_observations(runs, np.stack([run.mean(quantity) for run in runs]), {})


def _seen(runs: Sequence[Dynamics]) -> npt.NDArray[np.bool_]:
    there: npt.NDArray[np.bool_] = np.any([run.count > 0 for run in runs], axis=0)
    return there


def _quotient(total: Array, divisor: npt.NDArray[Any]) -> Array:
    """NaN where there is nothing to divide by."""
    quotient: Array = total / np.where(divisor > 0, divisor, np.nan)
    return quotient
