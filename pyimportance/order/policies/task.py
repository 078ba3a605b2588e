"""Task: what a policy is asked to divide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Task:
    """N samples by rank (rank 0: the most important), to be given to ``workers`` workers.

    order    uint32 or int64 [N], the position (ascending sample id) of the sample at each rank
    workers  >= 1
    seed     >= 0
    current  int32 [N], who holds the sample at each rank now, -1 nobody; None: nobody holds anything
    sizes    int64 [N] >= 0, its bytes (or cost); None: all alike
    counts   int64 [workers], of sum N: how many samples each worker gets. None: numbers that differ by at
             most one, the policy says whose are the larger
    values   float32 [N], the score at each rank: equal ones are one point of a distribution; None: all differ
    """

    order: npt.NDArray[np.uint32] | npt.NDArray[np.int64]
    workers: int
    seed: int = 0
    current: npt.NDArray[np.int32] | None = None
    sizes: npt.NDArray[np.int64] | None = None
    counts: npt.NDArray[np.int64] | None = None
    values: npt.NDArray[np.float32] | None = None

    @property
    def num_samples(self) -> int:
        """N."""
        return int(self.order.size)

    def part(self, ranks: npt.NDArray[np.int64] | slice, counts: npt.NDArray[np.int64]) -> Task:
        """The task of dividing the samples at ``ranks`` (ascending) alone."""
        order = self.order[ranks]
        return Task(
            np.searchsorted(np.sort(order), order).astype(np.int64),
            self.workers,
            self.seed,
            None if self.current is None else self.current[ranks],
            None if self.sizes is None else self.sizes[ranks],
            counts,
            None if self.values is None else self.values[ranks],
        )
