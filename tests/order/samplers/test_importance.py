"""Importance sampling: unbiased batches, tau, when it is used, and its state."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyimportance import ArgumentError
from pyimportance.order.samplers.importance import ImportanceSampling

B, b = 48, 16
IDS = np.arange(B) + 2**40
G = np.random.default_rng(3).pareto(1.5, B) + 0.2


def active(seed: int = 0, step: int = 0) -> ImportanceSampling:
    sampler = ImportanceSampling(b, B, seed=seed)
    sampler.load_state_dict({**sampler.state_dict(), "tau": 100.0, "step": step})
    return sampler


def test_the_expected_weighted_sum_is_that_of_the_presample(z: Any) -> None:
    f = G * np.random.default_rng(4).normal(1, 0.3, B) + 0.1
    g = G / G.sum()
    X = f / (B * g)
    variance = b * (g @ X**2 - (g @ X) ** 2)
    draws = [active(step=step).sample(IDS, G) for step in range(3000)]
    assert all(d.num_samples == b and not d.biased for d in draws)
    sums = [float(d.weights.astype(np.float64) @ f[d.ids - 2**40]) for d in draws]
    assert abs(z(sums, b / B * f.sum(), variance)) < 4
    assert 0.85 < np.var(sums) / variance < 1.15
    plain = b * (g @ f**2 - (g @ f) ** 2)
    assert abs(z([float(f[d.ids - 2**40].sum()) for d in draws], b / B * f.sum(), plain)) > 8  # it can fail
    uniform = b * np.var(f)
    assert variance < uniform / 4  # what it is for


def test_weights_are_one_over_B_g() -> None:  # noqa: N802
    draw = active().sample(IDS, G)
    np.testing.assert_allclose(draw.weights, 1 / (B * (G / G.sum())[draw.ids - 2**40]), rtol=1e-6)


@given(st.lists(st.floats(0, 1e308), min_size=1, max_size=50))
def test_tau(values: list[float]) -> None:
    """tau = sqrt(n sum g^2) = (1 - |g - u|^2 / |g|^2)^(-1/2), as the paper has it; in 1..sqrt(n)."""
    sampler = ImportanceSampling(4, 50, momentum=0)
    sampler.sample(np.arange(len(values)), np.array(values))
    n, peak = len(values), max(values)
    g = np.array(values) / peak if peak else np.ones(n)
    g = g / g.sum()
    assert sampler.tau == pytest.approx(math.sqrt(n * (g @ g)))
    assert sampler.tau == pytest.approx((1 - np.square(g - 1 / n).sum() / (g @ g)) ** -0.5, rel=1e-6)
    assert 1 - 1e-9 <= sampler.tau <= math.sqrt(n) * (1 + 1e-9)


def test_it_is_used_once_the_running_mean_of_tau_exceeds_the_threshold() -> None:
    sampler = ImportanceSampling(b, B)
    assert sampler.threshold == (B + 3 * b) / (3 * b) == 2
    peaked = np.zeros(b)
    peaked[3] = 1  # tau = sqrt(b) = 4
    running = 0.0
    for _ in range(20):
        assert sampler.tau == pytest.approx(running)
        assert sampler.active == (running > 2)
        assert sampler.wanted == (B if running > 2 else b)
        scores = np.r_[peaked, np.zeros(B - b)] if sampler.active else peaked
        tau = math.sqrt(scores.size)
        draw = sampler.sample(IDS[: scores.size], scores)
        if running > 2:
            assert draw.ids.tolist() == [IDS[3]] * b
            np.testing.assert_allclose(draw.weights, 1 / B, rtol=1e-6)
        else:
            assert sorted(draw.ids.tolist()) == IDS[:b].tolist()
            assert (draw.weights == 1).all()
        running = 0.9 * running + 0.1 * tau
    assert sampler.active
    for _ in range(20):
        sampler.sample(IDS, np.ones(B))
    assert not sampler.active


def test_inactive_it_takes_a_uniform_part_of_more(z: Any) -> None:
    drawn = [ImportanceSampling(b, B, seed=seed).sample(IDS, G) for seed in range(2000)]
    assert all(len(set(d.ids.tolist())) == b and (d.weights == 1).all() for d in drawn)
    p = b / B
    for i in range(0, B, 7):
        assert abs(z([float((d.ids == IDS[i]).any()) for d in drawn], p, p * (1 - p))) < 4


def test_all_zero_is_uniform() -> None:
    sampler = active()
    draw = sampler.sample(IDS, np.zeros(B))
    np.testing.assert_allclose(draw.weights, 1, rtol=1e-6)
    assert sampler.tau == pytest.approx(0.9 * 100 + 0.1)


def test_zero_is_never_drawn_and_huge_scores_do_not_overflow() -> None:
    scores = np.zeros(B)
    scores[[5, 9]] = 1.5e308
    draw = active().sample(IDS, scores)
    assert set(draw.ids.tolist()) == {IDS[5], IDS[9]}
    np.testing.assert_allclose(draw.weights, 2 / B, rtol=1e-6)


def test_one_sample() -> None:
    for sampler in (ImportanceSampling(1, 1), active()):
        draw = sampler.sample([7], np.array([0.5]))
        assert set(draw.ids.tolist()) == {7}
        np.testing.assert_allclose(draw.weights, 1, rtol=1e-6)


def test_a_saved_state_goes_on_as_it_would_have() -> None:
    first = active(seed=3)
    first.sample(IDS, G)
    second = ImportanceSampling(b, B, seed=3)
    second.load_state_dict(torch_saved(first.state_dict()))
    for _ in range(30):
        x, y = first.sample(IDS, G), second.sample(IDS, torch.from_numpy(G))
        assert x.ids.tolist() == y.ids.tolist()
        assert x.weights.tolist() == y.weights.tolist()
    assert first.state_dict() == second.state_dict()
    assert active(seed=4).sample(IDS, G).ids.tolist() != active(seed=3).sample(IDS, G).ids.tolist()


def torch_saved(state: dict[str, Any]) -> Any:
    import io

    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"sampler": "other"}, "state: not a version 1 state of ImportanceSampling"),
        ({"version": 2}, "state: not a version 1 state"),
        (
            {"more": 1},
            "state: holds more, sampler, step, tau, version; must hold sampler, version, tau, step",
        ),
        ({"tau": 1}, "state: tau is 1; must be of type float"),
        ({"step": True}, "state: step is True; must be of type int"),
        ({"tau": math.nan}, "state: tau=nan, step=0; must be finite and >= 0"),
        ({"step": -1}, "state: tau=0.0, step=-1; must be finite and >= 0"),
    ],
)
def test_wrong_states(change: dict[str, Any], text: str) -> None:
    sampler = ImportanceSampling(b, B)
    with pytest.raises(ArgumentError, match=text):
        sampler.load_state_dict({**sampler.state_dict(), **change})
    assert (sampler.tau, sampler.state_dict()["step"]) == (0, 0)


def test_wrong_arguments() -> None:
    with pytest.raises(ArgumentError, match="presample=3: must be at least 4"):
        ImportanceSampling(4, 3)
    with pytest.raises(ArgumentError, match=r"momentum=2: must be within 0\.\.1"):
        ImportanceSampling(4, 8, momentum=2)
    sampler = ImportanceSampling(4, 8)
    for ids, scores, text in [
        ([], [], "ids: there are none"),
        ([1, 2], [0.5], r"scores: float64 of shape \[1\]; must be floating point \[2\]"),
        ([1, 2], [0.5, np.nan], "scores: nan for sample 2; must be finite"),
        ([1, 2], [np.inf, 0.5], "scores: inf for sample 1; must be finite"),
        ([1, 2], [0.5, -0.5], "scores: -0.5 for sample 2; must be >= 0"),
    ]:
        with pytest.raises(ArgumentError, match=text):
            sampler.sample(np.array(ids, np.int64), np.array(scores, np.float64))
    assert sampler.state_dict()["step"] == 0
