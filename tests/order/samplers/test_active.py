"""Chang's rules: probabilities and weights are what the paper says, and ISD corrects itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyimportance import ArgumentError, Scores
from pyimportance.order.samplers.active import (
    DRAWING,
    WEIGHING,
    ActiveSampling,
    ActiveWeighting,
    batch_weights,
)

N = 60
VALUES = np.random.default_rng(1).random(N) ** 3
MEASURE = {"PV": "prediction_variance", "TC": "threshold_closeness", "D": "confidence", "E": "confidence"}


def scores(rule: str) -> Scores:
    return Scores(VALUES.astype(np.float32), ids=np.arange(N) * 3, measure=MEASURE[rule.lstrip("ISW")])


def masses(rule: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    p = VALUES.astype(np.float32).astype(np.float64)
    s = 1 - p if rule.endswith("D") else p
    return s + s.mean()


@pytest.mark.parametrize("rule", DRAWING)
def test_samples_are_drawn_as_likely_as_they_should(rule: str) -> None:
    """Pearson's chi-squared of 300 epochs against P ~ s + eps, within 5 standard deviations."""
    draws = [ActiveSampling(rule).sample(scores(rule), epoch, 3) for epoch in range(300)]
    counts = np.bincount(np.concatenate([d.ids for d in draws]) // 3, minlength=N)
    expected = 300 * N * masses(rule) / masses(rule).sum()
    chi2 = (np.square(counts - expected) / expected).sum()
    assert abs(chi2 - (N - 1)) < 5 * np.sqrt(2 * (N - 1))
    uniform = np.square(counts - 300).sum() / 300
    assert uniform > 2 * N  # what the test would say of a uniform draw
    assert all(d.biased == (rule != "ISD") for d in draws)
    if rule != "ISD":
        assert all((d.weights == 1).all() for d in draws)


@pytest.mark.parametrize("fraction", [1.0, 0.3])
def test_isd_corrects_its_bias(fraction: float, z: Any) -> None:
    f = np.random.default_rng(2).normal(size=N) + VALUES * 2  # hard samples differ
    P = masses("ISD") / masses("ISD").sum()
    n = round(fraction * N)
    X = f / (N * P)
    variance = n * (P @ X**2 - (P @ X) ** 2)
    draws = [ActiveSampling("ISD", fraction=fraction).sample(scores("ISD"), e, 11) for e in range(1000)]
    assert all(d.num_samples == n for d in draws)
    sums = [float(d.weights.astype(np.float64) @ f[d.ids // 3]) for d in draws]
    assert abs(z(sums, n / N * f.sum(), variance)) < 4
    assert 0.8 < np.var(sums) / variance < 1.25
    uncorrected = [float(f[d.ids // 3].sum()) for d in draws]
    plain = n * (P @ f**2 - (P @ f) ** 2)
    assert abs(z(uncorrected, n / N * f.sum(), plain)) > 8  # the test can fail


@pytest.mark.parametrize("rule", WEIGHING)
def test_weights(rule: str) -> None:
    draw = ActiveWeighting(rule).sample(scores(rule), 4)
    assert sorted(draw.ids.tolist()) == (np.arange(N) * 3).tolist()
    np.testing.assert_allclose(draw.weights, (masses(rule) / masses(rule).mean())[draw.ids // 3], rtol=1e-6)
    assert draw.biased
    for start in range(0, N, 7):
        part = draw.weights[start : start + 7]
        batch = batch_weights(part)
        assert batch.dtype == np.float32
        assert batch.mean(dtype=np.float64) == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(batch / batch[0], part / part[0], rtol=1e-6)


@given(st.lists(st.floats(0, 1e308), max_size=50))
def test_batch_weights_have_mean_1(weights: list[float]) -> None:
    batch = batch_weights(np.array(weights))
    assert not weights or batch.mean(dtype=np.float64) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("sampler", [ActiveSampling("SPV", burn_in=2), ActiveWeighting("WPV", burn_in=2)])
def test_the_burn_in_is_an_ordinary_epoch(sampler: Any) -> None:
    unseen = Scores(np.full(N, np.nan, np.float32), measure="prediction_variance")
    for epoch in (0, 1):
        draw = sampler.sample(unseen, epoch)
        assert sorted(draw.ids.tolist()) == list(range(N))
        assert not draw.biased
        assert (draw.weights == 1).all()
    assert sampler.sample(unseen, 2).biased
    part = ActiveSampling("SPV", burn_in=1, fraction=0.25).sample(unseen, 0)
    assert len(set(part.ids.tolist())) == 15


@pytest.mark.parametrize("value", [0.0, 0.3, np.nan])
def test_constant_scores_are_uniform(value: float) -> None:
    same = Scores(np.full(40, value, np.float32))
    assert (ActiveWeighting("WD").sample(same, 0).weights == 1).all()
    np.testing.assert_allclose(ActiveSampling("ISD").sample(same, 0).weights, 1, rtol=1e-6)


def test_who_was_never_observed_counts_as_average() -> None:
    some = Scores(np.array([0.0, np.nan, 0.2, 0.4], np.float32), measure="prediction_variance")
    draw = ActiveWeighting("WPV").sample(some, 0)
    weights = dict(zip(draw.ids.tolist(), draw.weights.tolist(), strict=True))
    assert [weights[i] for i in range(4)] == pytest.approx([0.5, 1, 1, 1.5])


def test_nothing_is_drawn_of_fraction_0() -> None:
    assert ActiveSampling("ISD", fraction=0).sample(scores("ISD"), 0).num_samples == 0


@pytest.mark.parametrize(
    ("rule", "values", "measure", "text"),
    [
        ("SPV", [1.0], "loss_mean", "scores: of loss_mean; rule SPV needs those of prediction_variance"),
        ("ISD", [1.0], "threshold_closeness", "rule ISD needs those of confidence"),
        ("SPV", [0.0, np.inf], "custom", "scores: inf for sample 1; rule SPV needs them finite and >= 0"),
        ("STC", [0.0, -1.0], "threshold_closeness", "scores: -1.0 for sample 1"),
        ("SD", [0.0, 1.5], "confidence", r"scores: 1.5 for sample 1; rule SD needs them within 0\.\.1"),
        ("SE", [0.0, -0.5], "custom", r"scores: -0.5 for sample 1; rule SE needs them within 0\.\.1"),
    ],
)
def test_scores_that_do_not_fit(rule: str, values: list[float], measure: str, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        ActiveSampling(rule).sample(Scores(np.array(values, np.float32), measure=measure), 0)


def test_wrong_arguments() -> None:
    with pytest.raises(ArgumentError, match="rule='WPV': must be one of SPV, STC, SD, ISD, SE"):
        ActiveSampling("WPV")
    with pytest.raises(ArgumentError, match="rule='SPV': must be one of WPV, WTC, WD, WE"):
        ActiveWeighting("SPV")
    with pytest.raises(ArgumentError, match="burn_in=-1: must be at least 0"):
        ActiveWeighting("WD", burn_in=-1)
    with pytest.raises(ArgumentError, match=r"fraction=1\.5: must be within 0\.\.1"):
        ActiveSampling("SD", fraction=1.5)
    with pytest.raises(ArgumentError, match="weights: nan at position 1; must be finite"):
        batch_weights(np.array([1.0, np.nan]))
