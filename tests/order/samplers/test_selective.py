"""Selective backprop: kept as likely as CDF(loss)^beta says; its history is bounded and can be saved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pyimportance import ArgumentError
from pyimportance.order.samplers.selective import SelectiveBackprop


@pytest.mark.parametrize("beta", [0.5, 1, 2, 3])
def test_probabilities(beta: float, z: Any) -> None:
    n = 16
    losses = np.random.default_rng(0).permutation(n) * 0.25 + 1
    sampler = SelectiveBackprop(beta, history=n)  # all of the batch, nothing else: CDF = rank / n
    kept = np.zeros((4000, n))
    for row in kept:
        row[sampler.sample(np.arange(n), losses).ids] = 1
    for i in range(n):
        p = ((losses[i] - 1) / 0.25 + 1) / n
        p **= beta
        if p == 1:
            assert kept[:, i].all()
        else:
            assert abs(z(kept[:, i].tolist(), p, p * (1 - p))) < 4


def test_the_history_is_of_the_latest_losses() -> None:
    sampler = SelectiveBackprop(1, history=100)
    sampler.sample(np.arange(100), np.full(100, 9.0))
    high = sampler.sample(np.arange(50), np.full(50, 1.0)).num_samples  # half of the history is 9
    assert 10 < high < 40
    assert sampler.sample(np.arange(50), np.full(50, 1.0)).num_samples == 50  # now it is forgotten
    assert len(sampler.state_dict()["losses"]) == 100
    long = SelectiveBackprop(1, history=3)
    long.sample(np.arange(5), np.arange(5.0))
    assert long.state_dict()["losses"] == [2, 3, 4]


def test_draws() -> None:
    sampler = SelectiveBackprop(2, seed=1)
    for _ in range(20):
        draw = sampler.sample(torch.arange(32) + 2**35, torch.rand(32).requires_grad_())
        assert draw.biased
        assert (draw.weights == 1).all()
        assert (np.diff(draw.ids) > 0).all()
        assert draw.ids.size == 0 or draw.ids.min() >= 2**35
    assert sampler.sample([], np.empty(0)).num_samples == 0


@pytest.mark.parametrize("losses", [[0.0] * 8, [2.5] * 8, [1.0]])
def test_equal_losses_are_all_trained_on(losses: list[float]) -> None:
    draw = SelectiveBackprop(3).sample(np.arange(len(losses)), np.array(losses))
    assert draw.num_samples == len(losses)


def test_beta_0_keeps_all() -> None:
    assert SelectiveBackprop(0).sample(np.arange(9), np.arange(9.0)).num_samples == 9


def test_a_saved_state_goes_on_as_it_would_have() -> None:
    rng = np.random.default_rng(0)
    first = SelectiveBackprop(1, history=50, seed=2)
    for _ in range(3):
        first.sample(np.arange(32), rng.random(32))
    second = SelectiveBackprop(1, history=50, seed=2)
    second.load_state_dict(first.state_dict())
    for _ in range(10):
        losses = rng.random(32, np.float32)
        x, y = (s.sample(np.arange(32), losses) for s in (first, second))
        assert x.ids.tolist() == y.ids.tolist()
    assert first.state_dict() == second.state_dict()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"sampler": "ImportanceSampling"}, "state: not a version 1 state of SelectiveBackprop"),
        ({"losses": (1.0,)}, r"state: losses is \(1.0,\); must be of type list"),
        ({"losses": [1]}, "state: losses must be finite numbers, step >= 0"),
        ({"losses": [float("inf")]}, "state: losses must be finite"),
        ({"step": -1}, "step >= 0"),
        ({"losses": [0.0] * 3}, "state: 3 losses; this sampler remembers 2"),
    ],
)
def test_wrong_states(change: dict[str, Any], text: str) -> None:
    sampler = SelectiveBackprop(1, history=2)
    with pytest.raises(ArgumentError, match=text):
        sampler.load_state_dict({**sampler.state_dict(), **change})


def test_wrong_arguments() -> None:
    with pytest.raises(ArgumentError, match="beta=-1: must be a finite number >= 0"):
        SelectiveBackprop(-1)
    with pytest.raises(ArgumentError, match="beta=nan: must be a finite"):
        SelectiveBackprop(float("nan"))
    with pytest.raises(ArgumentError, match="history=0: must be at least 1"):
        SelectiveBackprop(1, history=0)
    sampler = SelectiveBackprop(1)
    with pytest.raises(ArgumentError, match="losses: nan for sample 8; must be finite"):
        sampler.sample([3, 8], np.array([1.0, np.nan]))
    assert sampler.state_dict() == SelectiveBackprop(1).state_dict()
