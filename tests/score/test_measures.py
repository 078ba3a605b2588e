"""Measures by hand and in hard cases; and what score() refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pyimportance
from pyimportance import ArgumentError, Dynamics, Tracker, score
from pyimportance.score.reference import row_statistics
from tests.score.oracle import VARIANCES, agree, variants


@pytest.mark.parametrize("wobble", [1e-6, 1e-4, 1e-3, 1e-2])
def test_variances_of_nearly_constant_series(isa: str, wobble: float, rng: np.random.Generator) -> None:
    """The deviations are far below the mean: what a float32 pass, or E[x^2] - E[x]^2, would lose."""
    base = rng.normal(size=(200, 10)) * 3
    y = rng.integers(0, 10, 200)
    epochs = [(base * (1 + wobble * rng.normal(size=base.shape))).astype(np.float32) for _ in range(20)]
    tracker, rows = Tracker(200), []
    for z in epochs:
        tracker.observe(np.arange(200), z, y)
        tracker.end_epoch()
        rows.append(row_statistics(z, y))
    history = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    for name in VARIANCES:
        agree(name, score(tracker.dynamics(), name).values, history)


def test_nothing_is_lost_over_a_thousand_epochs(rng: np.random.Generator) -> None:
    base, y = rng.normal(size=(8, 5)), rng.integers(0, 5, 8)
    tracker, rows = Tracker(8), []
    for _ in range(1000):
        z = (base + 1e-4 * rng.normal(size=base.shape)).astype(np.float32)
        tracker.observe(np.arange(8), z, y)
        tracker.end_epoch()
        rows.append(row_statistics(z, y))
    history = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    dynamics = tracker.dynamics()
    assert dynamics.epochs == 1000
    for name, options in variants(dynamics, 5):
        agree(name, score(dynamics, name, **options).values, history, **options)


NAN = np.nan
HISTORY = {  # samples: forgotten twice; never learned; seen once; never seen; always right
    "correct": [[1, 0, 1, NAN, 1], [0, 0, NAN, NAN, 1], [1, 0, NAN, NAN, 1], [0, 0, NAN, NAN, 1]],
    "p_true": [
        [0.5, 0.1, 0.6, NAN, 1],
        [0.3, 0.1, NAN, NAN, 1],
        [0.5, 0.1, NAN, NAN, 1],
        [0.3, 0.1, NAN, NAN, 1],
    ],
}


@pytest.mark.parametrize(
    ("name", "want", "descending"),
    [
        ("forgetting", [2, np.inf, 0, NAN, 0], True),
        ("first_learned", [0, np.inf, 0, NAN, 0], True),
        ("unforgettable", [0, 0, 1, NAN, 1], False),
        ("correctness", [2, 0, 1, NAN, 4], False),
        ("confidence", [0.4, 0.1, 0.6, NAN, 1], False),
        ("variability", [0.1, 0, 0, NAN, 0], True),
        ("threshold_closeness", [0.24, 0.09, 0.24, NAN, 0], True),
        ("prediction_variance", [np.sqrt(0.01 + 0.01**2 / 3), 0, NAN, NAN, 0], True),
    ],
)
def test_by_hand(name: str, want: list[float], descending: bool) -> None:
    scores = score(Dynamics.from_history(**HISTORY), name)
    np.testing.assert_allclose(scores.values, np.float32(want), rtol=1e-6, atol=1e-8)
    assert (scores.descending, scores.measure, scores.ids) == (descending, name, None)
    assert scores.metadata == {"epochs": "4"}


def test_loss_variance_falls_back_and_says_so() -> None:
    once = score(Dynamics.from_history(loss=[[1.0, 2.0, NAN]]), "loss_variance")
    np.testing.assert_array_equal(once.values, np.float32([1, 2, NAN]))
    assert once.metadata["fallback"] == "loss_mean: no sample was observed more than once"
    twice = score(Dynamics.from_history(loss=[[1.0, 2.0, NAN], [3.0, NAN, NAN]]), "loss_variance")
    np.testing.assert_array_equal(twice.values, np.float32([2, NAN, NAN]))
    assert "fallback" not in twice.metadata


def test_options() -> None:
    dynamics = Dynamics.from_history(**HISTORY)
    fraction = score(dynamics, "correctness", fraction=True)
    np.testing.assert_array_equal(fraction.values, np.float32([0.5, 0, 1, NAN, 1]))
    assert fraction.metadata == {"epochs": "4", "fraction": "True"}
    assert score(dynamics, "correctness", descending=True).descending
    with pytest.raises(ArgumentError, match="'correctness' has no option 'part'; its options are fraction"):
        score(dynamics, "correctness", part=True)
    with pytest.raises(ArgumentError, match="'confidence' has no option 'fraction'; it has none"):
        score(dynamics, "confidence", fraction=True)
    with pytest.raises(
        ArgumentError, match="measure='hardness': must be one of loss_mean, loss_variance, forg"
    ):
        score(dynamics, "hardness")


def test_a_measure_of_what_was_not_recorded() -> None:
    tracker = Tracker(3)
    tracker.observe_loss([0, 1], [0.5, 1.0])
    tracker.end_epoch()
    text = r"'forgetting' needs correct, which was not recorded \(only loss\); possible are loss_mean, loss_v"
    with pytest.raises(ArgumentError, match=text):
        score(tracker.dynamics(), "forgetting")
    np.testing.assert_array_equal(score(tracker.dynamics()).values, np.float32([0.5, 1, NAN]))


def test_nothing_observed() -> None:
    tracker = Tracker(4)
    with pytest.raises(ArgumentError, match="nothing was recorded"):
        score(tracker.dynamics())


@pytest.mark.parametrize("wrong", [None, [1.0], "dynamics.npz"])
def test_a_score_of_something_else(wrong: Any) -> None:
    with pytest.raises(ArgumentError, match=r"dynamics(: NoneType|\[0\]: float|: str); must be Dynamics"):
        score(wrong)


def test_the_folder_is_the_verb() -> None:
    assert pyimportance.score(Dynamics.from_history(loss=[[1.0]])).values.tolist() == [1]
    from pyimportance.score import measures as module

    assert module.score is not pyimportance.score
