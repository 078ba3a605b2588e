"""snake: 0, 1, .., n-1, n-1, .., 1, 0, ..: stripes without its head start for worker 0."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyimportance.order.policies.task import Task
from pyimportance.order.policies.turns import cycled, deal


def assign(task: Task) -> npt.NDArray[np.int32]:
    """Owners int32 [N] by rank (boustrophedon)."""
    if task.counts is not None:
        return deal(task.counts[None], snake=True)
    there = np.arange(task.workers, dtype=np.int32)
    return cycled(np.concatenate([there, there[::-1]]), task.num_samples)
