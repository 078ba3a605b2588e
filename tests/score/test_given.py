"""rho and IFD: what was recorded beside losses from elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pyimportance import ArgumentError, Dynamics, Scores, Tracker, ifd_flagged, measures, score, select

NAN = np.nan
LOSS = Dynamics.from_history(loss=[[1.0, 4.0, 2.0, NAN, 0.5], [3.0, 2.0, NAN, NAN, 0.5]])  # means 2 3 2 - 0.5


def test_rho() -> None:
    given = [0.5, 4.0, NAN, 1.0, 0.5]
    got = score(LOSS, "rho", irreducible=given)
    np.testing.assert_array_equal(got.values, np.float32([1.5, -1, NAN, NAN, 0]))
    assert (got.measure, got.descending) == ("rho", True)
    latest = score(LOSS, "rho", irreducible=torch.tensor(given), latest=True)
    np.testing.assert_array_equal(latest.values, np.float32([2.5, -2, NAN, NAN, 0]))
    assert latest.metadata["latest"] == "True"


def test_rho_of_another_run(rng: np.random.Generator) -> None:
    """What the other tracker saw is irreducible: where both learn alike, nothing is worth learning."""
    losses = rng.random((2, 30))
    trackers = Tracker(30), Tracker(30)
    for tracker, loss in zip(trackers, losses, strict=True):
        tracker.observe_loss(np.arange(30), loss)
        tracker.end_epoch()
    here, there = (tracker.dynamics() for tracker in trackers)
    got = score(here, "rho", irreducible=score(there).values)
    np.testing.assert_allclose(got.values, losses[0] - losses[1], atol=1e-7)


def test_ifd() -> None:
    got = score(LOSS, "ifd", alone=np.float32([4, 2, NAN, 1, 0.5]))
    np.testing.assert_array_equal(got.values, np.float32([0.5, 1.5, NAN, NAN, 1]))
    assert (got.measure, got.descending) == ("ifd", True)
    assert got.metadata == {"epochs": "2", "alone": "float32 [5]", "above_one": "1"}
    assert ifd_flagged(got).tolist() == [1]
    assert ifd_flagged(Scores([0.5, 2.0, NAN, 3.0], ids=[2, 5, 7, 9], measure="ifd")).tolist() == [5, 9]


def test_options_are_needed() -> None:
    assert {"rho", "ifd"} <= set(measures())
    assert not {"rho", "ifd"} & set(measures(LOSS))  # nothing else given, they cannot be had
    with pytest.raises(ArgumentError, match="measure 'rho' needs the option irreducible"):
        score(LOSS, "rho")
    with pytest.raises(ArgumentError, match="measure 'ifd' needs the option alone"):
        score(LOSS, "ifd")


@pytest.mark.parametrize(
    ("measure", "options", "text"),
    [
        ("rho", {"irreducible": [1.0]}, r"irreducible: float64 of shape \[1\]; must be floating point \[5\]"),
        ("rho", {"irreducible": [1, 2, 3, 4, 5]}, r"irreducible: int64 of shape \[5\]; must be floating"),
        (
            "rho",
            {"irreducible": [0.0, np.inf, 0, 0, 0]},
            "irreducible: inf of sample 1; must be finite, or NaN",
        ),
        ("rho", {"irreducible": np.zeros(5), "latest": 1}, "latest=1: must be True or False"),
        ("ifd", {"alone": [1.0, 1, 0, 1, 1]}, "alone: 0 of sample 2; a loss to divide by must be above 0"),
        ("ifd", {"alone": [1.0, 1, 1, -1, 1]}, "alone: -1 of sample 3; a loss to divide by must be above 0"),
        ("ifd", {"alone": [-np.inf, 1, 1, 1, 1]}, "alone: -inf of sample 0; must be finite"),
    ],
)
def test_refused(measure: str, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        score(LOSS, measure, **options)


def test_flagged_of_another_measure() -> None:
    with pytest.raises(ArgumentError, match=r"scores: Scores\(5 samples, measure='loss_mean'"):
        ifd_flagged(score(LOSS))


def test_bands_of_perplexity() -> None:
    tracker = Tracker(10)
    tracker.observe_loss(np.arange(10), np.linspace(0.1, 1, 10))
    tracker.end_epoch()
    perplexity = score(tracker.dynamics(), "perplexity")
    bands = {m: sorted(select(perplexity, 0.3, method=m).tolist()) for m in ("bottom", "moderate", "top")}
    assert bands == {"bottom": [0, 1, 2], "moderate": [4, 5, 6], "top": [7, 8, 9]}
