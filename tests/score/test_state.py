"""state_dict and load_state_dict: what travels, and what is refused and then changes nothing."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from pyimportance import ArgumentError, Tracker
from pyimportance.score import state
from pyimportance.score.history import ROW
from tests.score.runs import batch, bits, run


@pytest.mark.parametrize("history", [None, "memory"])
@pytest.mark.parametrize("how", ["torch", "pickle"])
@pytest.mark.parametrize("observed", [0, 7])
def test_state_travels_between_epochs_and_within_one(history: str | None, how: str, observed: int) -> None:
    tracker = Tracker(20, history=history)
    run(tracker, range(3), range(20)).dynamics(decay=0.5)
    if observed:
        tracker.observe(*batch(range(observed), seed=9))
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
        each.observe(*batch(range(20), seed=10))  # what was observed before stands as it is
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


def test_states_of_version_1_are_read() -> None:
    """The latest loss and margin were float32."""
    tracker, other = run(Tracker(5), range(2), range(5)), Tracker(5)
    saved = tracker.state_dict()
    for name in ("loss_last", "margin_last"):
        saved["columns"][name] = np.frombuffer(saved["columns"][name]).astype(np.float32).tobytes()
    with pytest.raises(ArgumentError, match=r"column (loss|margin)_last: 20 bytes; must be 5 of 8 by"):
        other.load_state_dict(saved)
    other.load_state_dict({**saved, "version": 1})
    want, got = tracker.dynamics(), other.dynamics()
    for name in ("loss", "margin"):
        np.testing.assert_array_equal(got.latest(name), want.latest(name).astype(np.float32))
    np.testing.assert_array_equal(got.loss_mean, want.loss_mean)


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


def test_the_state_of_a_tracker_that_saw_nothing_is_read_by_torch() -> None:
    file = io.BytesIO()
    torch.save(Tracker(3).state_dict(), file)
    file.seek(0)
    Tracker(3).load_state_dict(torch.load(file))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"version": 9}, "state of version 9; this release reads 1 and 2"),
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


@pytest.mark.parametrize(("kind", "nbytes"), [("loss", 28), ("logits", 105), ("logits and features", 113)])
def test_the_stated_bytes_of_a_sample(kind: str, nbytes: int) -> None:
    """score/state.py and Tracker: the statistics; 16 more once something decays; 32 for an epoch's row."""
    ids, z, y = batch(range(50))
    tracker = Tracker(50)
    if kind == "loss":
        tracker.observe_loss(ids, z[:, 0])
    else:
        tracker.observe(ids, z, y, features=z if "features" in kind else None)
    tracker.end_epoch()
    assert sum(column.nbytes for column in tracker._engine.columns().values()) == 50 * nbytes
    tracker.dynamics(decay=0.5)
    assert sum(column.nbytes for column in tracker._engine.columns().values()) == 50 * (nbytes + 16)
    assert tracker._engine.rows().nbytes == 50 * 32


@pytest.mark.parametrize("num_samples", [1, 50, 500_000])
def test_no_row_lies_on_two_lines_of_a_cache(num_samples: int) -> None:
    tracker, other = Tracker(num_samples), Tracker(num_samples)
    other.load_state_dict(tracker.state_dict())
    for rows in (tracker._engine.rows(), other._engine.rows()):
        assert rows.ctypes.data % 64 == 0
        assert rows.flags.c_contiguous
