"""WeightedSampling: in proportion to the score, with weights that make up for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pyimportance import ArgumentError, Scores
from pyimportance.order.samplers.weighted import WeightedSampling, _inclusion

SCORES = np.array([0, 0.1, 0.2, 0.3, np.nan, 0.5, 1.5, 40, 0.05, 0.7], np.float32)
DRAWS = 1500


@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize("fraction", [0.3, 0.5])
def test_the_expected_weighted_sum_is_the_full_sum(replacement: bool, fraction: float, z: Any) -> None:
    f = np.random.default_rng(5).normal(2, 1, SCORES.size)
    f[7] += 10  # which is there too often
    sampler = WeightedSampling(fraction, replacement)
    draws = [sampler.sample(Scores(SCORES), epoch, 3) for epoch in range(DRAWS)]
    sums = [float(d.weights.astype(np.float64) @ f[d.ids]) for d in draws]
    assert abs(z(sums, fraction * f.sum(), np.var(sums))) < 4
    assert (
        abs(z([float(f[d.ids].sum()) for d in draws], fraction * f.sum(), np.var(sums))) > 4.5
    )  # it can fail
    assert not draws[0].biased


def test_with_replacement_in_proportion() -> None:
    sampler = WeightedSampling(1.0, smoothing=0)
    ids = np.concatenate([sampler.sample(Scores(SCORES), epoch).ids for epoch in range(DRAWS)])
    mass = np.where(np.isnan(SCORES), np.nanmean(SCORES), SCORES)
    expected = DRAWS * SCORES.size * mass / mass.sum()
    spread = np.sqrt(np.maximum(expected, 1))
    assert (np.abs(np.bincount(ids, minlength=SCORES.size) - expected) < 4.5 * spread).all()


@pytest.mark.parametrize("count", [1, 3, 6, 9])
def test_without_replacement_by_their_probabilities(count: int) -> None:
    sampler = WeightedSampling(count / SCORES.size, replacement=False, smoothing=0.1)
    draws = [sampler.sample(Scores(SCORES), epoch) for epoch in range(DRAWS)]
    assert {d.num_samples for d in draws} == {count}
    assert all(len(set(d.ids.tolist())) == count for d in draws)
    mean = np.nanmean(SCORES.astype(np.float64))
    pi = by_halving(np.where(np.isnan(SCORES), mean, SCORES) + 0.1 * mean, count)
    seen = np.bincount(np.concatenate([d.ids for d in draws]), minlength=SCORES.size) / DRAWS
    assert (np.abs(seen - pi) < 4.5 * np.sqrt(pi * (1 - pi) / DRAWS) + 1e-12).all()
    for d in draws[:50]:
        np.testing.assert_allclose(d.weights, count / SCORES.size / pi[d.ids], rtol=1e-6)


def by_halving(mass: np.ndarray, count: int) -> np.ndarray:
    """min(1, c * mass) that sums to count, by bisection."""
    low, high = 0.0, 1e12
    for _ in range(300):
        c = (low + high) / 2
        low, high = (c, high) if np.minimum(1, c * mass).sum() < count else (low, c)
    return np.minimum(1, high * mass)


@pytest.mark.parametrize(
    ("mass", "count", "expected"),
    [
        ([1, 1, 1, 1], 4, [1, 1, 1, 1]),
        ([1, 1, 1, 1], 2, [0.5, 0.5, 0.5, 0.5]),
        ([9, 1, 1, 0], 2, [1, 0.5, 0.5, 0]),
        ([5, 0, 0, 0], 2, [1, 1 / 3, 1 / 3, 1 / 3]),
        ([0, 3, 0, 3], 2, [0, 1, 0, 1]),
        ([2, 1, 1], 2, [1, 0.5, 0.5]),
    ],
)
def test_inclusion(mass: list[float], count: int, expected: list[float]) -> None:
    np.testing.assert_allclose(_inclusion(np.array(mass, np.float64), count), expected, atol=1e-12)


def test_zero_is_never_drawn_without_smoothing() -> None:
    for replacement in (True, False):
        sampler = WeightedSampling(0.5, replacement, smoothing=0)
        assert all(0 not in sampler.sample(Scores(SCORES), epoch).ids for epoch in range(200))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: WeightedSampling(1.1), "fraction=1.1: must be within 0..1"),
        (lambda: WeightedSampling(1.0, 1), "replacement=1: must be True or False"),
        (lambda: WeightedSampling(smoothing=-1), "smoothing=-1: must be a finite number >= 0"),
        (
            lambda: WeightedSampling().sample(Scores(np.array([1, -2], np.float32)), 0),
            r"scores: -2\.0 for sample 1; must be finite and >= 0",
        ),
        (
            lambda: WeightedSampling().sample(Scores(SCORES, descending=False), 0),
            "a low one is the more important",
        ),
    ],
)
def test_what_is_refused(make: Any, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        make()
