"""The verbs: which measures there are, and one of them applied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pyimportance.errors import ArgumentError
from pyimportance.score.dynamics import Dynamics
from pyimportance.score.measures import runs as over_runs
from pyimportance.score.measures.registry import IMPORTANT, REGISTRY, Measure, find, recorded
from pyimportance.score.values import Scores


def measures(dynamics: Dynamics | None = None) -> tuple[str, ...]:
    """The names that `score` knows; of a Dynamics, those that it can be scored by with nothing else given."""
    if dynamics is None:
        return tuple(REGISTRY)
    there = recorded(dynamics)
    return tuple(m.name for m in REGISTRY.values() if not m.lacks(there, {}) and not m.required)


def score(
    dynamics: Dynamics | Sequence[Dynamics],
    measure: str = "loss_mean",
    *,
    descending: bool | None = None,
    **options: Any,
) -> Scores:
    """One score per sample, float32.

    dynamics    of one run, or of several runs over the same samples
    measure     one of `measures()`
    descending  whether a high score is the more important; by default as suits the measure: the important end
                is hard, ambiguous, rare, suspect or worth learning
    options     of the measure: correctness(fraction=False)

    Over several runs a mean of observations is that of all runs' observations, each weighing alike
    (loss_mean, confidence, el2n, aum, ...; perplexity and threshold_closeness are computed from such means);
    counts are added up, and to `forgetting` a run in which the sample was never learned adds its
    observations; `unforgettable` must hold in every run; first_learned is of one run, and refused; every
    other measure is the mean of its scores over the runs that give it one. A run that never observed a
    sample says nothing of it. The scores' metadata say how many runs there were, and of how many epochs each.

    Raises ArgumentError for an unknown measure or option, where the measure needs what was not recorded, and
    where runs are not of equally many samples or of other keys.
    """
    if isinstance(dynamics, Dynamics):
        runs = [dynamics]
    elif isinstance(dynamics, (list, tuple)):
        runs = over_runs.check(dynamics)
    else:
        raise ArgumentError(
            f"dynamics: {type(dynamics).__name__}; must be Dynamics (Tracker.dynamics, "
            "Dynamics.from_history), or a list of them"
        )
    chosen = find(measure)
    arguments = chosen.resolve(options, runs[0].num_samples)
    for at, run in enumerate(runs):
        _check_recorded(run, chosen, arguments, "dynamics" if run is dynamics else f"dynamics[{at}]")
    if len(runs) > 1 and chosen.runs is None:
        raise ArgumentError(
            f"dynamics: {len(runs)} runs; measure {measure!r} is of one, score them one by one"
        )
    metadata = {"epochs": ", ".join(str(run.epochs) for run in runs)}
    metadata |= {} if runs[0] is dynamics else {"runs": str(len(runs))}
    for name, value in options.items():  # an option "epochs" does not say how many there were
        metadata[f"{chosen.name}_{name}" if name in metadata else name] = _told(value)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        each = [chosen.function(run, **arguments) for run in runs]
        if len(runs) > 1 and chosen.runs is not None:
            each = [chosen.runs(runs, np.stack(each), arguments)]
        values = each[0].astype(np.float32)
    if chosen.notes is not None:
        metadata |= chosen.notes(runs, values)
    important = IMPORTANT[chosen.high] if descending is None else descending
    keys = next((run.keys for run in runs if run.keys is not None), None)
    return Scores(values=values, measure=chosen.name, descending=important, keys=keys, metadata=metadata)


def _check_recorded(run: Dynamics, chosen: Measure, arguments: dict[str, Any], name: str) -> None:
    """ArgumentError where a run lacks what the measure needs."""
    if not run.quantities:
        raise ArgumentError(f"{name}: nothing was recorded; observe a batch and end its epoch first")
    there = recorded(run)
    if missing := chosen.lacks(there, arguments):
        raise ArgumentError(
            f"{'' if name == 'dynamics' else name + ': '}measure {chosen.name!r} needs "
            f"{', '.join(missing)}, which was not recorded (only {', '.join(there)}); possible are "
            f"{', '.join(measures(run))}"
        )


def _told(value: Any) -> str:
    """An option as metadata: itself, and of arrays what they are."""
    if hasattr(value, "dtype") and hasattr(value, "shape") and value.shape:
        return f"{value.dtype} {list(value.shape)}"
    return str(value)
