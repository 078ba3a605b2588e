"""blocks: worker i owns ranks [floor(i N / n), floor((i + 1) N / n)), or as many as its count says."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyimportance.order.policies.task import Task


def assign(task: Task) -> npt.NDArray[np.int32]:
    """Owners int32 [N] by rank. All are assigned; the code of Sheikholeslami 2023 drops the remainder."""
    counts = counts_of(task.num_samples, task.workers) if task.counts is None else task.counts
    return np.repeat(np.arange(task.workers, dtype=np.int32), counts)


def counts_of(num_samples: int, workers: int) -> npt.NDArray[np.int64]:
    """int64 [workers]: how many each owns where nothing else says so."""
    return np.diff(np.arange(workers + 1, dtype=np.int64) * num_samples // workers)
