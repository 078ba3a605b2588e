"""InfoBatch: what is left out is made up for, to the expected sum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pyimportance import ArgumentError, Scores
from pyimportance.order.samplers.infobatch import InfoBatch

LOSSES = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 3.0, 4.0, 5.0], np.float32)  # mean 1.48: 7 lie below
LOW = LOSSES.mean() > LOSSES


@pytest.mark.parametrize("r", [0.5, 0.3, 0.9])
def test_the_expected_weighted_sum_is_the_full_sum(r: float, z: Any) -> None:
    f = np.random.default_rng(5).normal(2, 1, LOSSES.size)
    sampler = InfoBatch(epochs=10**6, r=r)
    draws = [sampler.sample(Scores(LOSSES), epoch, 1) for epoch in range(3000)]
    m, low = int(LOW.sum()), f[LOW]
    whole, part = divmod((1 - r) * m, 1)  # the number kept: whole, or one more with probability part
    kept_low = [(whole, 1 - part), (whole + 1, part)]
    within = sum(p * k * (m - k) / m for k, p in kept_low) * low.var(ddof=1)
    variance = (within + part * (1 - part) * low.mean() ** 2) / (1 - r) ** 2
    sums = [float(d.weights.astype(np.float64) @ f[d.ids]) for d in draws]
    assert abs(z(sums, f.sum(), variance)) < 4
    assert 0.9 < np.var(sums) / variance < 1.1
    assert abs(z([float(f[d.ids].sum()) for d in draws], f.sum(), variance)) > 8  # the test can fail


def test_weights_and_what_is_left_out() -> None:
    for epoch in range(20):
        draw = InfoBatch(epochs=100, r=0.4).sample(Scores(LOSSES), epoch)
        assert {7, 8, 9} <= set(draw.ids.tolist())
        np.testing.assert_allclose(draw.weights, np.where(LOW[draw.ids], 1 / 0.6, 1), rtol=1e-6)
        assert draw.num_samples - 3 in (4, 5)  # 0.6 * 7 = 4.2
        assert not draw.biased


def test_order_is_random_whatever_the_score(z: Any) -> None:
    """Kept samples of low score come neither first nor last."""
    values = np.r_[np.zeros(500), np.ones(500)].astype(np.float32)
    ids = InfoBatch(epochs=10).sample(Scores(values), 0).ids
    low = np.flatnonzero(ids < 500)
    n, k = ids.size, low.size
    assert abs(z(low.tolist(), (n - 1) / 2, (n * n - 1) / 12 * (1 - (k - 1) / (n - 1)))) < 4


@pytest.mark.parametrize(
    ("epochs", "anneal", "first"),
    [(200, 0.125, 175), (10, 0.125, 9), (7, 0.0, 7), (8, 1.0, 0), (100, 0.29, 71), (10, 0.7, 3)],
)
def test_the_last_epochs_are_whole(epochs: int, anneal: float, first: int) -> None:
    sampler = InfoBatch(epochs, anneal=anneal)
    for epoch in range(epochs + 2):
        draw = sampler.sample(Scores(LOSSES), epoch)
        assert (draw.num_samples == LOSSES.size) == (epoch >= first)
        assert epoch < first or (draw.weights == 1).all()


def kept(values: Any, descending: bool = True) -> set[int]:
    draw = InfoBatch(epochs=100, r=0.999999).sample(
        Scores(np.array(values, np.float32), descending=descending), 0
    )
    return set(draw.ids.tolist())


def test_which_are_candidates() -> None:
    assert kept([1, 2, 3, 10]) == {3}
    assert kept([1, 2, 3, 10], descending=False) == {0, 1, 2}
    assert kept([1, np.nan, 3, 5]) == {1, 2, 3}  # never observed; at the mean
    assert kept([0, 1, np.inf, 2, 3]) == {2, 3, 4}  # never learned: forgetting scores
    assert kept([0, 1, -np.inf, 2, 3]) == {3, 4}
    assert kept([np.inf, -np.inf]) == {0, 1}
    for same in ([0.1] * 7, [np.nan] * 3, [0] * 5, [np.inf] * 2):
        assert len(kept(same)) == len(same)


def test_r_0_leaves_nothing_out() -> None:
    draw = InfoBatch(epochs=10, r=0).sample(Scores(LOSSES), 0)
    assert sorted(draw.ids.tolist()) == list(range(10))
    assert (draw.weights == 1).all()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"epochs": 0}, "epochs=0: must be at least 1"),
        ({"epochs": 1, "r": 1}, "r=1: must be below 1"),
        ({"epochs": 1, "r": -0.5}, r"r=-0.5: must be within 0\.\.1"),
        ({"epochs": 1, "anneal": 2}, r"anneal=2: must be within 0\.\.1"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        InfoBatch(**arguments)
