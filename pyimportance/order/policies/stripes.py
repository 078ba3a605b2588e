"""stripes: rank mod workers, so that every worker sees all degrees of importance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def assign(
    order: npt.NDArray[np.int64], workers: int, seed: int, current: npt.NDArray[np.int32] | None
) -> npt.NDArray[np.int32]:
    """Owners int32 [N] by rank (Sheikholeslami 2023, "stripes")."""
    return (np.arange(order.size, dtype=np.int64) % workers).astype(np.int32)
