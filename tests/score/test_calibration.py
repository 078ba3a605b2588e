"""The temperature against the optimum found otherwise, calibration errors against a plain loop."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pyimportance import ArgumentError, Calibration, calibration, fit_temperature
from pyimportance.score.reference import row_statistics, softmax


def overconfident(rng: np.random.Generator, rows: int, temperature: float) -> tuple[Any, Any]:
    """Logits whose targets are drawn from softmax(logits / temperature)."""
    z = rng.normal(size=(rows, 5)) * 2
    targets = (softmax(z).cumsum(1) < rng.random((rows, 1))).sum(1)
    return z * temperature, targets


@pytest.mark.parametrize("temperature", [1e-6, 0.2, 1.0, 3.0, 1e8])
def test_the_temperature_that_the_targets_were_drawn_at(temperature: float, rng: np.random.Generator) -> None:
    z, y = overconfident(rng, 200_000, temperature)
    assert fit_temperature(z, y) == pytest.approx(temperature, rel=0.02)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(2, 300),
    spread=st.sampled_from([1e-3, 1.0, 30.0, 1e4]),
    masked=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_loss_is_least_there(rows: int, spread: float, masked: bool, seed: int) -> None:
    """Where it exists: the mean loss is the mean entropy, and larger to either side."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(rows, 4)) * spread
    y = np.where(rng.random(rows) < 0.5, z.argmax(1), rng.integers(0, 4, rows))
    if masked:
        z[np.arange(rows), (y + 1) % 4] = -np.inf
    target = z[np.arange(rows), y]
    finite = np.isfinite(z)
    mean = np.where(finite, z, 0).sum(1) / finite.sum(1)
    assume((target < z.max(1)).any() and (target - mean).sum() > 1e-3 * spread)
    temperature = fit_temperature(z, y)
    at = {f: row_statistics(z / (temperature * f), y) for f in (0.99, 1.0, 1.01)}
    assert at[1.0]["loss"].mean() == pytest.approx(at[1.0]["entropy"].mean(), rel=1e-8)
    assert at[1.0]["loss"].mean() < min(at[0.99]["loss"].mean(), at[1.01]["loss"].mean())


def test_types_and_blocks(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    z, y = overconfident(rng, 5000, 2.0)
    z = z.astype(np.float16)
    whole = fit_temperature(z, y), calibration(y, logits=z).ece
    monkeypatch.setattr("pyimportance.score.predictions.BLOCK", 35)
    pieces = fit_temperature(torch.from_numpy(z), y.astype(np.uint8)), calibration(list(y), logits=z).ece
    assert pieces == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize(
    ("logits", "targets", "text"),
    [
        (
            [[2.0, 1], [0, 3]],
            [0, 1],
            "every target has the largest of its row, and the loss falls as T goes to 0",
        ),
        ([[2.0, 2]], [1], "every target has the largest of its row"),
        ([[0.0], [3]], [0, 0], "every target has the largest of its row"),
        ([[2.0, 1], [0, 3]], [1, 0], "targets have no more than the mean of their row, .* to infinity"),
        ([[2.0, -np.inf, 1], [0, 3, 1]], [2, 0], "targets have no more than the mean"),
        ([[2.0, 1], [0, -np.inf]], [1, 1], "logits: -inf at row 1 for its target; its loss is infinite"),
        ([[2.0, np.nan]], [1], "logits: nan at row 0, class 1; must be finite, or -inf"),
        ([[2.0, 1], [-np.inf, -np.inf]], [1, 1], "logits: row 1 is -inf for every class"),
        ([[2.0, 1]], [2], "targets: 2 at row 0; must be at least 0 and below 2"),
        ([[2.0, 1]], [0, 1], "targets: 2 of them for 1 rows"),
        (np.zeros((0, 3)), [], "logits: no row; a temperature needs some"),
        (np.zeros((2, 0)), [0, 0], r"logits: shape \[2, 0\]; there must be at least one class"),
        ([2.0, 1.0], [0], r"logits: float64 of shape \[2\]; must be floating point \[N, C\]"),
        (None, [0], "logits, probs: exactly one of the two must be given"),
    ],
)
def test_no_temperature(logits: Any, targets: Any, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        fit_temperature(logits, targets)


def by_loop(p: npt.NDArray[np.float64], y: npt.NDArray[np.int64], bins: int) -> tuple[float, float]:
    """(ECE, debiased squared error), straight from the definition."""
    confidence, right = p.max(1), p.argmax(1) == y
    ece = squared = 0.0
    edges = np.linspace(0, 1, bins + 1)
    for low, high in pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        n = int(inside.sum())
        if n:
            gap, acc = confidence[inside].mean() - right[inside].mean(), right[inside].mean()
            ece += n / len(y) * abs(gap)
            squared += n / len(y) * (gap**2 - (acc * (1 - acc) / (n - 1) if n > 1 else 0))
    return ece, squared


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 400),
    classes=st.integers(1, 6),
    bins=st.integers(1, 20),
    seed=st.integers(0, 2**32 - 1),
)
def test_calibration_against_a_loop(rows: int, classes: int, bins: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(classes), rows)
    y = rng.integers(0, classes, rows)
    got = calibration(y, probs=p, bins=bins)
    p /= p.sum(1, keepdims=True)
    assert (got.ece, got.squared_error) == pytest.approx(by_loop(p, y, bins), abs=1e-12)
    assert got.count.sum() == rows


def test_by_hand() -> None:
    """0.75 and 0.5 lie in the bins that end there; a bin of one sample has nothing subtracted."""
    probs = [[0.75, 0.25], [0.75, 0.25], [0.5, 0.5], [1.0, 0.0]]
    got = calibration([0, 1, 0, 1], probs=probs, bins=4)
    np.testing.assert_array_equal(got.count, [0, 1, 2, 1])
    np.testing.assert_array_equal(got.confidence, [np.nan, 0.5, 0.75, 1])
    np.testing.assert_array_equal(got.accuracy, [np.nan, 1, 0.5, 0])
    assert got.ece == pytest.approx((0.5 + 2 * 0.25 + 1) / 4)
    assert got.squared_error == pytest.approx((0.25 + 2 * (0.0625 - 0.25) + 1) / 4)


def test_the_debiased_error_of_calibrated_predictions_is_none_on_average(rng: np.random.Generator) -> None:
    errors = []
    for _ in range(400):
        p = np.stack([x := rng.uniform(0.5, 1, 200), 1 - x], 1)
        y = (rng.random(200) > x).astype(np.int64)
        errors.append((calibration(y, probs=p).squared_error, calibration(y, probs=p).ece))
    mean, ece = np.mean(errors, 0)
    assert abs(mean) < 3 * np.std(errors, 0)[0] / 20
    assert ece > 0.03  # which the plain error is not


def test_temperature_calibrates(rng: np.random.Generator) -> None:
    z, y = overconfident(rng, 100_000, 4.0)
    before = calibration(y, logits=z)
    after = calibration(y, logits=z, temperature=fit_temperature(z, y))
    assert before.ece > 0.2
    assert after.ece < 0.01
    assert isinstance(after, Calibration)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"probs": [[0.5, 0.6]]}, "probs: row 0 sums to 1.1; must be 1, give or take 0.01"),
        ({"probs": [[0.5, np.nan]]}, "probs: nan at row 0, class 1; must be within 0..1"),
        ({"probs": [[2.0, -1.0]]}, "probs: 2 at row 0, class 0; must be within 0..1"),
        ({"probs": [[0.5, 0.5]], "bins": 0}, "bins=0: must be at least 1"),
        ({"probs": [[0.5, 0.5]], "temperature": 3}, "temperature=3: is of logits"),
        ({"logits": [[0.5, 0.5]], "temperature": -1}, "temperature=-1: must be a finite number"),
        ({"probs": np.zeros((0, 2))}, "targets: 1 of them for 0 rows"),
    ],
)
def test_what_calibration_refuses(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        calibration([0], **arguments)
