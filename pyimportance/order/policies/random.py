"""random: a seeded permutation dealt in turn, blind to the scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyimportance.order.argsort import argsort
from pyimportance.order.policies.task import Task
from pyimportance.order.policies.turns import turns


def assign(task: Task) -> npt.NDArray[np.int32]:
    """Owners int32 [N] by rank; a sample's owner depends on N, counts and seed only, never on its score.

    The permutation is the order of N raw words of PCG64: NumPy keeps a bit generator's stream for good,
    which it does not promise of ``Generator.permutation``.
    """
    words = np.random.PCG64(np.random.SeedSequence(task.seed)).random_raw(task.num_samples)
    owners = np.empty(task.num_samples, np.int32)
    owners[argsort(words, descending=False)] = turns(task)
    return owners[task.order]
