"""The latest observation of every sample, and the measures made of it; GraNd and perplexity."""

from __future__ import annotations

import numpy as np
import pytest

from pyimportance import ArgumentError, Dynamics, Tracker, measures, score
from pyimportance.score.reference import measure, row_statistics

NAN = np.nan
QUANTITIES = ("loss", "margin", "el2n", "entropy")


def observed(tracker: Tracker, seed: int, ids: list[int]) -> dict[str, np.ndarray]:
    """An epoch of three classes; what the oracle says of it."""
    rng = np.random.default_rng(seed)
    z, y = rng.normal(size=(len(ids), 3)).astype(np.float32), rng.integers(0, 3, len(ids))
    tracker.observe(ids, z, y)
    tracker.end_epoch()
    return row_statistics(z, y)


def assert_latest(dynamics: Dynamics, want: dict[int, dict[str, float]]) -> None:
    """``want``: by sample; the others are NaN."""
    for name in QUANTITIES:
        expected = [want[n][name] if n in want else NAN for n in range(dynamics.num_samples)]
        np.testing.assert_allclose(dynamics.latest(name), expected, rtol=1e-6, err_msg=name)


def of(rows: dict[str, np.ndarray], index: int) -> dict[str, float]:
    return {name: float(values[index]) for name, values in rows.items()}


def test_the_latest_stands_whatever_else_happens() -> None:
    tracker = Tracker(4)
    first = observed(tracker, 0, [0, 1, 2])
    second = observed(tracker, 1, [1])
    want = {0: of(first, 0), 1: of(second, 0), 2: of(first, 2)}
    assert_latest(tracker.dynamics(decay=0.5), want)
    assert_latest(tracker.dynamics(reset=True), want)
    third = observed(tracker, 2, [3])
    assert_latest(tracker.dynamics(), {3: of(third, 0)})


def test_a_merge_takes_the_later_one() -> None:
    early, late = Tracker(4), Tracker(4, first_epoch=1)
    first, second = observed(early, 0, [0, 1, 2]), observed(late, 1, [1, 3])
    early.merge(late)
    want = {0: of(first, 0), 1: of(second, 0), 2: of(first, 2), 3: of(second, 1)}
    assert_latest(early.dynamics(), want)


def test_from_history() -> None:
    dynamics = Dynamics.from_history(
        loss=[[1.0, 2.0, NAN], [0.5, NAN, NAN]], margin=[[1.0, -2.0, NAN], [np.inf, NAN, NAN]]
    )
    np.testing.assert_array_equal(dynamics.latest("loss"), [0.5, 2.0, NAN])
    np.testing.assert_array_equal(dynamics.latest("margin"), [np.inf, -2.0, NAN])
    np.testing.assert_allclose(dynamics.latest("p_true"), np.exp([-0.5, -2.0, NAN]))
    np.testing.assert_allclose(dynamics.latest("prob_margin"), [np.exp(-0.5), np.exp(-2) - 1, NAN])
    with pytest.raises(ArgumentError, match="el2n_last was not recorded; recorded are loss, margin"):
        dynamics.latest("el2n")
    with pytest.raises(
        ArgumentError, match="quantity='grand': must be one of 'loss', 'p_true', 'margin', 'pro"
    ):
        dynamics.latest("grand")


@pytest.mark.parametrize("margin", [0.0, 1e-3, -1e-3, 5.0, -5.0, 100.0, -100.0, 1e4, -1e4, -3e38])
def test_prob_margin(margin: float) -> None:
    """p_y (1 - e^-margin), of whatever sign and size."""
    z = np.float32([[margin, 0.0, -1.0]])
    want = row_statistics(z, [0])
    dynamics = Dynamics.from_history(loss=[want["loss"]], margin=[want["margin"]])
    error = 0.0 if abs(margin) < 1e30 else 1.0
    got = dynamics.latest("prob_margin")
    np.testing.assert_allclose(got, want["p_true"] - want["p_other"], rtol=1e-11, atol=error)
    assert -1 <= got[0] <= 1


@pytest.mark.parametrize("offset", [100.0, 1e4, -1e4])
def test_prob_margins_of_distant_logits(offset: float, rng: np.random.Generator) -> None:
    """Loss and margin are large and nearly opposite; what is left of them has the digits."""
    z, y = rng.normal(size=(50, 10)), np.zeros(50, dtype=np.int64)
    z[:, 1:] += offset
    z = z.astype(np.float32)
    want = row_statistics(z, y)
    tracker = Tracker(50)
    tracker.observe(np.arange(50), z, y)
    tracker.end_epoch()
    dynamics = tracker.dynamics()
    np.testing.assert_allclose(dynamics.latest("prob_margin"), want["p_true"] - want["p_other"], rtol=1e-6)
    history = {name: values[None] for name, values in want.items()}
    got = score(dynamics, "normalized_margin").values
    np.testing.assert_allclose(got, measure("normalized_margin", history), rtol=1e-6)


def test_by_hand() -> None:
    ln = np.log
    dynamics = Dynamics.from_history(
        loss=[[9.0, 9.0], [ln(2), ln(4)]],
        margin=[[0.0, 0.0], [ln(2), -ln(3)]],  # p: 1/2, 1/4, 1/4 and 1/4, 3/4
        el2n=[[0.5, 0.25], [1.0, 0.5]],
        entropy=[[0.0, 0.0], [1.5 * ln(2), 0.5]],
        grand=[[1.0, 2.0], [2.0, 6.0]],
    )
    r = np.array([1.5 * ln(2) / ln(3) / 0.5, 0.5 / ln(3) / 0.25])
    want = {
        "grad_norm_bound": ([0.75, 0.375], True),
        "grand_last": ([1.5, 4.0], True),
        "self_confidence": ([0.5, 0.25], False),
        "normalized_margin": ([0.625, 0.25], False),
        "perplexity": (np.exp([4.5 + ln(2) / 2, 4.5 + ln(4) / 2]), True),
    }
    for name, (values, descending) in want.items():
        scores = score(dynamics, name)
        np.testing.assert_allclose(scores.values, values, rtol=1e-6)
        assert scores.descending == descending
    np.testing.assert_allclose(score(dynamics, "grad_norm_bound", latest=True).values, [1.0, 0.5])
    scores = score(dynamics, "confidence_weighted_entropy", classes=3)
    np.testing.assert_allclose(scores.values, np.log(r + 1) / r, rtol=1e-6)
    assert not scores.descending


def test_a_certain_prediction_has_no_weighted_entropy() -> None:
    """r = 0: the definition's floor makes it 0, the oracle's too."""
    history = {"loss": np.zeros((1, 1)), "entropy": np.zeros((1, 1)), "p_true": np.ones((1, 1))}
    got = score(Dynamics.from_history(**history), "confidence_weighted_entropy", classes=2)
    history |= {name: np.zeros((1, 1)) for name in ("p_false", "correct", "margin", "el2n")}
    np.testing.assert_array_equal(got.values, measure("confidence_weighted_entropy", history, classes=2))
    np.testing.assert_array_equal(got.values, [0.0])


def test_the_number_of_classes_is_that_of_the_logits() -> None:
    tracker = Tracker(4)
    tracker.observe([0, 1], np.float32([[1, 2, 3], [3, 1, 0]]), [0, 1])
    tracker.observe([], [], [])
    tracker.end_epoch()
    dynamics = tracker.dynamics()
    assert dynamics.classes == 3
    assert "confidence_weighted_entropy" in measures(dynamics)
    got, given = (score(dynamics, "confidence_weighted_entropy", **o) for o in ({}, {"classes": 3}))
    np.testing.assert_array_equal(got.values, given.values)
    assert given.metadata == {"epochs": "1", "classes": "3"}
    tracker.observe([2], np.zeros((1, 5), np.float32), [4])
    tracker.end_epoch()
    assert tracker.dynamics().classes is None  # questions of three answers and of five
    assert "confidence_weighted_entropy" not in measures(tracker.dynamics())
    single = Tracker(1)
    single.observe([0], np.zeros((1, 1), np.float32), [0])
    single.end_epoch()
    assert "confidence_weighted_entropy" not in measures(single.dynamics())
    probs = Dynamics.from_history(loss=[[1.0]], entropy=[[0.5]], probs=[[[0.5, 0.25, 0.25]]])
    assert probs.classes == 3


def test_options_that_are_refused() -> None:
    dynamics = Dynamics.from_history(loss=[[1.0]], entropy=[[0.5]])
    for options in ({}, {"classes": None}):
        with pytest.raises(ArgumentError, match="'confidence_weighted_entropy' needs classes, which was not"):
            score(dynamics, "confidence_weighted_entropy", **options)
    for classes in (1, 0, 2.5, True):
        with pytest.raises(ArgumentError, match=r"classes=.*: must be (an integer of )?at least 2"):
            score(dynamics, "confidence_weighted_entropy", classes=classes)
    with pytest.raises(ArgumentError, match="latest='yes': must be True or False"):
        score(Dynamics.from_history(el2n=[[1.0]]), "grad_norm_bound", latest="yes")
