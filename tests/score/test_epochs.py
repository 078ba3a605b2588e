"""What an epoch and an interval are: what has been committed, reset, decayed."""

from __future__ import annotations

import numpy as np
import pytest

from pyimportance import ArgumentError, Dynamics, Tracker, score
from tests.score.runs import batch, bits, run


def test_the_epoch_in_progress_is_not_in_the_dynamics() -> None:
    tracker = run(Tracker(10), range(2), range(10))
    before = bits(tracker.dynamics())
    tracker.observe(*batch(range(10), seed=5))
    assert bits(tracker.dynamics()) == before


def test_reset_begins_a_new_interval() -> None:
    tracker = run(Tracker(10), range(3), range(10))
    assert tracker.dynamics(reset=True).epochs == 3
    assert tracker.dynamics().epochs == 0
    assert np.isnan(score(tracker.dynamics()).values).all()
    run(tracker, range(3, 5), range(10))
    fresh = run(Tracker(10, first_epoch=3), range(3, 5), range(10))
    assert bits(tracker.dynamics()) == bits(fresh.dynamics())
    assert tracker.dynamics().epochs == 2
    assert tracker.epochs == 5


def test_epochs_of_an_interval_count_from_its_own_first() -> None:
    tracker = run(Tracker(30, history="memory"), range(3), range(30))
    tracker.dynamics(True)
    dynamics = run(tracker, range(3, 6), range(30)).dynamics(False, None)
    history = dynamics.history
    assert history is not None
    again = Dynamics.from_history(**{name: history.array(name) for name in history.quantities})
    np.testing.assert_array_equal(dynamics.first_learned, again.first_learned)
    np.testing.assert_array_equal(
        score(dynamics, "first_learned").values, score(again, "first_learned").values
    )


def test_decay_weighs_the_past_less() -> None:
    tracker, kept = Tracker(10), Tracker(10, history="memory")
    weights = []
    for interval in range(3):
        run(tracker, range(2 * interval, 2 * interval + 2), range(10))
        run(kept, range(2 * interval, 2 * interval + 2), range(10))
        weights = [w * 0.5 for w in weights] + [1.0, 1.0]
        dynamics = tracker.dynamics(decay=0.5)
    history = kept.dynamics().history
    assert history is not None
    w = np.array(weights)[:, None]
    for name in ("loss", "p_true", "margin", "el2n", "entropy"):
        x = history.array(name)
        np.testing.assert_allclose(dynamics.mean(name), (w * x).sum(0) / w.sum(), rtol=1e-12)
    for name, ddof in (("loss", 1), ("p_true", 0)):
        x = history.array(name)
        mean = (w * x).sum(0) / w.sum()
        divisor = w.sum() - ddof * (w * w).sum() / w.sum()
        np.testing.assert_allclose(
            dynamics.variance(name, ddof), (w * (x - mean) ** 2).sum(0) / divisor, rtol=1e-11
        )
    np.testing.assert_allclose(dynamics.observations, w.sum() ** 2 / (w * w).sum())
    assert dynamics.count.tolist() == [6] * 10
    np.testing.assert_array_equal(
        score(dynamics, "forgetting").values, score(kept.dynamics(), "forgetting").values
    )


def test_decay_of_one_changes_nothing() -> None:
    plain, decayed = Tracker(10), Tracker(10)
    for epoch in range(3):
        run(plain, range(epoch, epoch + 1), range(10))
        run(decayed, range(epoch, epoch + 1), range(10)).dynamics(decay=1.0)
    assert bits(plain.dynamics()) == bits(decayed.dynamics())
    for wrong in (0, -1, 1.5, np.nan):
        with pytest.raises(ArgumentError, match="must be above 0 and at most 1"):
            plain.dynamics(decay=wrong)
    with pytest.raises(ArgumentError, match="not come with reset=True"):
        plain.dynamics(decay=0.5, reset=True)
