"""Curriculum: easy first, all at the end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pyimportance import ArgumentError, Scores
from pyimportance.order.samplers.curriculum import Curriculum

SCORES = np.random.default_rng(0).normal(size=101).astype(np.float32)


@pytest.mark.parametrize("descending", [True, False])
def test_the_least_important_first(descending: bool) -> None:
    sampler, counts = Curriculum(epochs=8, start=0.2), []
    easy = np.argsort(SCORES if descending else -SCORES, kind="stable")
    for epoch in range(10):
        draw = sampler.sample(Scores(SCORES, descending=descending), epoch)
        counts.append(draw.num_samples)
        assert sorted(draw.ids.tolist()) == sorted(easy[: counts[-1]].tolist())
        assert (draw.weights == 1).all()
        assert draw.biased == (counts[-1] < SCORES.size)
    assert counts[0] == 20
    assert counts[7:] == [101, 101, 101]
    # Platanios, equation 7: c(t)^2 grows linearly
    squares = (np.array(counts[:8]) / 101) ** 2
    np.testing.assert_allclose(np.diff(squares), (1 - 0.2**2) / 7, atol=0.012)


def test_no_score_comes_last() -> None:
    values = SCORES.copy()
    values[[3, 50]] = np.nan
    sampler = Curriculum(epochs=3, start=0.98)
    assert set(range(101)) - set(sampler.sample(Scores(values), 0).ids.tolist()) == {3, 50}


@pytest.mark.parametrize(("epochs", "epoch", "share"), [(1, 0, 1.0), (2, 0, 0.5), (2, 1, 1.0), (5, 99, 1.0)])
def test_competence(epochs: int, epoch: int, share: float) -> None:
    assert Curriculum(epochs, 0.5).competence(epoch) == share


def test_at_least_one() -> None:
    assert Curriculum(10, 0.01).count(5, 0) == 1
    assert Curriculum(10, 0.01).count(0, 0) == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0,), "epochs=0: must be at least 1"),
        ((5, 0), "start=0: must be above 0"),
        ((5, 2), "start=2: must be"),
    ],
)
def test_what_is_refused(arguments: Any, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        Curriculum(*arguments)
