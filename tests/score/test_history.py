"""Histories of a tracker, in memory and in a directory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pyimportance import ArgumentError, DataError, Dynamics, OutputError, Tracker, measures, score
from pyimportance.score.history import RowHistory
from tests.score.runs import batch, run


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


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_rows_of_a_history_are_read_only(tmp_path: Path, place: str) -> None:
    tracker = run(Tracker(5, history="memory" if place == "memory" else tmp_path), range(1), range(5))
    history = tracker.dynamics().history
    assert isinstance(history, RowHistory)
    with pytest.raises(ValueError, match="read-only"):
        history.rows(0)["loss"][0] = 9


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
