"""blocks: worker i owns ranks [floor(i N / n), floor((i + 1) N / n))."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def assign(
    order: npt.NDArray[np.int64], workers: int, seed: int, current: npt.NDArray[np.int32] | None
) -> npt.NDArray[np.int32]:
    """Owners int32 [N] by rank. All are assigned; the code of Sheikholeslami 2023 drops the remainder."""
    edges = np.arange(workers + 1, dtype=np.int64) * order.size // workers
    return np.repeat(np.arange(workers, dtype=np.int32), np.diff(edges))
