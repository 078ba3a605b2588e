"""argsort: the positions of the values in order of importance."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def argsort(values: npt.NDArray[Any], *, descending: bool = True) -> npt.NDArray[np.int64]:
    """Positions int64 [N] of ``values`` [N] in order: stable, NaN last whichever the direction."""
    keys = -values.astype(np.float64) if descending else values
    return np.argsort(keys, kind="stable").astype(np.int64)
