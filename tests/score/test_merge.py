"""Trackers merged: parts of the data, or later epochs; anything else is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pyimportance import ArgumentError, Tracker, measures, score
from pyimportance.score import state
from tests.score.runs import bits, run


@pytest.mark.parametrize("history", [None, "memory"])
def test_merging_two_parts_of_the_data_is_exact(history: str | None) -> None:
    whole = run(Tracker(20, history=history), range(4), range(20))
    first, second = (run(Tracker(20, history=history), range(4), range(r, 20, 2)) for r in (0, 1))
    first.merge(second)
    assert bits(first.dynamics()) == bits(whole.dynamics())
    assert first.epochs == 4
    run(first, range(4, 6), range(20))  # and it goes on as one
    run(whole, range(4, 6), range(20))
    assert bits(first.dynamics()) == bits(whole.dynamics())
    if history:
        for name in state.KINDS["logits"]:
            merged, all_of_it = first.dynamics().history, whole.dynamics().history
            assert merged is not None
            assert all_of_it is not None
            np.testing.assert_array_equal(merged.array(name), all_of_it.array(name))


def test_merging_later_epochs() -> None:
    whole = run(Tracker(40), range(9), range(40))
    early, late = (
        run(Tracker(40), range(5), range(40)),
        run(Tracker(40, first_epoch=5), range(5, 9), range(40)),
    )
    early.merge(late)
    assert early.epochs == 9
    merged, want = early.dynamics(), whole.dynamics()
    assert merged.epochs == 9
    for name in ("count", "correct", "forgotten", "first_learned"):
        np.testing.assert_array_equal(getattr(merged, name), getattr(want, name), name)
    for name in measures(want):
        np.testing.assert_allclose(
            score(merged, name).values, score(want, name).values, rtol=1e-6, err_msg=name
        )
    run(early, range(9, 11), range(40))
    run(whole, range(9, 11), range(40))
    np.testing.assert_array_equal(early.dynamics().forgotten, whole.dynamics().forgotten)


def test_merging_after_decay() -> None:
    whole, early = Tracker(10), Tracker(10)
    for tracker in (whole, early):
        run(tracker, range(3), range(10)).dynamics(decay=0.25)
    run(whole, range(3, 5), range(10))
    early.merge(run(Tracker(10, first_epoch=3), range(3, 5), range(10)))
    for name in measures(whole.dynamics()):
        got, want = score(early.dynamics(), name).values, score(whole.dynamics(), name).values
        np.testing.assert_allclose(got, want, rtol=1e-6, err_msg=name)


def test_merging_into_an_empty_tracker() -> None:
    tracker, other = Tracker(10), run(Tracker(10, first_epoch=2), range(2, 4), range(10))
    tracker.merge(other)
    assert bits(tracker.dynamics()) == bits(other.dynamics())
    other.merge(Tracker(10))
    assert bits(tracker.dynamics()) == bits(other.dynamics())


def test_what_merge_refuses() -> None:
    tracker = run(Tracker(10), range(5), range(10))
    text = (
        r"merge: 3 samples \(2 first\) seen by both: epochs 0 to 4 here, 3 to 5 in the other; must be no "
        r"samples in common, or later epochs \(Tracker\(first_epoch=\.\.\.\)\)"
    )
    before = bits(tracker.dynamics())
    with pytest.raises(ArgumentError, match=text):
        tracker.merge(run(Tracker(10, first_epoch=3), range(3, 6), [2, 5, 7]))
    with pytest.raises(ArgumentError, match="merge: 10 samples here, 11 in the other"):
        tracker.merge(Tracker(11))
    with pytest.raises(ArgumentError, match="one of the trackers keeps a history, the other does not"):
        tracker.merge(Tracker(10, history="memory"))
    losses = Tracker(10, first_epoch=5)
    losses.observe_loss([1], [2.0])
    with pytest.raises(ArgumentError, match="an epoch is in progress; call end_epoch first"):
        tracker.merge(losses)
    losses.end_epoch()
    with pytest.raises(ArgumentError, match="merge: logits observed here, loss in the other"):
        tracker.merge(losses)
    assert bits(tracker.dynamics()) == before


def test_merging_takes_committed_epochs_alone(tmp_path: Path) -> None:
    """A directory may hold epochs after those of the checkpoint that a run went back to."""
    late = run(Tracker(20, first_epoch=4, history=tmp_path / "late"), range(4, 6), range(20))
    saved = late.state_dict()
    run(late, range(6, 8), range(20))
    early = Tracker(20, history=tmp_path / "early")
    saved_early = run(early, range(2), range(20)).state_dict()
    run(early, range(2, 5), range(20))
    back, back_early = Tracker(20, history=tmp_path / "late"), Tracker(20, history=tmp_path / "early")
    back.load_state_dict(saved)
    back_early.load_state_dict(saved_early)
    back_early.merge(back)
    history = back_early.dynamics().history
    assert history is not None
    assert history.epochs == back_early.dynamics().epochs == 6
    assert history.seen.all(axis=1).tolist() == [True, True, False, False, True, True]
    assert history.seen.any(axis=1).tolist() == [True, True, False, False, True, True]
    run(back_early, range(6, 7), range(20))
    fresh = run(Tracker(20, first_epoch=6, history="memory"), range(6, 7), range(20)).dynamics().history
    again = back_early.dynamics().history
    assert again is not None
    assert fresh is not None
    np.testing.assert_array_equal(again.array("loss")[6], fresh.array("loss")[0])
