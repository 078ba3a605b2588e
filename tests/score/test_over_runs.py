"""Several runs of the same samples, scored as one: by hand, and by NumPy over all observations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pyimportance import ArgumentError, Dynamics, Scores, Tracker, measure, measures, score
from pyimportance.score.measures.registry import REGISTRY
from tests.score.runs import batch, run

X = np.nan


def of_correct(*columns: list[float]) -> Dynamics:
    """One list of 0, 1 and NaN a sample."""
    return Dynamics.from_history(correct=np.array(columns).T)


def trackers(count: int, samples: int = 30, epochs: int = 5, history: str | None = None) -> list[Dynamics]:
    """Runs of which each sees most samples in most epochs, and sample 0 in none, 1 in the first run alone."""
    runs = []
    for number in range(count):
        tracker = Tracker(samples, history=history)
        rng = np.random.default_rng(number)
        for epoch in range(epochs + number):
            ids = np.flatnonzero(rng.random(samples) < 0.8)
            ids = ids[ids > (0 if number == 0 else 1)]
            tracker.observe(*batch(ids, seed=97 * number + epoch))
            tracker.end_epoch()
        runs.append(tracker.dynamics())
    return runs


def test_forgetting_by_hand() -> None:
    first = of_correct([1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [X, X, X, X], [X, X, X, X], [0, 0, X, X])
    second = of_correct([1, 0, 1], [1, 0, 1], [0, 0, 0], [0, 1, 0], [X, X, X], [X, X, X])
    # forgotten in both; never learned in the first, whose 4 observations count; never in all; observed in the
    # second alone; in none; and in the first alone, where it was never learned
    want = [2 + 1, 4 + 1, np.inf, 1, X, np.inf]
    np.testing.assert_array_equal(score([first, second], "forgetting").values, want)
    np.testing.assert_array_equal(score([second, first], "forgetting").values, want)
    np.testing.assert_array_equal(score([first], "forgetting").values, [2, np.inf, np.inf, X, X, np.inf])
    partly = of_correct([X, X], [X, X], [X, X], [X, X], [1, 1], [X, 0])
    third = score((first, second, partly), "forgetting").values
    np.testing.assert_array_equal(third, [3, 5, np.inf, 1, 0, np.inf])


def test_what_else_is_counted_by_hand() -> None:
    first = of_correct([1, 1, 1, 0], [1, 1, 1, 1], [0, 1, 1, 1], [X, X, X, X])
    second = of_correct([0, 1], [X, X], [1, 1], [X, X])
    both = [first, second]
    np.testing.assert_array_equal(score(both, "correctness").values, [4, 4, 5, X])
    fractions = np.array([4 / 6, 4 / 4, 5 / 6, X], np.float32)
    np.testing.assert_array_equal(score(both, "correctness", fraction=True).values, fractions)
    np.testing.assert_array_equal(score(both, "unforgettable").values, [0, 1, 1, X])
    never = of_correct([1], [0], [1], [X])  # in a run that did not learn it, it was not unforgettable
    np.testing.assert_array_equal(score([first, never], "unforgettable").values, [0, 0, 1, X])
    with pytest.raises(ArgumentError, match="2 runs; measure 'first_learned' is of one, score them one by"):
        score(both, "first_learned")
    np.testing.assert_array_equal(score([first], "first_learned").values, [0, 0, 1, X])


def together(runs: list[Dynamics], name: str) -> npt.NDArray[np.float64]:
    """All runs' observations, as if of one."""
    arrays = []
    for one in runs:
        assert one.history is not None
        arrays.append(one.history.array(name))
    return np.concatenate(arrays)


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_means_are_of_all_observations() -> None:
    runs = trackers(3, history="memory")
    names = {
        "loss_mean": "loss",
        "confidence": "p_true",
        "el2n": "el2n",
        "aum": "margin",
        "entropy": "entropy",
    }
    for name, quantity in names.items():
        got, want = score(runs, name).values, np.nanmean(together(runs, quantity), 0)
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-9, err_msg=name)
        assert np.isnan(got[0])
        assert got[1] == score(runs[0], name).values[1]
    mean = np.nanmean(together(runs, "p_true"), 0)
    np.testing.assert_allclose(score(runs, "threshold_closeness").values, mean * (1 - mean), rtol=1e-5)
    loss = np.nanmean(together(runs, "loss"), 0)
    np.testing.assert_allclose(score(runs, "perplexity").values, np.exp(loss), rtol=1e-5)
    known = np.linspace(0.1, 1, 30)
    np.testing.assert_allclose(
        score(runs, "rho", irreducible=known).values, loss - known, rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(score(runs, "ifd", alone=known).values, loss / known, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_the_others_are_means_over_runs() -> None:
    @measure("range_of_loss", high="ambiguous")
    def range_of_loss(loss: npt.NDArray[np.float64]) -> float:
        return float(loss.max() - loss.min())

    try:
        runs = trackers(3, history="memory")
        plain: list[tuple[str, dict[str, Any]]] = [
            (name, {}) for name in ("loss_variance", "variability", "prediction_variance", "self_confidence")
        ]
        plain += [("normalized_margin", {}), ("confidence_weighted_entropy", {}), ("range_of_loss", {})]
        plain += [("dual", {"window": 3}), ("grad_norm_bound", {"latest": True})]
        for name, options in plain:
            want = np.nanmean([score(one, name, **options).values for one in runs], 0)
            got = score(runs, name, **options).values
            np.testing.assert_allclose(got, want, rtol=1e-6, err_msg=name)
        for name in set(measures(runs[0])) - {"first_learned"}:
            one, alone = score(runs[0], name), score(runs[:1], name)
            np.testing.assert_array_equal(one.values, alone.values, name)
            times = 2 if name in ("forgetting", "correctness") else 1
            twice = score([runs[0], runs[0]], name).values
            np.testing.assert_allclose(twice, times * one.values, rtol=1e-6, err_msg=name)
    finally:
        REGISTRY.pop("range_of_loss")


def test_the_fallback_of_variances_is_of_all_runs() -> None:
    once = [Dynamics.from_history(loss=[[1.0, 2.0]]), Dynamics.from_history(loss=[[3.0, 5.0]])]
    fallen = score(once, "loss_variance")
    assert fallen.values.tolist() == [2.0, 3.5]
    assert "fallback" in fallen.metadata
    often = Dynamics.from_history(loss=[[1.0, 2.0], [3.0, 2.0]])
    spread = score([*once, often], "loss_variance")
    assert spread.values.tolist() == [2.0, 0.0]
    assert "fallback" not in spread.metadata


@pytest.mark.parametrize("where", ["memory", "directory", "arrays"])
def test_el2n_of_chosen_epochs(tmp_path: Path, where: str) -> None:
    tracker = Tracker(20, history="memory" if where == "memory" else tmp_path / "h")
    run(tracker, range(2), range(0, 20, 2))
    run(tracker, range(2, 6), range(20))
    dynamics = tracker.dynamics()
    assert dynamics.history is not None
    array = dynamics.history.array
    if where == "arrays":
        el2n = array("el2n").astype(np.float32)
        dynamics = Dynamics.from_history(el2n=el2n)
    el2n = array("el2n")
    for epochs in (range(2, 5), [5, 1], np.array([1, 2]), [0], range(6)):
        seen = ~np.isnan(el2n[list(epochs)])
        with np.errstate(invalid="ignore"):
            want = np.nansum(el2n[list(epochs)], 0) / seen.sum(0)
        np.testing.assert_allclose(score(dynamics, "el2n", epochs=epochs).values, want, rtol=1e-6)
    np.testing.assert_allclose(
        score(dynamics, "el2n", epochs=range(6)).values, score(dynamics, "el2n").values, rtol=1e-6
    )
    assert score(dynamics, "el2n", epochs=[0, 3]).metadata == {"epochs": "6", "el2n_epochs": "[0, 3]"}
    for epochs, text in (
        ([6], "epochs: 6; the history has 6, counted from 0"),
        ([], r"epochs=\[\]: must be at least one epoch, counted from 0, each once"),
        ([-1], r"epochs=\[-1\]: must be at least one"),
        ([1, 1], r"epochs=\[1, 1\]: must be at least one"),
        (3, "epochs: .*; must be integers"),
        ([0.5], "epochs: .*; must be integers"),
    ):
        with pytest.raises(ArgumentError, match=text):
            score(dynamics, "el2n", epochs=epochs)


def test_el2n_of_an_early_epoch_over_runs() -> None:
    """As published: a mean over runs at one epoch."""
    rng = np.random.default_rng(0)
    el2n = rng.random((10, 4, 50))
    runs = [Dynamics.from_history(el2n=one) for one in el2n]
    got = score(runs, "el2n", epochs=[2]).values
    np.testing.assert_allclose(got, el2n[:, 2].mean(0), rtol=1e-6)
    got = score(runs, "el2n", epochs=range(1, 3)).values
    np.testing.assert_allclose(got, el2n[:, 1:3].mean((0, 1)), rtol=1e-6)
    with pytest.raises(ArgumentError, match="epochs: 3; the history has 2, counted from 0"):
        score([runs[0], Dynamics.from_history(el2n=el2n[0, :2])], "el2n", epochs=[3])
    without = Tracker(3)
    without.observe(*batch([0, 1]))
    without.end_epoch()
    with pytest.raises(ArgumentError, match="measure 'el2n' needs history, which was not recorded"):
        score(without.dynamics(), "el2n", epochs=[0])


def test_decayed_runs_weigh_what_their_observations_do() -> None:
    tracker = run(Tracker(4), range(3), range(4))
    whole = tracker.dynamics(decay=0.5)
    faded = tracker.dynamics()
    assert faded.weight is not None
    other = run(Tracker(4), range(3, 4), range(4)).dynamics()
    want = (1.5 * whole.mean("loss") + other.mean("loss")) / 2.5
    np.testing.assert_allclose(score([faded, other], "loss_mean").values, want, rtol=1e-6)


def test_what_is_said_of_runs(tmp_path: Path) -> None:
    runs = trackers(3)
    scores = score(runs, "forgetting", descending=False)
    assert (scores.measure, scores.descending) == ("forgetting", False)
    assert scores.metadata == {"epochs": "5, 6, 7", "runs": "3"}
    scores.save(tmp_path / "scores.parquet")
    assert dict(Scores.load(tmp_path / "scores.parquet").metadata) == {"epochs": "5, 6, 7", "runs": "3"}
    assert "runs" not in score(runs[0], "forgetting").metadata


def test_runs_that_do_not_fit() -> None:
    one = Dynamics.from_history(loss=[[1.0, 2.0]])
    named = [
        Dynamics(epochs=1, count=one.count, loss_mean=one.loss_mean, loss_m2=one.loss_m2,
                 loss_last=one.loss_last, keys=keys)
        for keys in (("a", "b"), ("a", "c"))
    ]  # fmt: skip
    keys = score([one, named[0], one], "loss_mean").keys
    assert keys is not None
    assert keys.to_pylist() == ["a", "b"]
    for runs, text in (
        ([], "no runs; must be at least one"),
        ([one, Dynamics.from_history(loss=[[1.0]])], r"dynamics\[1\]: 1 samples; dynamics\[0\] is of 2"),
        ([one, "b.npz"], r"dynamics\[1\]: str; must be Dynamics"),
        (["a.npz"], r"dynamics\[0\]: str; must be Dynamics"),
        ("a.npz", "dynamics: str; must be Dynamics"),
        ([named[0], one, named[1]], r"dynamics\[2\]: has other keys than a run before it"),
        ([one, Tracker(2).dynamics()], r"dynamics\[1\]: nothing was recorded"),
        ([one, of_correct([1], [0])], r"dynamics\[1\]: measure 'loss_mean' needs loss, which was not rec"),
    ):
        with pytest.raises(ArgumentError, match=text):
            score(runs, "loss_mean")  # type: ignore[arg-type]
