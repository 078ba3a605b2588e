"""Label quality of given predictions, against the formulas and a training run's latest observation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimportance import ArgumentError, Ensemble, Tracker, label_quality, score
from pyimportance.score.labels import LABEL_MEASURES
from pyimportance.score.reference import softmax


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(0, 60), classes=st.integers(2, 6), seed=st.integers(0, 2**32 - 1))
def test_against_the_formulas(rows: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    probs, y = rng.dirichlet(np.full(classes, 0.3), rows), rng.integers(0, classes, rows)
    want: dict[str, list[float]] = {name: [] for name in LABEL_MEASURES}
    for p, k in zip(probs, y, strict=True):
        want["self_confidence"].append(p[k])
        want["normalized_margin"].append((p[k] - max(np.delete(p, k)) + 1) / 2)
        entropy = -sum(x * np.log(x) for x in p if x > 0)
        r = entropy / np.log(classes) / max(p[k], 1e-6)
        want["confidence_weighted_entropy"].append(np.log(r + 1) / max(r, 1e-6))
    for name in LABEL_MEASURES:
        got = label_quality(y, probs=probs, measure=name)
        np.testing.assert_allclose(got.values, np.float32(want[name]), rtol=1e-5, atol=1e-7, err_msg=name)
        assert (got.measure, got.descending) == (name, False)


def test_the_same_as_of_the_latest_observation(rng: np.random.Generator) -> None:
    z = (rng.normal(size=(50, 4)) * 3).astype(np.float32)
    y = rng.integers(0, 4, 50)
    tracker = Tracker(50)
    tracker.observe(np.arange(50), z, y)
    tracker.end_epoch()
    for name in LABEL_MEASURES:
        options: dict[str, Any] = {"classes": 4} if name == "confidence_weighted_entropy" else {}
        want = score(tracker.dynamics(), name, **options)
        got = label_quality(y, logits=z, measure=name)
        np.testing.assert_allclose(got.values, want.values, rtol=1e-5, atol=1e-6, err_msg=name)
        assert got.descending == want.descending


def test_of_a_cross_validation_and_a_temperature(rng: np.random.Generator) -> None:
    z, y = rng.normal(size=(20, 3)), rng.integers(0, 3, 20)
    folds = Ensemble(20, 3)
    for held_out in np.array_split(rng.permutation(20), 4):
        folds.add_batch(held_out, logits=z[held_out], temperature=2.0)
        folds.end_member()
    got = label_quality(y, probs=folds.mean_probs()).values
    np.testing.assert_allclose(got, softmax(z / 2)[np.arange(20), y], rtol=1e-6)
    np.testing.assert_allclose(label_quality(y, logits=z, temperature=2.0).values, got, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"probs": [[1.0]]}, "probs: 1 class; there must be at least 2"),
        (
            {"probs": [[0.5, 0.5]], "measure": "entropy"},
            "measure='entropy': must be one of self_confidence, n",
        ),
        ({"probs": [[0.5, 0.2]]}, "probs: row 0 sums to 0.7"),
        ({"probs": [[0.5, 0.5]] * 2}, "targets: 1 of them for 2 rows"),
        ({"logits": [[0.5, np.inf]]}, "logits: inf at row 0, class 1; must be finite, or -inf"),
    ],
)
def test_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        label_quality([0], **arguments)
