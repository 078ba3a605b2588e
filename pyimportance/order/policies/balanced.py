"""balanced: as many samples for everyone, and nearly as many bytes.

Ranks are cut into strata of as many as there are workers; of each, every worker owns one (with ``counts``,
what stripes would give it there), so that all see all degrees of importance. Within a stratum the largest
sample goes to whoever has the fewest bytes so far, the next one to the next: longest processing time first
(Graham 1969). Strata of very different sizes come first, the even ones level out what those leave.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyimportance import _C
from pyimportance.errors import ArgumentError
from pyimportance.order.policies.task import Task
from pyimportance.order.policies.turns import count_by_stratum, turns


def assign(task: Task) -> npt.NDArray[np.int32]:
    """Owners int32 [N] by rank; two workers differ by about what an even stratum's sizes differ by.

    With ``counts``, bytes per sample are what is made alike. Raises ArgumentError without sizes.
    """
    if task.sizes is None:
        raise ArgumentError("sizes: policy 'balanced' needs the bytes (or cost) of each sample")
    edges = np.append(np.arange(0, task.num_samples, task.workers, dtype=np.int64), task.num_samples)
    return _C.balance(task.sizes, edges, count_by_stratum(turns(task), edges, task.workers))
