"""What a controller is told, checked before training: it must not fail after the warm-up."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimportance.checks import check_fraction
from pyimportance.errors import ArgumentError
from pyimportance.order.capacity import apportion, check_capacity
from pyimportance.score.measures.registry import find

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from pyimportance.load.dataset import ImportanceDataset
    from pyimportance.score.tracker import Tracker
    from pyimportance.train.schedule import Schedule

_RECORDED_BY = {
    "history": "a history: Tracker(..., history=...) keeps one",
    "probs": "the probabilities of all classes, which no tracker keeps: Dynamics.from_history(probs=...)",
    "classes": "the option classes: not all logits are of one number of classes, at least 2",
    "grand": "features: observe(..., features=...) takes the last layer's input",
}


def check_measure(
    measure: str, options: Mapping[str, Any], tracker: Tracker, schedule: Schedule, decay: float | None
) -> dict[str, Any]:
    """All options of the measure, as its formula takes them.

    ArgumentError unless what ``tracker`` records will give scores by the time ``schedule`` asks for them.

    decay  0: scores know the last interval alone
    """
    chosen = find(measure)
    given = chosen.resolve(options, tracker.num_samples)
    check_recorded(measure, options, tracker)
    seen, why = tracker.epochs + schedule.warmup - schedule.ignore, f"warmup={schedule.warmup}"
    if schedule.ignore:
        why += f", ignore={schedule.ignore}"
    if decay is not None and check_fraction("decay", decay) == 0 and schedule.interval < seen:
        seen, why = schedule.interval, f"interval={schedule.interval}, decay={decay}"
    least = given[chosen.least] if isinstance(chosen.least, str) else chosen.least
    if seen < least:
        of = f" with {chosen.least}={least}" if isinstance(chosen.least, str) else ""
        raise ArgumentError(
            f"measure {measure!r}{of} needs {least} observations of a sample, but is asked for after {seen} "
            f"({why})"
        )
    return given


def check_recorded(measure: str, options: Mapping[str, Any], tracker: Tracker) -> None:
    """ArgumentError where the measure needs what ``tracker``, by what it was given so far, records not."""
    there = tracker.recordable
    if missing := find(measure).lacks(there, options):
        classes = (
            f"logits of classes, [B, C], but this tracker is given what records {', '.join(there)} alone"
        )
        raise ArgumentError(f"measure {measure!r} needs {_RECORDED_BY.get(missing[0], classes)}")


def check_capacity_of(dataset: ImportanceDataset, capacity: ArrayLike | None) -> NDArray[Any] | None:
    """``capacity`` as an array [workers], None where there is none.

    ArgumentError where it is not as `partition` wants it, or would have ranks of ``dataset`` repeat samples
    or leave some out.
    """
    if capacity is None:
        return None
    workers, ranks = dataset.shards.workers, dataset.world_size
    array = check_capacity(capacity, workers)
    apportion(array, workers, dataset.shards.num_samples)
    of_ranks = array.reshape(gcd(workers, ranks), -1).sum(axis=1)
    if np.ptp(of_ranks) > 0 and dataset.equalize != "batch":
        raise ArgumentError(
            f"capacity: ranks get shares of {of_ranks.min():g} to {of_ranks.max():g}, but the data set has "
            f"equalize={dataset.equalize!r}; equalize='batch' gives them batches in proportion"
        )
    return array
