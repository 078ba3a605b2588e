"""Measures that look at how a sample's numbers went: against their definitions, one sample at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimportance import ArgumentError, Dynamics, Tracker, measures, score
from pyimportance.score import reference
from pyimportance.score.measures import history as module
from tests.score import running

Array = npt.NDArray[np.float64]


def distributions(epochs: int, samples: int, classes: int, missing: float, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    p = reference.softmax(rng.normal(size=(epochs, samples, classes)) * rng.choice([0.1, 3, 40]))
    p[rng.random((epochs, samples)) < missing] = np.nan
    return p


@settings(max_examples=60, deadline=None)
@given(
    epochs=st.integers(1, 14),
    samples=st.integers(1, 9),
    classes=st.integers(1, 5),
    missing=st.sampled_from([0.0, 0.3, 0.9]),
    window=st.integers(3, 12),
    decay=st.sampled_from([0.0, 0.1, 0.9, 1.0]),
    at_a_time=st.sampled_from([1, 7, 1 << 20]),
    dtype=st.sampled_from([np.float64, np.float32, np.float16]),
    seed=st.integers(0, 2**32 - 1),
)
def test_windows_are_those_of_the_definitions(  # noqa: PLR0917
    epochs: int,
    samples: int,
    classes: int,
    missing: float,
    window: int,
    decay: float,
    at_a_time: int,
    dtype: Any,
    seed: int,
) -> None:
    p = distributions(epochs, samples, classes, missing, seed).astype(dtype)
    dynamics = Dynamics.from_history(p_true=p[:, :, 0], probs=p)
    results = []
    for threads in (1, 2, 5):
        with pytest.MonkeyPatch.context() as patch, running.threads(threads):
            patch.setattr(module, "_NUMBERS", at_a_time)
            dual = score(dynamics, "dual", window=window)
            tdds = score(dynamics, "tdds", window=window, decay=decay)
        results.append(dual.values.tobytes() + tdds.values.tobytes())
    assert len(set(results)) == 1
    seen = [p[~np.isnan(p[:, n, 0]), n].astype(np.float64) for n in range(samples)]
    want = [reference.dual(one[:, 0], window) for one in seen]
    np.testing.assert_allclose(dual.values, want, rtol=1e-5, atol=1e-9)
    least = float(np.nextafter(dtype(0), dtype(1)))
    want = [reference.tdds(one, window, decay, least) for one in seen]
    np.testing.assert_allclose(tdds.values, want, rtol=1e-5, atol=1e-9)
    assert dual.descending
    assert tdds.descending
    assert tdds.metadata == {"epochs": str(epochs), "window": str(window), "decay": str(decay)}


def test_by_hand() -> None:
    p = [[0.2], [0.4], [np.nan], [0.6]]
    dynamics = Dynamics.from_history(p_true=p)
    std = np.sqrt(0.02)
    got = score(dynamics, "dual", window=2).values[0]
    np.testing.assert_allclose(got, (10 * std * 0.7 + 10 * std * 0.5) / 2, rtol=1e-6)
    assert np.isnan(score(dynamics, "dual").values[0])


def test_moves_by_hand() -> None:
    steady = np.full((5, 1, 2), 0.5)
    assert score(Dynamics.from_history(p_true=steady[..., 0], probs=steady), "tdds", window=3).values[0] == 0
    for small, dtype, counts_as in (
        (0, np.float64, 2.0**-1074),
        (0, np.float32, 2.0**-149),
        (0, np.float16, 2.0**-24),
        (1e-12, np.float64, 1e-12),  # and not 1e-8
    ):
        p = np.array([[1, small], [0.5, 0.5], [small, 1]], dtype)[:, None]
        first = 0.5 * np.log(2) + 0.5 * (np.log(0.5) - np.log(counts_as))
        second = np.log(2) + (small * np.log(0.5 / small) if small else 0)
        want = 0.9 * (first - second) / np.sqrt(2)
        got = score(Dynamics.from_history(p_true=p[..., 0], probs=p), "tdds", window=3).values
        np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("window", [2, 3, 10, 37, 200])
def test_deviations_far_below_what_came_before(window: int, rng: np.random.Generator) -> None:
    """Sums that take off what leaves a window would have the rounding of the jumps in them ever after."""
    level = rng.choice([1e-9, 0.1, 0.5, 0.9, 1 - 1e-9], (8, 60)).repeat(50, 0)[: 8 * 50 - 13]
    p = np.clip(level * (1 + rng.choice([0, 1e-9, 1e-5], 60) * rng.normal(size=level.shape)), 0, 1)
    p[:, 0] = 0.3
    got = score(Dynamics.from_history(p_true=p), "dual", window=window).values
    np.testing.assert_allclose(got, [reference.dual(one, window) for one in p.T], rtol=1e-5, atol=1e-15)
    probs = np.stack([p, 1 - p], 2)
    got = score(Dynamics.from_history(p_true=p, probs=probs), "tdds", window=window + 1, decay=1).values
    want = [reference.tdds(one, window + 1, 1.0) for one in probs.swapaxes(0, 1)]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-15)


@pytest.mark.parametrize("where", ["memory", "directory"])
def test_dual_of_a_tracker(tmp_path: Path, where: str, rng: np.random.Generator) -> None:
    tracker = Tracker(50, history="memory" if where == "memory" else tmp_path / "h")
    for _ in range(6):
        ids = np.flatnonzero(rng.random(50) < 0.8)
        tracker.observe(ids, rng.normal(size=(ids.size, 4)).astype(np.float32), rng.integers(0, 4, ids.size))
        tracker.end_epoch()
    dynamics = tracker.dynamics()
    assert dynamics.history is not None
    p = dynamics.history.array("p_true")
    want = [reference.dual(column[~np.isnan(column)], 4) for column in p.T]
    np.testing.assert_allclose(score(dynamics, "dual", window=4).values, want, rtol=1e-5)


def test_what_they_need() -> None:
    tracker = Tracker(3)
    tracker.observe([0], np.zeros((1, 2), np.float32), [0])
    tracker.end_epoch()
    with pytest.raises(ArgumentError, match="'dual' needs history, which was not recorded"):
        score(tracker.dynamics(), "dual")
    plain = Dynamics.from_history(p_true=[[0.5]])
    with pytest.raises(ArgumentError, match="'tdds' needs probs, which was not recorded"):
        score(plain, "tdds")
    assert "dual" in measures(plain)
    assert "tdds" not in measures(plain)
    with pytest.raises(ArgumentError, match="window=1: must be at least 2"):
        score(plain, "dual", window=1)


def test_probabilities_that_are_none() -> None:
    p_true = np.array([[0.5, 0.5], [0.5, np.nan]])
    good = np.array([[[0.5, 0.5]] * 2, [[0.5, 0.5], [np.nan] * 2]])
    score(Dynamics.from_history(p_true=p_true, probs=good), "tdds")
    for at, value, text in (
        ((0, 1), [0.5, 1.5], r"probs: those of sample 1 in epoch 0 are 0.5 to 1.5, .* 0 to 1 and sum to 1"),
        ((0, 1), [0.5, 0.2], "their sum 0.7; must be 0 to 1 and sum to 1"),
        ((0, 0), [np.nan, 0.5], "probs: those of sample 0 in epoch 0"),
        ((1, 1), [0.5, 0.5], "must be NaN, as it was not observed"),
    ):
        bad = good.copy()
        bad[at] = value
        with pytest.raises(ArgumentError, match=text):
            score(Dynamics.from_history(p_true=p_true, probs=bad), "tdds")
    with pytest.raises(ArgumentError, match=r"probs: float64 of shape \[2, 2\]; must be floating point"):
        Dynamics.from_history(p_true=p_true, probs=p_true)
    with pytest.raises(ArgumentError, match="at least one class"):
        Dynamics.from_history(p_true=p_true, probs=np.zeros((2, 2, 0)))
