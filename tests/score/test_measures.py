"""Every measure, from logits to scores, against the float64 oracle; and what score() refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pyimportance
from pyimportance import _C, ArgumentError, Dynamics, Tracker, measures, score
from pyimportance.score.reference import ROW_NAMES, measure, row_statistics

Logits = Callable[[str, int, int, np.random.Generator], npt.NDArray[np.float32]]
KINDS = (
    "normal",
    "equal",
    "close",
    "margins",
    "huge",
    "ties",
    "confident",
    "masked",
    "offset",
    "tiny",
    "sparse",
)
VARIANCES = {"loss_variance": "loss", "variability": "p_true", "prediction_variance": "p_true"}


def recorded(  # noqa: PLR0917
    make_logits: Logits, kinds: list[str], samples: int, classes: int, seed: int, missing: float
) -> tuple[Dynamics, dict[str, npt.NDArray[np.float64]]]:
    """Epochs of logits, one kind each, through a tracker in shuffled batches; and through the oracle. With
    features where the seed is odd.
    """
    rng = np.random.default_rng(seed)
    tracker = Tracker(samples)
    history = {name: np.full((len(kinds), samples), np.nan) for name in ROW_NAMES}
    for epoch, kind in enumerate(kinds):
        z = make_logits(kind, samples, classes, rng)
        y = np.where(rng.random(samples) < 0.5, z.argmax(1), rng.integers(0, classes, samples))
        y[~np.isfinite(z[np.arange(samples), y])] = 0
        h = rng.normal(size=(samples, seed % 97)).astype(np.float32) if seed % 2 else None
        ids = np.flatnonzero(rng.random(samples) >= missing)
        rng.shuffle(ids)
        for batch in np.array_split(ids, 3):
            tracker.observe(batch, z[batch], y[batch], features=None if h is None else h[batch])
        tracker.end_epoch()
        for name, values in row_statistics(z[ids], y[ids], None if h is None else h[ids]).items():
            history[name][epoch, ids] = values
    return tracker.dynamics(), history


def variants(dynamics: Dynamics, classes: int) -> list[tuple[str, dict[str, Any]]]:
    """The measures of an observed Dynamics, by name and with options to try."""
    weighted = "confidence_weighted_entropy"  # of which the oracle must be told
    plain: list[tuple[str, dict[str, Any]]] = [(n, {}) for n in measures(dynamics) if n != weighted]
    plain.append(("grad_norm_bound", {"latest": True}))
    return plain + [(weighted, {"classes": classes})] * (classes > 1)


def agree(
    name: str, got: npt.NDArray[np.float32], history: dict[str, npt.NDArray[np.float64]], **options: Any
) -> None:
    with np.errstate(over="ignore"):
        want = measure(name, history, **options).astype(np.float32).astype(np.float64)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want), name)
    is_variance = name in VARIANCES and not (
        name == "loss_variance" and (~np.isnan(history["loss"])).sum(0).max() < 2
    )
    if not is_variance:
        infinite = np.isinf(want)
        np.testing.assert_array_equal(got[infinite], want[infinite], name)
        finite = np.isfinite(want)
        bound = 1e-5 * np.abs(want[finite]) + 1e-37
        if name == "aum":  # margins of both signs cancel: the digits left are those of the largest
            margins = np.nan_to_num(np.abs(history["margin"]), posinf=0)
            bound = bound + 1e-13 * margins.max(0)[finite]
        if name == "normalized_margin":  # exp of differences, to a few of the last digits of the two
            size = history["loss"] + np.abs(np.nan_to_num(history["margin"], posinf=0))
            bound = bound + 4 * np.finfo(np.float64).eps * np.nan_to_num(size).max(0)[finite]
        if name == "confidence_weighted_entropy":  # 1e6 times an entropy that is subnormal in float32
            bound = bound + 1e-30
        np.testing.assert_array_less(np.abs(got[finite] - want[finite]), bound, name)
        return
    seen = ~np.isnan(want)
    mean = np.array([np.nanmean(column) for column in history[VARIANCES[name]].T[seen]])
    got_v, want_v = got[seen].astype(np.float64), want[seen]
    if name != "loss_variance":  # the other two are square roots of one
        got_v, want_v = got_v**2, want_v**2
    floor = np.finfo(np.float32).eps * mean**2
    np.testing.assert_array_less(np.abs(got_v - want_v), 1e-5 * np.maximum(want_v, floor) + 1e-37, name)


@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=6),
    repeat=st.booleans(),
    samples=st.integers(1, 40),
    classes=st.sampled_from([1, 2, 3, 10, 100, 320, 321]),
    seed=st.integers(0, 2**32 - 1),
    missing=st.sampled_from([0.0, 0.3, 0.9]),
    isa=st.sampled_from(_C.instruction_sets()),
)
def test_every_measure_agrees_with_the_oracle(  # noqa: PLR0917 (hypothesis passes them by name)
    make_logits: Logits,
    kinds: list[str],
    repeat: bool,
    samples: int,
    classes: int,
    seed: int,
    missing: float,
    isa: str,
) -> None:
    kinds = kinds[:1] * len(kinds) if repeat else kinds
    before = _C.instruction_set()
    _C.use_instruction_set(isa)
    try:
        dynamics, history = recorded(make_logits, kinds, samples, classes, seed, missing)
    finally:
        _C.use_instruction_set(before)
    for name, options in variants(dynamics, classes):
        agree(name, score(dynamics, name, **options).values, history, **options)


@pytest.mark.parametrize("wobble", [1e-6, 1e-4, 1e-3, 1e-2])
def test_variances_of_nearly_constant_series(isa: str, wobble: float, rng: np.random.Generator) -> None:
    """The deviations are far below the mean: what a float32 pass, or E[x^2] - E[x]^2, would lose."""
    base = rng.normal(size=(200, 10)) * 3
    y = rng.integers(0, 10, 200)
    epochs = [(base * (1 + wobble * rng.normal(size=base.shape))).astype(np.float32) for _ in range(20)]
    tracker, rows = Tracker(200), []
    for z in epochs:
        tracker.observe(np.arange(200), z, y)
        tracker.end_epoch()
        rows.append(row_statistics(z, y))
    history = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    for name in VARIANCES:
        agree(name, score(tracker.dynamics(), name).values, history)


def test_nothing_is_lost_over_a_thousand_epochs(rng: np.random.Generator) -> None:
    base, y = rng.normal(size=(8, 5)), rng.integers(0, 5, 8)
    tracker, rows = Tracker(8), []
    for _ in range(1000):
        z = (base + 1e-4 * rng.normal(size=base.shape)).astype(np.float32)
        tracker.observe(np.arange(8), z, y)
        tracker.end_epoch()
        rows.append(row_statistics(z, y))
    history = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    dynamics = tracker.dynamics()
    assert dynamics.epochs == 1000
    for name, options in variants(dynamics, 5):
        agree(name, score(dynamics, name, **options).values, history, **options)


NAN = np.nan
HISTORY = {  # samples: forgotten twice; never learned; seen once; never seen; always right
    "correct": [[1, 0, 1, NAN, 1], [0, 0, NAN, NAN, 1], [1, 0, NAN, NAN, 1], [0, 0, NAN, NAN, 1]],
    "p_true": [
        [0.5, 0.1, 0.6, NAN, 1],
        [0.3, 0.1, NAN, NAN, 1],
        [0.5, 0.1, NAN, NAN, 1],
        [0.3, 0.1, NAN, NAN, 1],
    ],
}


@pytest.mark.parametrize(
    ("name", "want", "descending"),
    [
        ("forgetting", [2, np.inf, 0, NAN, 0], True),
        ("first_learned", [0, np.inf, 0, NAN, 0], True),
        ("unforgettable", [0, 0, 1, NAN, 1], False),
        ("correctness", [2, 0, 1, NAN, 4], False),
        ("confidence", [0.4, 0.1, 0.6, NAN, 1], False),
        ("variability", [0.1, 0, 0, NAN, 0], True),
        ("threshold_closeness", [0.24, 0.09, 0.24, NAN, 0], True),
        ("prediction_variance", [np.sqrt(0.01 + 0.01**2 / 3), 0, NAN, NAN, 0], True),
    ],
)
def test_by_hand(name: str, want: list[float], descending: bool) -> None:
    scores = score(Dynamics.from_history(**HISTORY), name)
    np.testing.assert_allclose(scores.values, np.float32(want), rtol=1e-6, atol=1e-8)
    assert (scores.descending, scores.measure, scores.ids) == (descending, name, None)
    assert scores.metadata == {"epochs": "4"}


def test_loss_variance_falls_back_and_says_so() -> None:
    once = score(Dynamics.from_history(loss=[[1.0, 2.0, NAN]]), "loss_variance")
    np.testing.assert_array_equal(once.values, np.float32([1, 2, NAN]))
    assert once.metadata["fallback"] == "loss_mean: no sample was observed more than once"
    twice = score(Dynamics.from_history(loss=[[1.0, 2.0, NAN], [3.0, NAN, NAN]]), "loss_variance")
    np.testing.assert_array_equal(twice.values, np.float32([2, NAN, NAN]))
    assert "fallback" not in twice.metadata


def test_options() -> None:
    dynamics = Dynamics.from_history(**HISTORY)
    fraction = score(dynamics, "correctness", fraction=True)
    np.testing.assert_array_equal(fraction.values, np.float32([0.5, 0, 1, NAN, 1]))
    assert fraction.metadata == {"epochs": "4", "fraction": "True"}
    assert score(dynamics, "correctness", descending=True).descending
    with pytest.raises(ArgumentError, match="'correctness' has no option 'part'; its options are fraction"):
        score(dynamics, "correctness", part=True)
    with pytest.raises(ArgumentError, match="'confidence' has no option 'fraction'; it has none"):
        score(dynamics, "confidence", fraction=True)
    with pytest.raises(
        ArgumentError, match="measure='hardness': must be one of loss_mean, loss_variance, forg"
    ):
        score(dynamics, "hardness")


def test_a_measure_of_what_was_not_recorded() -> None:
    tracker = Tracker(3)
    tracker.observe_loss([0, 1], [0.5, 1.0])
    tracker.end_epoch()
    text = r"'forgetting' needs correct, which was not recorded \(only loss\); possible are loss_mean, loss_v"
    with pytest.raises(ArgumentError, match=text):
        score(tracker.dynamics(), "forgetting")
    np.testing.assert_array_equal(score(tracker.dynamics()).values, np.float32([0.5, 1, NAN]))


def test_nothing_observed() -> None:
    tracker = Tracker(4)
    with pytest.raises(ArgumentError, match="nothing was recorded"):
        score(tracker.dynamics())


@pytest.mark.parametrize("wrong", [None, [1.0], "dynamics.npz"])
def test_a_score_of_something_else(wrong: Any) -> None:
    with pytest.raises(ArgumentError, match=r"dynamics(: NoneType|\[0\]: float|: str); must be Dynamics"):
        score(wrong)


def test_the_folder_is_the_verb() -> None:
    assert pyimportance.score(Dynamics.from_history(loss=[[1.0]])).values.tolist() == [1]
    from pyimportance.score import measures as module

    assert module.score is not pyimportance.score
