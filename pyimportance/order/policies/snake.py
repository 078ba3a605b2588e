"""snake: 0, 1, .., n-1, n-1, .., 1, 0, ..: stripes without its head start for worker 0."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def assign(
    order: npt.NDArray[np.int64], workers: int, seed: int, current: npt.NDArray[np.int32] | None
) -> npt.NDArray[np.int32]:
    """Owners int32 [N] by rank (boustrophedon)."""
    turn, place = np.divmod(np.arange(order.size, dtype=np.int64), workers)
    return np.where(turn % 2 == 0, place, workers - 1 - place).astype(np.int32)
