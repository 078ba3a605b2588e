"""RS2: exact counts, nobody twice in an epoch, everybody once a cycle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyimportance import ArgumentError, Scores
from pyimportance.order.samplers.rs2 import RS2


@given(st.integers(1, 60), st.floats(0, 1), st.booleans(), st.integers(0, 2**40))
def test_counts(n: int, fraction: float, replacement: bool, seed: int) -> None:
    scores = Scores(np.zeros(n, np.float32), ids=np.arange(n) + 100)
    sampler = RS2(fraction, replacement=replacement)
    count = int(np.floor(fraction * n + 0.5))
    cycle = -(-n // count) if count else 1
    for start in (0, cycle):
        epochs = [sampler.sample(scores, e, seed) for e in range(start, start + min(cycle, 80))]
        for draw in epochs:
            assert draw.num_samples == count == len(set(draw.ids.tolist()))
            assert not draw.biased
            assert (draw.weights == 1).all()
        times = np.bincount(np.concatenate([d.ids for d in epochs]) - 100, minlength=n)
        if count and not replacement:
            assert times.min() == 1
            assert times.max() <= 2
            assert times.sum() == cycle * count


@pytest.mark.parametrize("replacement", [False, True])
def test_everybody_is_as_likely(replacement: bool, z: Any) -> None:
    scores = Scores(np.arange(10, dtype=np.float32))
    for epoch in (0, 3):  # the fourth is topped up
        drawn = [RS2(0.3, replacement).sample(scores, epoch, seed).ids for seed in range(2000)]
        for i in range(10):
            assert abs(z([float((ids == i).any()) for ids in drawn], 0.3, 0.3 * 0.7)) < 4


def test_scores_do_not_matter() -> None:
    a, b = Scores(np.zeros(50, np.float32)), Scores(np.full(50, np.nan, np.float32))
    assert RS2(0.2).sample(a, 1).ids.tolist() == RS2(0.2).sample(b, 1).ids.tolist()


def test_fractions_0_and_1() -> None:
    scores = Scores(np.zeros(9, np.float32))
    assert RS2(0).sample(scores, 5).num_samples == 0
    epochs = [RS2(1).sample(scores, e).ids.tolist() for e in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(9))
    assert epochs[0] != epochs[1]


def test_wrong_arguments() -> None:
    with pytest.raises(ArgumentError, match=r"fraction=1\.1: must be within 0\.\.1"):
        RS2(1.1)
    with pytest.raises(ArgumentError, match="replacement=1: must be True or False"):
        RS2(0.5, 1)  # type: ignore[arg-type]
