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


def example(decayed: bool = False, features: bool = False) -> Dynamics:
    rng = np.random.default_rng(3)
    tracker = Tracker(7)
    for epoch in range(4):
        ids = np.arange(epoch % 2, 6)  # 6 is never observed
        z, y = rng.normal(size=(ids.size, 3)).astype(np.float32), rng.integers(0, 3, ids.size)
        tracker.observe(ids, z, y, features=rng.normal(size=(ids.size, 5)) if features else None)
        tracker.end_epoch()
        if decayed:
            tracker.dynamics(decay=0.5)
    return tracker.dynamics()


def assert_equal(a: Dynamics, b: Dynamics) -> None:
    assert (a.epochs, a.classes, a.keys) == (b.epochs, b.classes, b.keys)
    for name in state.DTYPES:
        one, other = getattr(a, name, None), getattr(b, name, None)
        assert (one is None) == (other is None), name
        if one is not None:
            assert one.tobytes() == other.tobytes(), name
