"""stripes: rank mod workers, so that every worker sees all degrees of importance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyimportance.order.policies.task import Task
from pyimportance.order.policies.turns import turns


def assign(task: Task) -> npt.NDArray[np.int32]:
    """Owners int32 [N] by rank (Sheikholeslami 2023, "stripes")."""
    return turns(task)
