"""What all samplers of an epoch have in common: ids of the scores, fixed by seed and epoch, nothing lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyimportance import ArgumentError, Scores, samplers
from pyimportance.order.samplers.active import DRAWING, WEIGHING

ALL: dict[str, Any] = {
    **{rule: samplers.ActiveSampling(rule) for rule in DRAWING},
    **{rule: samplers.ActiveWeighting(rule) for rule in WEIGHING},
    "InfoBatch": samplers.InfoBatch(epochs=1000),
    "RS2": samplers.RS2(0.5),
    "RS2 with replacement": samplers.RS2(0.5, replacement=True),
    "weighted": samplers.WeightedSampling(),
    "weighted without replacement": samplers.WeightedSampling(0.7, replacement=False),
    "Curriculum": samplers.Curriculum(epochs=1000),
}


def replaces(sampler: Any) -> bool:
    return isinstance(sampler, samplers.ActiveSampling) or getattr(sampler, "replacement", False)


sampler_of = pytest.mark.parametrize("sampler", ALL.values(), ids=list(ALL))
a_score = st.one_of(st.floats(0, 1, width=32), st.just(float("nan")), st.sampled_from([0.0, 0.5]))


@sampler_of
@given(st.lists(a_score, max_size=40), st.integers(0, 2**70), st.integers(0, 900), st.integers(1, 2**40))
def test_any_scores(sampler: Any, values: list[float], seed: int, epoch: int, step: int) -> None:
    ids = np.arange(len(values), dtype=np.int64) * step + 2**33
    scores = Scores(np.array(values, np.float32), ids=ids)
    draw = sampler.sample(scores, epoch, seed)
    again = sampler.sample(scores, epoch, seed)
    np.testing.assert_array_equal(draw.ids, again.ids)
    np.testing.assert_array_equal(draw.weights, again.weights)
    assert set(draw.ids.tolist()) <= set(ids.tolist())
    if not replaces(sampler):
        assert len(set(draw.ids.tolist())) == draw.num_samples
    if isinstance(sampler, samplers.ActiveWeighting | samplers.InfoBatch):  # who has no score is there
        assert set(ids[np.isnan(scores.values)].tolist()) <= set(draw.ids.tolist())
    count = sampler.count(len(values), epoch)
    assert draw.num_samples == count or (count is None and isinstance(sampler, samplers.InfoBatch))


@sampler_of
def test_seeds_and_epochs_differ(sampler: Any) -> None:
    scores = Scores(np.linspace(0, 1, 200, dtype=np.float32))
    draws = [sampler.sample(scores, epoch, seed).ids.tolist() for epoch in range(3) for seed in range(3)]
    assert len({tuple(ids) for ids in draws}) == 9
    assert draws[0] != sorted(draws[0])


@sampler_of
def test_one_and_none(sampler: Any) -> None:
    for value in (0.0, 0.7, np.nan):
        draw = sampler.sample(Scores(np.array([value], np.float32), ids=np.array([2**50])), 0)
        assert draw.ids.tolist() == [2**50]
        assert draw.weights.tolist() == [1]
    assert sampler.sample(Scores(np.empty(0, np.float32)), 0).num_samples == 0


@sampler_of
def test_wrong_arguments(sampler: Any) -> None:
    scores = Scores(np.zeros(3, np.float32))
    with pytest.raises(ArgumentError, match="scores: ndarray; must be Scores"):
        sampler.sample(np.zeros(3), 0)
    with pytest.raises(ArgumentError, match="epoch=-1: must be at least 0"):
        sampler.sample(scores, -1)
    with pytest.raises(ArgumentError, match=r"seed=0\.5: must be an integer"):
        sampler.sample(scores, 0, 0.5)


GOLDEN: dict[str, Any] = {
    "SPV": ([10, 10, 50, 10, 10, 50], [1] * 6),
    "STC": ([50, 30, 0, 50, 20, 40], [1] * 6),
    "SD": ([30, 10, 30, 10, 20, 40], [1] * 6),
    "ISD": ([40, 0, 10, 20, 30, 0], [0.8059701, 1.6875, 0.75, 1, 0.9473684, 1.6875]),
    "SE": ([30, 10, 50, 30, 50, 0], [1] * 6),
    "WPV": ([0, 10, 50, 30, 20, 40], [1.4782609, 0.6086957, 1.2608695, 0.9347826, 1, 0.7173913]),
    "WTC": ([20, 0, 50, 30, 10, 40], [1, 1.4782609, 1.2608695, 0.9347826, 0.6086957, 0.7173913]),
    "WD": ([20, 40, 10, 50, 0, 30], [1, 1.2407408, 1.3333333, 0.7777778, 0.5925926, 1.0555556]),
    "WE": ([10, 50, 0, 20, 30, 40], [0.6086957, 1.2608695, 1.4782609, 1, 0.9347826, 0.7173913]),
    "InfoBatch": ([0, 20, 10, 50, 40], [1, 1, 2, 1, 2]),
    "RS2": ([50, 20, 30], [1] * 3),
    "RS2 with replacement": ([30, 40, 50], [1] * 3),
}


@pytest.mark.parametrize(("name", "ids", "weights"), [(n, *golden) for n, golden in GOLDEN.items()])
def test_golden(name: str, ids: list[int], weights: list[float]) -> None:
    """The ids of every machine, NumPy and version: changing them breaks the resumption of a training."""
    scores = Scores(np.array([0.9, 0.1, np.nan, 0.4, 0.2, 0.7], np.float32), ids=np.arange(6) * 10)
    draw = ALL[name].sample(scores, 3, 5)
    assert draw.ids.tolist() == ids
    np.testing.assert_allclose(draw.weights, weights, rtol=1e-6)
