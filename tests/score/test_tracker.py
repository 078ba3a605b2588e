"""Tracker: what an interval and a merge mean, how state and history travel."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pyimportance import ArgumentError, DataError, Dynamics, OutputError, Tracker, measures, score
from pyimportance.score import state
from pyimportance.score.history import ROW, RowHistory

Batch = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.int64]]


def batch(ids: npt.ArrayLike, seed: int = 0, classes: int = 5) -> Batch:
    ids = np.asarray(ids)
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(ids.size, classes)).astype(np.float32) * 2
    return ids, z, rng.integers(0, classes, ids.size)


def run(tracker: Tracker, epochs: range, ids: npt.ArrayLike) -> Tracker:
    """Epochs of the same samples; what is observed depends on the epoch and the sample only."""
    for epoch in epochs:
        _, z, y = batch(range(tracker.num_samples), seed=epoch)
        tracker.observe(ids, z[ids], y[ids])
        tracker.end_epoch()
    return tracker


def bits(dynamics: Dynamics) -> dict[str, bytes]:
    return {
        name: getattr(dynamics, name).tobytes()
        for name in state.DTYPES
        if getattr(dynamics, name, None) is not None
    }


def test_the_epoch_in_progress_is_not_in_the_dynamics() -> None:
    tracker = run(Tracker(10), range(2), range(10))
    before = bits(tracker.dynamics())
    tracker.observe(*batch(range(10), seed=5))
    assert bits(tracker.dynamics()) == before


def test_reset_begins_a_new_interval() -> None:
    tracker = run(Tracker(10), range(3), range(10))
    assert tracker.dynamics(reset=True).epochs == 3
    assert tracker.dynamics().epochs == 0
    assert np.isnan(score(tracker.dynamics()).values).all()
    run(tracker, range(3, 5), range(10))
    fresh = run(Tracker(10, first_epoch=3), range(3, 5), range(10))
    assert bits(tracker.dynamics()) == bits(fresh.dynamics())
    assert tracker.dynamics().epochs == 2
    assert tracker.epochs == 5


def test_epochs_of_an_interval_count_from_its_own_first() -> None:
    tracker = run(Tracker(30, history="memory"), range(3), range(30))
    tracker.dynamics(True)
    dynamics = run(tracker, range(3, 6), range(30)).dynamics(False, None)
    history = dynamics.history
    assert history is not None
    again = Dynamics.from_history(**{name: history.array(name) for name in history.quantities})
    np.testing.assert_array_equal(dynamics.first_learned, again.first_learned)
    np.testing.assert_array_equal(
        score(dynamics, "first_learned").values, score(again, "first_learned").values
    )


def test_decay_weighs_the_past_less() -> None:
    tracker, kept = Tracker(10), Tracker(10, history="memory")
    weights = []
    for interval in range(3):
        run(tracker, range(2 * interval, 2 * interval + 2), range(10))
        run(kept, range(2 * interval, 2 * interval + 2), range(10))
        weights = [w * 0.5 for w in weights] + [1.0, 1.0]
        dynamics = tracker.dynamics(decay=0.5)
    history = kept.dynamics().history
    assert history is not None
    w = np.array(weights)[:, None]
    for name in ("loss", "p_true", "margin", "el2n", "entropy"):
        x = history.array(name)
        np.testing.assert_allclose(dynamics.mean(name), (w * x).sum(0) / w.sum(), rtol=1e-12)
    for name, ddof in (("loss", 1), ("p_true", 0)):
        x = history.array(name)
        mean = (w * x).sum(0) / w.sum()
        divisor = w.sum() - ddof * (w * w).sum() / w.sum()
        np.testing.assert_allclose(
            dynamics.variance(name, ddof), (w * (x - mean) ** 2).sum(0) / divisor, rtol=1e-11
        )
    np.testing.assert_allclose(dynamics.observations, w.sum() ** 2 / (w * w).sum())
    assert dynamics.count.tolist() == [6] * 10
    np.testing.assert_array_equal(
        score(dynamics, "forgetting").values, score(kept.dynamics(), "forgetting").values
    )


def test_decay_of_one_changes_nothing() -> None:
    plain, decayed = Tracker(10), Tracker(10)
    for epoch in range(3):
        run(plain, range(epoch, epoch + 1), range(10))
        run(decayed, range(epoch, epoch + 1), range(10)).dynamics(decay=1.0)
    assert bits(plain.dynamics()) == bits(decayed.dynamics())
    for wrong in (0, -1, 1.5, np.nan):
        with pytest.raises(ArgumentError, match="must be above 0 and at most 1"):
            plain.dynamics(decay=wrong)
    with pytest.raises(ArgumentError, match="not come with reset=True"):
        plain.dynamics(decay=0.5, reset=True)


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


@pytest.mark.parametrize("history", [None, "memory"])
@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_state_travels_in_the_middle_of_an_epoch(history: str | None, how: str) -> None:
    tracker = Tracker(20, history=history)
    run(tracker, range(3), range(20)).dynamics(decay=0.5)
    tracker.observe(*batch(range(7), seed=9))
    file = io.BytesIO()
    if how == "torch":
        torch.save(tracker.state_dict(), file)
        file.seek(0)
        saved = torch.load(file)  # that is, weights_only=True: nothing else is unpickled
    else:
        saved = pickle.loads(pickle.dumps(tracker.state_dict()))
    other = Tracker(20, history=history)
    other.load_state_dict(saved)
    for each in (tracker, other):
        each.observe(*batch(range(20), seed=10))  # 0..6 stand as they are
        each.end_epoch()
    assert bits(tracker.dynamics()) == bits(other.dynamics())
    assert (other.epochs, other.dynamics().epochs) == (4, 4)
    if history:
        a, b = tracker.dynamics().history, other.dynamics().history
        assert a is not None
        assert b is not None
        np.testing.assert_array_equal(a.array("loss"), b.array("loss"))


def test_a_state_is_a_copy() -> None:
    tracker = run(Tracker(5), range(2), range(5))
    saved = tracker.state_dict()
    before = pickle.dumps(saved)
    run(tracker, range(2, 3), range(5))
    assert pickle.dumps(saved) == before
    other = Tracker(5)
    other.load_state_dict(saved)
    run(other, range(2, 3), range(5))
    assert pickle.dumps(saved) == before
    assert bits(tracker.dynamics()) == bits(other.dynamics())


def test_a_state_of_the_first_epoch() -> None:
    tracker, other = Tracker(5), Tracker(5)
    tracker.dynamics(decay=0.5)  # nothing has been seen that could weigh less
    tracker.observe(*batch(range(3)))
    other.load_state_dict(tracker.state_dict())
    for each in (tracker, other):
        each.end_epoch()
        assert each.dynamics().quantities == state.KINDS["logits"]
    assert bits(tracker.dynamics()) == bits(other.dynamics())


def test_states_that_do_not_fit() -> None:
    saved = run(Tracker(5), range(2), range(5)).state_dict()
    with pytest.raises(ArgumentError, match="state of 5 samples for a tracker of 6"):
        Tracker(6).load_state_dict(saved)
    with pytest.raises(ArgumentError, match="state: epochs, history missing"):
        Tracker(5).load_state_dict({k: v for k, v in saved.items() if k not in ("epochs", "history")})
    with pytest.raises(ArgumentError, match='one of it and the tracker has history="memory"'):
        Tracker(5, history="memory").load_state_dict(saved)


ROWS = np.zeros(5, ROW)
BAD_ROWS = ROWS.copy()
BAD_ROWS["code"] = 4


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"version": 9}, "state of version 9; this release reads 1"),
        ({"version": True}, "state of version True"),
        ({"epochs": "x"}, "state: epochs='x'; must be an integer from 0"),
        ({"epochs": -5}, "state: epochs=-5; must be"),
        ({"epochs": 2**31}, "must be in this order and at most"),
        ({"start": 4}, "state: epochs 0 to 3, statistics from 4; must be in this order"),
        ({"epochs": 1, "history": {0: ROWS.tobytes()}}, "count: 3 for sample 0; allowed are 0 to 1"),
        ({"skipped": 1.0}, "state: skipped=1.0"),
        ({"kind": "foo"}, "state: kind='foo'; must be one of '', 'loss', 'logits'"),
        ({"kind": "loss"}, r"state: columns \['correct', .* for loss observed"),
        ({"open": 1}, "state: open=1; must be a bool"),
        ({"columns": None}, "state: columns is NoneType; must be a mapping"),
        ({"columns": {}}, r"state: columns \[\] for logits"),
        ({"columns.count": bytes(16)}, "state: column count: 16 bytes; must be 5 of 4 bytes"),
        ({"columns.count": np.zeros(5, np.int32)}, "state: column count is ndarray; must be bytes"),
        ({"columns.surprise": bytes(40)}, "state: column 'surprise' is unknown"),
        ({"columns.weight": bytes(40)}, "state: columns .* for logits"),
        ({"columns.p_mean": np.full(5, 7.0).tobytes()}, "p_mean: 7.0 for sample 0; allowed are 0 to 1"),
        ({"columns.ends": bytes([4] * 5)}, "state: column ends: 4; allowed are 0 to 3"),
        ({"open_ids": bytes(4)}, "state: open_ids: 4 bytes; must be whole numbers of 8 bytes"),
        ({"open_ids": np.array([7]).tobytes(), "open_rows": bytes(32)}, "ids: 7 at position 0; must be at"),
        ({"open_ids": np.array([1]).tobytes(), "open_rows": bytes(32)}, "rows: code: 0 at position 0"),
        ({"open_ids": np.array([1]).tobytes(), "open_rows": bytes(31)}, "state: open_rows: 31 bytes"),
        ({"history": [1]}, "state: history is list; must be a mapping"),
        ({"history": {}}, "state: history of epoch 0 is missing"),
        ({"history.1": bytes(31)}, "state: history of epoch 1: 31 bytes; must be 5 of 32 bytes"),
        ({"history.1": BAD_ROWS.tobytes()}, "state: history of epoch 1: a row's code is none"),
        ({"history.3": ROWS.tobytes()}, "state: history of epoch 3; there are 0 to 2"),
        ({"history.x": ROWS.tobytes()}, "state: history of epoch 'x'"),
        (None, "state: list; must be what state_dict returned"),
    ],
)
def test_a_state_that_is_refused_changes_nothing(change: dict[str, Any] | None, text: str) -> None:
    saved: Any = run(Tracker(5, history="memory"), range(3), range(5)).state_dict()
    for name, value in (change or {}).items():
        part, _, entry = name.partition(".")
        if entry:
            saved[part][int(entry) if entry.isdigit() else entry] = value
        else:
            saved[part] = value
    tracker = run(Tracker(5, history="memory"), range(2), range(5))
    tracker.observe(*batch([1, 2], seed=3))
    before = tracker.state_dict()
    with pytest.raises(ArgumentError, match=text):
        tracker.load_state_dict(saved if change is not None else [])  # type: ignore[arg-type]
    assert tracker.state_dict() == before


def test_a_fresh_tracker_wants_an_empty_directory(tmp_path: Path) -> None:
    old = run(Tracker(20, history=tmp_path), range(3), range(20))
    text = "history: the directory holds epochs 0 to 2 of another run; must be empty, or load_state_dict be"
    with pytest.raises(ArgumentError, match=text):
        Tracker(20, history=tmp_path).observe(*batch([1]))
    with pytest.raises(ArgumentError, match=text):
        Tracker(20, history=tmp_path).end_epoch()
    resumed = Tracker(20, history=tmp_path)
    resumed.load_state_dict(old.state_dict())
    run(resumed, range(3, 4), range(20))
    history = resumed.dynamics().history
    assert history is not None
    assert history.epochs == 4


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


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_rows_of_a_history_are_read_only(tmp_path: Path, place: str) -> None:
    tracker = run(Tracker(5, history="memory" if place == "memory" else tmp_path), range(1), range(5))
    history = tracker.dynamics().history
    assert isinstance(history, RowHistory)
    with pytest.raises(ValueError, match="read-only"):
        history.rows(0)["loss"][0] = 9


def test_history(tmp_path: Path) -> None:
    in_memory, on_disk = Tracker(20, history="memory"), Tracker(20, history=tmp_path / "h")
    for tracker in (in_memory, on_disk):
        run(tracker, range(3), range(0, 20, 2))
    assert [p.name for p in sorted((tmp_path / "h").iterdir())] == [f"epoch-00000{e}.npy" for e in range(3)]
    histories = [tracker.dynamics().history for tracker in (in_memory, on_disk)]
    for history in histories:
        assert history is not None
        assert history.epochs == 3
        np.testing.assert_array_equal(history.seen, np.tile(np.arange(20) % 2 == 0, (3, 1)))
        again = Dynamics.from_history(**{name: history.array(name) for name in history.quantities})
        for name in measures(again):
            np.testing.assert_allclose(
                score(again, name).values, score(in_memory.dynamics(), name).values, rtol=1e-6, err_msg=name
            )
        with pytest.raises(
            ArgumentError, match="history has no 'logits'; there are loss, p_true, margin, el2n"
        ):
            history.array("logits")
    in_memory.dynamics(reset=True)
    run(in_memory, range(3, 4), range(20))
    later = in_memory.dynamics().history
    assert later is not None
    assert later.epochs == 1


def test_history_on_disk_that_is_broken(tmp_path: Path) -> None:
    tracker = run(Tracker(20, history=tmp_path), range(2), range(20))
    history = tracker.dynamics().history
    assert history is not None
    (tmp_path / "epoch-000000.npy").write_bytes(b"\x93NUMPY rubbish")
    with pytest.raises(DataError, match=r"epoch-000000\.npy: not a NumPy array"):
        history.array("loss")
    np.save(tmp_path / "epoch-000000.npy", np.zeros(20))
    with pytest.raises(DataError, match=r"float64 of shape \[20\]; must be rows \[20\]"):
        history.array("loss")
    (tmp_path / "epoch-000000.npy").unlink()
    with pytest.raises(DataError, match="no such file; the history of this epoch is lost"):
        history.array("loss")


def test_an_epoch_whose_history_cannot_be_written_can_be_ended_again(tmp_path: Path) -> None:
    tracker = Tracker(5, history=tmp_path / "h")
    tracker.observe(*batch(range(5)))
    (tmp_path / "h").rmdir()
    with pytest.raises(OutputError, match=r"epoch-000000\.npy: cannot be written"):
        tracker.end_epoch()
    assert tracker.epochs == 0
    (tmp_path / "h").mkdir()
    tracker.end_epoch()
    assert tracker.dynamics().count.tolist() == [1] * 5
