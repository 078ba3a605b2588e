"""random: a seeded permutation dealt in turn, blind to the scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyimportance.order.argsort import argsort


def assign(
    order: npt.NDArray[np.int64], workers: int, seed: int, current: npt.NDArray[np.int32] | None
) -> npt.NDArray[np.int32]:
    """Owners int32 [N] by rank; a sample's owner depends on N, workers and seed only, never on its score.

    The permutation is the order of N raw words of PCG64: NumPy keeps a bit generator's stream for good,
    which it does not promise of ``Generator.permutation``.
    """
    words = np.random.PCG64(np.random.SeedSequence(seed)).random_raw(order.size)
    owners = np.empty(order.size, np.int32)
    owners[argsort(words, descending=False)] = np.arange(order.size, dtype=np.int64) % workers
    return owners[order]
