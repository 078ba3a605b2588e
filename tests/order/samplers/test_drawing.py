"""The methods of select that draw or weigh: exact counts, weights, and what they expect to add up to."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyimportance import ArgumentError, NaNScoresWarning, Scores, samplers, select
from pyimportance.order.samplers.draw import Draw
from pyimportance.order.select import _METHODS

N = 40
VALUES = (np.random.default_rng(3).random(N).round(2) ** 2).astype(np.float32)
CLASSES = np.repeat([0, 1, 2], [23, 11, 6])
WITH_WEIGHTS = {"isd", "importance", "infobatch", "wpv", "wtc", "wd", "we"}
UNBIASED = {"isd", "importance", "infobatch", "rs2"}
TWICE = {"spv", "stc", "sd", "isd", "se", "importance"}


def scores(method: str, ids: Any = None) -> Scores:
    return Scores(VALUES, ids=ids, measure=measure_of(method))


def measure_of(method: str) -> str:
    kinds = {"pv": "prediction_variance", "tc": "threshold_closeness", "d": "confidence", "e": "confidence"}
    return kinds.get(method.lstrip("isw"), "loss_mean") if method in drawing_rules() else "loss_mean"


def drawing_rules() -> set[str]:
    return {"spv", "stc", "sd", "isd", "se", "wpv", "wtc", "wd", "we"}


def options_of(method: str) -> dict[str, Any]:
    return {"method": method, "beta": 0.0} if method == "ccs" else {"method": method}


def drawn(method: str, count: int, **options: Any) -> Draw:
    return select(scores(method), count=count, weights=True, **options_of(method), **options)


@pytest.mark.parametrize("method", _METHODS)
@pytest.mark.parametrize("classes", [None, CLASSES])
def test_exactly_as_many_with_their_weights(method: str, classes: Any) -> None:
    counts = [N] if method.startswith("w") else [30, N] if method == "infobatch" else [0, 1, 30, N]
    for count in counts:
        draw = drawn(method, count, classes=classes)
        assert draw.num_samples == count
        assert draw.weights.dtype == np.float32
        ids = draw.ids.tolist()
        assert len(set(ids)) == count or method in TWICE
        assert ids == sorted(ids, key=lambda i: (-VALUES[i], i))  # the most important first
        np.testing.assert_array_equal(
            ids, select(scores(method), count=count, classes=classes, **options_of(method))
        )
        assert set(draw.weights.tolist()) <= {1.0} or method in WITH_WEIGHTS or classes is not None
        if classes is not None:
            inside = np.bincount(classes[draw.ids], minlength=3)
            assert (np.abs(inside - count * np.bincount(classes) / N) < 1).all()
        elif count:
            assert draw.biased == (method not in UNBIASED)


@pytest.mark.parametrize("method", sorted(UNBIASED))
@pytest.mark.parametrize("classes", [None, CLASSES])
def test_weights_correct_for_the_draw(method: str, classes: Any) -> None:
    """Weighted sums of 1000 draws, against the sum over all, within 4 standard errors."""
    f = np.random.default_rng(2).normal(1, 1, N) + 3 * VALUES + CLASSES
    count = 36 if method == "infobatch" else 15
    draws = [drawn(method, count, classes=classes, epoch=epoch, seed=1) for epoch in range(1000)]
    assert not any(d.biased for d in draws)
    expected = f.sum() * (1 if method == "infobatch" else count / N)

    def off(sums: list[float]) -> float:
        return float(abs(np.mean(sums) - expected) / (np.std(sums) / np.sqrt(len(sums))))

    assert off([float(d.weights.astype(np.float64) @ f[d.ids]) for d in draws]) < 4
    if method != "rs2":
        assert off([float(f[d.ids].sum()) for d in draws]) > 8  # the test can fail


def test_classes_draw_independently() -> None:
    twins = Scores(np.tile(VALUES[:20], 2))
    same = 0
    for seed in range(200):
        ids = select(twins, count=10, method="rs2", classes=np.repeat([0, 1], 20), seed=seed)
        same += set(ids[ids < 20].tolist()) == set((ids[ids >= 20] - 20).tolist())
    assert same < 3  # one in 15504 each


@pytest.mark.parametrize("rule", samplers.active.DRAWING)
def test_the_draws_of_the_samplers(rule: str) -> None:
    ids = np.arange(N) * 3
    for fraction in (0.3, 1.0):
        by_sampler = samplers.ActiveSampling(rule, fraction=fraction).sample(scores(rule.lower(), ids), 4, 9)
        draw = select(scores(rule.lower(), ids), fraction, method=rule.lower(), epoch=4, seed=9, weights=True)
        order = np.lexsort((by_sampler.ids, -VALUES[by_sampler.ids // 3]))
        np.testing.assert_array_equal(draw.ids, by_sampler.ids[order])
        np.testing.assert_array_equal(draw.weights, by_sampler.weights[order])


@pytest.mark.parametrize("rule", samplers.active.WEIGHING)
def test_the_weights_of_the_samplers(rule: str) -> None:
    by_sampler = samplers.ActiveWeighting(rule).sample(scores(rule.lower()), 0)
    draw = drawn(rule.lower(), N)
    at = np.argsort(by_sampler.ids)
    np.testing.assert_allclose(draw.weights[np.argsort(draw.ids)], by_sampler.weights[at], rtol=1e-6)
    assert draw.weights.mean() == pytest.approx(1)


def test_rs2_is_through_with_everything_before_it_begins_again() -> None:
    epochs = [select(scores("rs2"), 0.25, method="rs2", epoch=epoch, seed=5) for epoch in range(4)]
    assert sorted(np.concatenate(epochs).tolist()) == list(range(N))
    by_sampler = samplers.RS2(0.25).sample(scores("rs2"), 2, 5)
    assert set(by_sampler.ids.tolist()) == set(epochs[2].tolist())


@given(st.integers(0, 30), st.integers(0, 99))
def test_infobatch_makes_up_for_what_it_leaves_out(out: int, seed: int) -> None:
    low = VALUES.mean() > VALUES
    below = int(low.sum())
    if out >= below:
        with pytest.raises(
            ArgumentError, match=rf"count={N - out}: .* leaves out fewer than the {below} of 40"
        ):
            drawn("infobatch", N - out, seed=seed)
        return
    draw = drawn("infobatch", N - out, seed=seed)
    assert set(np.flatnonzero(~low).tolist()) <= set(draw.ids.tolist())
    expected = np.where(low[draw.ids], below / (below - out), 1)
    np.testing.assert_allclose(draw.weights, expected, rtol=1e-6)


def test_a_class_without_a_sample_biases() -> None:
    rare = np.r_[np.zeros(N - 1, int), 1]
    assert drawn("isd", 10, classes=rare).biased
    assert not drawn("isd", 30, classes=rare).biased


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"method": "infobatch"}, "class 7: count=0: method 'infobatch' leaves out fewer than the 0 of 1"),
        ({"method": "ccs", "beta": 0.7}, "class -2: count=19: beta=0.7 leaves 12 of 39 samples"),
    ],
)
def test_what_a_class_cannot_give_names_it(options: dict[str, Any], text: str) -> None:
    rare = np.r_[np.full(N - 1, -2), 7]
    with pytest.raises(ArgumentError, match=text):
        select(Scores(VALUES), count=19, classes=rare, **options)


def test_zero_scores_are_never_drawn_and_all_zero_is_uniform() -> None:
    some = Scores(np.array([0, 1, 3], np.float32))
    draw = select(some, count=3, method="importance", weights=True)
    for i, w in zip(draw.ids.tolist(), draw.weights.tolist(), strict=True):
        assert w == pytest.approx({1: 4 / 3, 2: 4 / 9}[i])
    flat = select(Scores(np.zeros(5, np.float32)), count=4, method="importance", weights=True)
    assert flat.weights.tolist() == [1] * 4


@pytest.mark.parametrize(
    ("values", "arguments", "text"),
    [
        (
            VALUES,
            {"method": "wd", "fraction": 0.5},
            r"count=20: method 'wd' weighs all 40 samples; fraction=1\.0",
        ),
        (VALUES - 1, {"method": "importance", "count": 1}, "scores: -.* for sample .*; must be >= 0"),
        ([1, np.inf], {"method": "importance", "count": 1}, "scores: inf for sample 1; must be finite"),
        (
            VALUES,
            {"method": "spv", "count": 1},
            "scores: of loss_mean; rule SPV needs those of prediction_vari",
        ),
        (
            VALUES,
            {"method": "sd", "count": 1, "rule": "SE"},
            "method 'sd' has no option 'rule'; its options are epo",
        ),
        (VALUES, {"method": "rs2", "count": 1, "epoch": -1}, "epoch=-1: must be at least 0"),
        (VALUES, {"method": "rs2", "count": 1, "seed": -1}, "seed=-1: must be at least 0"),
        (VALUES, {"count": 1, "weights": 1}, "weights=1: must be True or False"),
    ],
)
def test_wrong_arguments(values: Any, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        select(Scores(np.asarray(values, np.float32), measure="loss_mean"), **arguments)


def test_samples_without_a_score() -> None:
    values: npt.NDArray[np.float32] = np.array([np.nan, 1, 2, 9], np.float32)
    some = Scores(values)
    with pytest.warns(NaNScoresWarning):
        assert 0 in select(some, count=3, method="infobatch").tolist()
    with pytest.warns(NaNScoresWarning), pytest.raises(ArgumentError, match="scores: nan for sample 0"):
        select(some, count=1, method="importance")
    with pytest.warns(NaNScoresWarning):
        draws = [select(some, count=4, method="spv", seed=seed) for seed in range(20)]
    assert any((draw == 0).any() for draw in draws)
