"""What the tests of trackers observe, and how they compare what came of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyimportance import Dynamics, Tracker
from pyimportance.score import state

Batch = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.int64]]


def batch(ids: npt.ArrayLike, seed: int = 0, classes: int = 5) -> Batch:
    ids = np.asarray(ids)
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(ids.size, classes)).astype(np.float32) * 2
    return ids, z, rng.integers(0, classes, ids.size)


def run(tracker: Tracker, epochs: range, ids: npt.ArrayLike) -> Tracker:
    """Epochs of the same samples; what is observed depends on the epoch and the sample only."""
    for epoch in epochs:
        _, z, y = batch(range(tracker.num_samples), seed=epoch)
        tracker.observe(ids, z[ids], y[ids])
        tracker.end_epoch()
    return tracker


def bits(dynamics: Dynamics) -> dict[str, bytes]:
    return {
        name: getattr(dynamics, name).tobytes()
        for name in state.DTYPES
        if getattr(dynamics, name, None) is not None
    }
