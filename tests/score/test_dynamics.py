"""Dynamics: from plain arrays, what they tell, and what is refused."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pyimportance import ArgumentError, Dynamics, Tracker, score
from pyimportance.score.archive import _ARRAYS
from tests.score.runs import assert_equal, example


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"epochs": 2**70}, "epochs=1180591620717411303424: must be an integer from 0 to 2147483647"),
        ({"epochs": True}, "epochs=True: must be an integer"),
        ({"epochs": 1}, "count: 2 for sample 0; allowed are 0 to 1"),
        ({"p_mean": 7.0}, "p_mean: 7.0 for sample 0; allowed are 0 to 1"),
        ({"p_mean": np.nan}, "p_mean: nan for sample 0; allowed are 0 to 1"),
        ({"loss_mean": np.nan}, "loss_mean: nan for sample 0; must be a number"),
        ({"loss_m2": -1.0}, "loss_m2: -1.0 for sample 0; allowed are 0 to inf"),
        ({"p_m2": np.nan}, "p_m2: nan for sample 0"),
        ({"q_sum": 9.0}, "q_sum: 9.0 for sample 0; allowed are 0 to 2"),
        ({"el2n_sum": 9.0}, "el2n_sum: 9.0 for sample 0; allowed are 0 to 2.8"),
        ({"entropy_sum": -1.0}, "entropy_sum: -1.0 for sample 0; allowed are 0 to inf"),
        ({"grand_sum": -1.0}, "grand_sum: -1.0 for sample 0; allowed are 0 to inf"),
        ({"loss_last": np.nan}, "loss_last: nan for sample 0; must be a number"),
        ({"margin_last": np.nan}, "margin_last: nan for sample 0; must be a number"),
        ({"el2n_last": 1.5}, "el2n_last: 1.5 for sample 0; allowed are 0 to 1.41"),
        ({"entropy_last": -1.0}, "entropy_last: -1.0 for sample 0; allowed are 0 to inf"),
        ({"correct": 3}, "correct: 3 for sample 0; allowed are 0 to 2"),
        ({"correct": 1, "forgotten": 2, "first_learned": 0}, "forgotten: 2 for sample 0; allowed are 0 to 1"),
        ({"correct": 1, "forgotten": 0, "first_learned": -9}, "first_learned: -9 for sample 0; allowed"),
        ({"correct": 1, "forgotten": 0, "first_learned": 99}, "first_learned: 99 for sample 0; allowed"),
        ({"weight": 3.0, "weight_sq": 1.0}, "weight: 3.0 for sample 0; allowed are 0 to 2"),
    ],
)  # fmt: skip
def test_numbers_that_no_training_leaves_behind(change: dict[str, Any], text: str) -> None:
    dynamics = example()
    columns = {name: getattr(dynamics, name) for name in ("epochs", *_ARRAYS)}
    for name, value in change.items():
        if name == "epochs":
            columns[name] = value
            continue
        ones = np.ones(7) if columns[name] is None else columns[name].copy()
        ones[0] = value
        columns[name] = ones
    if "weight" in change:
        columns["weight_sq"][1:] = columns["weight"][1:] = 0
    with pytest.raises(ArgumentError, match=text):
        Dynamics(**columns)


def test_a_variance_stays_above_zero_when_the_past_has_faded() -> None:
    tracker = Tracker(1000)
    rng = np.random.default_rng(0)
    for epoch in range(4):
        tracker.observe_loss(np.arange(1000), rng.random(1000) * 10.0 ** (3 - epoch))
        tracker.end_epoch()
        tracker.dynamics(decay=1e-30)
    m2 = tracker.dynamics().loss_m2
    assert m2 is not None
    assert (m2 >= 0).all()


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))])
def test_copies_are_as_read_only(how: Any) -> None:
    dynamics = Dynamics.from_history(loss=[[1.0, np.nan], [2.0, np.nan]])
    back = how(dynamics)
    assert_equal(dynamics, back)
    assert back.loss_mean is not None
    with pytest.raises(ValueError, match="read-only"):
        back.loss_mean[0] = 1
    np.testing.assert_array_equal(back.history.array("loss"), [[1, np.nan], [2, np.nan]])


@pytest.mark.parametrize("quantity", ["margin", "los", "correct", None, [], True])
def test_a_variance_of_what_has_none(quantity: Any) -> None:
    with pytest.raises(ArgumentError, match=r"quantity=.*: must be one of 'loss', 'p_true'$"):
        example().variance(quantity, 0)


def test_means_and_divisors_that_there_are_not() -> None:
    for quantity in ("correct", "loss_mean", 3):
        with pytest.raises(ArgumentError, match=r"quantity=.*: must be one of 'loss', 'p_true', 'p_fal"):
            example().mean(quantity)  # type: ignore[arg-type]
    for ddof in (2, -1, True, 0.5, "0"):
        with pytest.raises(ArgumentError, match=r"ddof=.*: must be one of 0, 1"):
            example().variance("loss", ddof)  # type: ignore[arg-type]


def test_arrays_are_read_only() -> None:
    dynamics = example()
    assert dynamics.loss_mean is not None
    with pytest.raises(ValueError, match="read-only"):
        dynamics.loss_mean[0] = 1
    with pytest.raises(AttributeError):
        dynamics.epochs = 9  # type: ignore[misc]


def test_quantities_that_were_not_recorded() -> None:
    dynamics = Dynamics.from_history(p_true=[[0.5]])
    assert dynamics.quantities == ("p_true",)
    with pytest.raises(ArgumentError, match="loss_mean was not recorded; recorded are p_true"):
        dynamics.mean("loss")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_from_history_of_many_samples(dtype: npt.DTypeLike) -> None:
    """More than are converted at a time, in memory of either order."""
    rng = np.random.default_rng(0)
    loss = np.asfortranarray(rng.random((3, 140_001)).astype(dtype))
    loss[1, ::7] = np.nan
    correct = rng.random(loss.shape) < 0.5
    dynamics = Dynamics.from_history(loss=loss, correct=correct)
    np.testing.assert_allclose(dynamics.mean("loss"), np.nanmean(loss.astype(np.float64), 0), rtol=1e-12)
    assert dynamics.correct is not None
    np.testing.assert_array_equal(dynamics.correct, (correct & ~np.isnan(loss)).sum(0))
    assert dynamics.history is not None
    assert np.isnan(dynamics.history.array("correct")[1, ::7]).all()


def test_from_history_of_nothing() -> None:
    assert Dynamics.from_history(loss=np.zeros((0, 4))).count.tolist() == [0] * 4
    assert Dynamics.from_history(loss=np.zeros((4, 0))).num_samples == 0


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({}, "from_history: nothing was given; at least one of loss, p_true, correct"),
        ({"loss": [1.0]}, r"loss: float64 of shape \[1\]; must be numbers \[E, N\]"),
        ({"loss": [["a"]]}, "loss: <U1"),
        (
            {"loss": [[1.0]], "p_true": [[1.0, 0.5]]},
            r"p_true: .* \[1, 2\]; must be numbers \[E, N\], here \[1, 1\]",
        ),
        (
            {"loss": [[1.0, 2.0]], "margin": [[1.0, np.nan]]},
            "margin: epoch 0 of sample 1 is nan, while in loss it is 2.0; NaN must mark the same",
        ),
        ({"p_true": [[1.5]]}, "p_true: 1.5 in epoch 0 of sample 0; allowed are 0 to 1"),
        ({"correct": [[0, 2]]}, "correct: 2 in epoch 0 of sample 1; allowed are 0 and 1"),
        ({"correct": [[0.5]]}, "correct: 0.5 in epoch 0 of sample 0; allowed are 0 and 1"),
        ({"loss": [[np.inf]]}, "loss: inf in epoch 0 of sample 0; allowed are finite numbers"),
        ({"entropy": [[-1.0]]}, "entropy: -1.0 in epoch 0 of sample 0; allowed are finite numbers from 0"),
        ({"loss": [[1.0], [1.0, 2.0]]}, "loss: no array can be made of this list"),
        ({"el2n": [[1.42]]}, r"el2n: 1.42 in epoch 0 of sample 0; allowed are 0 to sqrt"),
        ({"el2n": [[2.0]]}, r"el2n: 2.0 in epoch 0 of sample 0; allowed are 0 to sqrt\(2\)"),
    ],
)
def test_histories_that_are_refused(arrays: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        Dynamics.from_history(**arrays)


def test_infinite_margins_are_legal() -> None:
    dynamics = Dynamics.from_history(margin=[[np.inf, 1.0], [np.inf, 2.0]])
    assert score(dynamics, "aum").values.tolist() == [np.inf, 1.5]
