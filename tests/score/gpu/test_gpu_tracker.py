"""A tracker whose state is on a device is one whose state is on the host, within the bound of its numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pyimportance import ArgumentError, Dynamics, Tracker, measures, score
from pyimportance.score import state
from pyimportance.score.history import NAMES
from tests.score.runs import bits

N, CLASSES = 60, 12
Trackers = Callable[..., Tracker]


def epoch(number: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Ids (some of them twice, some not at all), logits and targets; logits drift apart as epochs go by."""
    rng = np.random.default_rng(number)
    ids = rng.permutation(np.append(np.arange(N - 5), np.arange(7)))
    z = rng.standard_normal((ids.size, CLASSES)).astype(np.float32) * (1 + number)
    return ids, z, rng.integers(0, CLASSES, ids.size)


def observe(tracker: Tracker, numbers: range) -> Tracker:
    for number in numbers:
        ids, z, y = epoch(number)
        for part in (slice(0, 32), slice(32, 33), slice(33, None)):
            tracker.observe(ids[part], z[part], torch.from_numpy(y[part]).to(torch.int32))
        tracker.end_epoch()
    return tracker


def check_close(got: Dynamics, want: Dynamics) -> None:
    assert got.epochs == want.epochs
    assert got.quantities == want.quantities
    for name in state.DTYPES:
        a, b = getattr(got, name, None), getattr(want, name, None)
        assert (a is None) == (b is None), name
        if a is not None:
            tolerance = 1e-5 if name.endswith("_m2") else 2e-6
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("history", [None, "memory"])
def test_the_numbers_of_the_host(trackers: Trackers, history: str | None) -> None:
    ours, hosts = (
        observe(trackers(N, history=history), range(4)),
        observe(Tracker(N, history=history), range(4)),
    )
    check_close(ours.dynamics(), hosts.dynamics())
    for measure in measures(hosts.dynamics()):
        a, b = score(ours.dynamics(), measure).values, score(hosts.dynamics(), measure).values
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=measure)
    if history:
        one, other = ours.dynamics().history, hosts.dynamics().history
        assert one is not None
        assert other is not None
        for name in (n for n in NAMES if n != "grand"):
            np.testing.assert_allclose(one.array(name), other.array(name), rtol=2e-6, atol=2e-6, err_msg=name)


def test_intervals_and_decay(trackers: Trackers) -> None:
    ours, hosts = trackers(N), Tracker(N)
    for tracker in (ours, hosts):
        observe(tracker, range(2)).dynamics(decay=0.5)
        observe(tracker, range(2, 4))
    check_close(ours.dynamics(), hosts.dynamics())
    for tracker in (ours, hosts):
        tracker.dynamics(reset=True)
        observe(tracker, range(4, 6))
    check_close(ours.dynamics(), hosts.dynamics())


def test_states_travel_between_host_and_device(trackers: Trackers) -> None:
    ours = observe(trackers(N), range(2))
    ids, z, y = epoch(2)
    ours.observe(ids[:20], z[:20], y[:20])
    saved = ours.state_dict()
    for other in (trackers(N), Tracker(N)):
        other.load_state_dict(saved)
        assert other.state_dict() == saved
        other.observe(ids, z, y)
        other.end_epoch()
        check_close(other.dynamics(), observe(Tracker(N), range(3)).dynamics())


def test_merging(trackers: Trackers) -> None:
    whole = observe(Tracker(N), range(4))
    for early, late in ((trackers, trackers), (trackers, Tracker), (Tracker, trackers)):
        merged = observe(early(N), range(2))
        merged.merge(observe(late(N, first_epoch=2), range(2, 4)))
        check_close(merged.dynamics(), whole.dynamics())


@pytest.mark.parametrize("skips", [False, True])
def test_an_epoch_that_only_the_device_knows_of_is_in_progress(trackers: Trackers, skips: bool) -> None:
    """As a graph's replay leaves it, which runs the kernels and no line of Python."""
    replayed = observe(trackers(N), range(1))
    other = trackers(N, first_epoch=1)
    assert not replayed.state_dict()["open"]
    z = np.full((1, 3), np.nan if skips else 0, np.float32)
    replayed._engine.observe([0], z, [0], None, None, None, skips)
    with pytest.raises(ArgumentError, match="merge: an epoch is in progress"):
        replayed.merge(other)
    with pytest.raises(ArgumentError, match="merge: an epoch is in progress"):
        other.merge(replayed)
    saved = replayed.state_dict()
    assert saved["open"]
    resumed = trackers(N)
    resumed.load_state_dict(saved)
    for tracker in (resumed, replayed):
        tracker.end_epoch()
        assert tracker.dynamics().count[0] == 2 - skips
        assert tracker.skipped == int(skips)
        assert not tracker.state_dict()["open"]


def test_losses(trackers: Trackers) -> None:
    ours, hosts = trackers(5), Tracker(5)
    for tracker in (ours, hosts):
        tracker.observe_loss([2, 0, 2], np.float32([-1.5, 3, 8]))
        tracker.observe_loss(torch.tensor([1, 3]), torch.tensor([9.0, 2]).half(), torch.tensor([True, False]))
        tracker.observe_loss([3], [np.inf], nonfinite="skip")
        assert tracker.skipped == 1
        tracker.end_epoch()
        assert tracker.skipped == 1
    assert bits(ours.dynamics()) == bits(hosts.dynamics())
    with pytest.raises(ArgumentError, match="this tracker has been given loss, now logits"):
        ours.observe([0], np.zeros((1, 2), np.float32), [0])


@pytest.mark.parametrize(
    ("ids", "targets", "bad", "text"),
    [
        ([1, 9], [0, 1], 0.0, "ids: 9 at position 1 of its batch; must be at least 0 and below 5"),
        (
            [1, 2],
            [0, 3],
            0.0,
            "targets: 3 at position 1 of its batch, sample 2; must be at least 0 and below C",
        ),
        (
            [1, 2],
            [0, 1],
            np.nan,
            r"logits: NaN or \+inf .* of sample 2 at position 1 of its batch; nonfinite=",
        ),
    ],
)
def test_a_problem_is_raised_by_what_reads_next_and_once(
    trackers: Trackers, ids: list[int], targets: list[int], bad: float, text: str
) -> None:
    z = np.zeros((2, 3), np.float32)
    z[1, 0] = bad
    for read in ("end_epoch", "dynamics", "state_dict"):
        tracker = trackers(5)
        tracker.observe(ids, z, targets)
        with pytest.raises(ArgumentError, match=text):
            getattr(tracker, read)()
        assert tracker.epochs == 0
        tracker.end_epoch()
        assert tracker.dynamics().count.tolist() == [0, 1, 0, 0, 0]  # the good entry has been recorded
    tracker = trackers(5)
    tracker.observe(ids, z, targets)
    with pytest.raises(ArgumentError, match=text):
        tracker.merge(Tracker(5))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ([0, 1, 2], torch.zeros(2, 3), [0, 0, 0]),
            r"logits: float32 of shape \[2, 3\]; must be floating point \[3,",
        ),
        (
            ([0, 1], torch.zeros(2), [0, 0]),
            r"logits: float32 of shape \[2\]; must be floating point \[2, C\]",
        ),
        (([0, 1], torch.zeros(2, 0), [0, 0]), "there must be at least one class"),
        (
            ([0, 1], torch.zeros(2, 3).int(), [0, 0]),
            r"logits: int32 of shape \[2, 3\]; must be floating point",
        ),
        (([0, 1], torch.zeros(2, 3), [0]), "targets: 1 of them; must be 2"),
        (([0.0, 1], torch.zeros(2, 3), [0, 0]), r"ids: float64 of shape \[2\]; must be integers \[B\]"),
        (([True, False], torch.zeros(2, 3), [0, 0]), r"ids: bool of shape \[2\]; must be integers \[B\]"),
        (([0, 1], torch.zeros(2, 3).to_sparse(), [0, 0]), "logits: no tensor can be made of this Tensor"),
        (([0, 1], torch.zeros(2, 3, device="meta"), [0, 0]), "logits: no tensor can be made of this Tensor"),
        (([0, 1], [[1.0], [1.0, 2.0]], [0, 0]), "logits: no array can be made of this list"),
    ],
)
def test_what_can_be_seen_without_waiting_is_refused_at_once(
    trackers: Trackers, arguments: tuple[Any, Any, Any], text: str
) -> None:
    tracker = trackers(4)
    with pytest.raises(ArgumentError, match=text):
        tracker.observe(*arguments)
    with pytest.raises(ArgumentError, match=r"mask: int64 of shape \[2\]; must be booleans \[2\]"):
        tracker.observe([0, 1], torch.zeros(2, 3), [0, 0], mask=[1, 0])
    with pytest.raises(ArgumentError, match=r"loss: int64 of shape \[2\]; must be floating point \[2\]"):
        tracker.observe_loss([0, 1], [3, 4])
    tracker.end_epoch()
    assert tracker.dynamics().count.sum() == 0


def test_what_is_taken(trackers: Trackers, tmp_path: Path) -> None:
    """Dtypes, strides, gradients, masks, nothing at all; and a history on disk."""
    ids, z, y = epoch(0)
    plain = trackers(N, history=tmp_path)
    plain.observe(ids, z, y)
    plain.end_epoch()
    mask = np.append(np.ones(ids.size, bool), np.zeros(3, bool))
    more = (
        np.append(ids, [-7, 99, 0]),
        np.append(z, np.full((3, CLASSES), np.nan, np.float32), 0),
        np.append(y, [0] * 3),
    )
    frozen = z.copy()
    frozen.flags.writeable = False
    for batch in (
        (ids.astype(np.uint8), torch.from_numpy(z).requires_grad_(), y.astype(np.int16), None),
        (ids.tolist(), torch.from_numpy(z.T.copy()).T, y, None),
        (ids, frozen.astype(np.float64), y, None),
        (ids, frozen, y, None),
        (ids[::-1][::-1], z, y, None),
        (*more, mask),
    ):
        tracker = trackers(N)
        tracker.observe([], [], [])
        tracker.observe(*batch[:3], mask=batch[3])
        tracker.end_epoch()
        assert bits(tracker.dynamics()) == bits(plain.dynamics())


def test_rows_as_ranks_exchange_them(trackers: Trackers) -> None:
    """Of a sample that several ranks observed the lowest rank's row stands, on the host and on a device."""
    results = []
    for make in (trackers, Tracker):
        engines = []
        for seed in range(3):
            tracker = make(N)
            ids, z, y = epoch(seed)
            tracker.observe(ids[: 20 + seed], z[: 20 + seed], y[: 20 + seed])
            engines.append(tracker._engine)
        parts = [each.packed() for each in engines]
        assert [len(ids) for ids, _ in parts] == [np.unique(epoch(s)[0][: 20 + s]).size for s in range(3)]
        before = engines[1].rows().tobytes()
        for each in engines:
            each.replace(parts)
        rows = [each.rows().tobytes() for each in engines]
        assert rows[0] == rows[1] == rows[2]
        results.append(engines[0].rows().copy())
        engines[1].replace([parts[1]])
        assert engines[1].rows().tobytes() == before
    ours, hosts = results
    np.testing.assert_array_equal(ours["code"], hosts["code"])
    np.testing.assert_allclose(ours["loss"], hosts["loss"], rtol=2e-6)
