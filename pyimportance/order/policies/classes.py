"""stratified: any policy inside each class, so that every worker has its share of every class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.order.argsort import argsort
from pyimportance.order.policies.task import Task
from pyimportance.order.policies.turns import count_by_stratum, turns


def assign_inside(
    classes: npt.NDArray[np.int64],
    assign: Callable[..., npt.NDArray[np.int32]],
    task: Task,
    **options: Any,
) -> npt.NDArray[np.int32]:
    """Owners int32 [N] by rank: ``assign`` with each class's ranks as if there were no others.

    ``classes`` int64 [N] by rank. What a class leaves over when it is divided evenly goes on where the class
    before it stopped: with n workers, no two differ by more than one sample, in a class or in all.
    """
    by_class = argsort(classes, descending=False)  # stable: by class, then by rank
    change = np.flatnonzero(np.diff(classes[by_class]) != 0) + 1
    edges = np.concatenate([[0], change, [task.num_samples]]).astype(np.int64)
    counts = count_by_stratum(turns(replace(task, current=None)), edges, task.workers)
    owners = np.empty(task.num_samples, np.int32)
    for number, (first, last) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        ranks = by_class[first:last]
        owners[ranks] = assign(task.part(ranks, counts[number]), **options)
    return owners
