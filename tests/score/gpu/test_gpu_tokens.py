"""Sequences of tokens on a device are those on the host, within the bound of a device's numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pyimportance import ArgumentError, Tracker

Trackers = Callable[..., Tracker]
N = 12


def batch(
    sequences: int, length: int, vocabulary: int, dtype: torch.dtype = torch.float32
) -> tuple[npt.NDArray[np.int64], torch.Tensor, npt.NDArray[np.int64]]:
    """Ids, logits, and targets of which some are -100."""
    rng = np.random.default_rng(vocabulary)
    z = torch.from_numpy(rng.normal(size=(sequences, length, vocabulary)) * 3).to(dtype)
    y = rng.integers(0, vocabulary, (sequences, length))
    y[rng.random(y.shape) < 0.3] = -100
    y[:, length // 2] = vocabulary - 1
    return rng.permutation(N)[:sequences], z, y


def losses(tracker: Tracker, *arguments: Any, **options: Any) -> npt.NDArray[np.float64]:
    tracker.observe(*arguments, **options)
    tracker.end_epoch()
    assert tracker.dynamics().quantities == ("loss",)
    return tracker.dynamics().mean("loss")


@pytest.mark.parametrize("vocabulary", [1, 2, 9, 130, 257, 5003])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_mean_losses_of_the_host(trackers: Trackers, vocabulary: int, dtype: torch.dtype) -> None:
    for length in (1, 7, 300) if vocabulary < 100 else (5,):
        ids, z, y = batch(4, length, vocabulary, dtype)
        want = losses(Tracker(N), ids, z, y, ignore_index=-100)
        got = losses(trackers(N), ids, z, y, ignore_index=-100)
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-37, err_msg=f"{length} tokens")


@pytest.mark.parametrize("vocabulary", [5, 300])
def test_views_as_language_models_have_them(trackers: Trackers, vocabulary: int) -> None:
    """Without the last position; every other sequence; a part of the classes; the axes in another order."""
    ids, z, y = batch(6, 40, vocabulary)
    for logits, targets in (
        (z[:, :-1], y[:, 1:]),
        (z[::2, 1::3], y[::2, 1::3]),
        (z[1:2, :, 2:], np.clip(y[1:2], 0, vocabulary - 3)),
        (z.transpose(0, 1).contiguous().transpose(0, 1), y.astype(np.int16)),
        (z.transpose(1, 2).contiguous().transpose(1, 2), y.astype(np.int32)),
    ):
        want = losses(Tracker(N), ids[: len(targets)], logits, targets, ignore_index=-100)
        got = losses(trackers(N), ids[: len(targets)], logits, targets, ignore_index=-100)
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_what_is_masked_or_ignored_is_not_looked_at(trackers: Trackers) -> None:
    z, y = np.full((3, 4, 7), np.nan, np.float32), np.full((3, 4), 99)
    z[0], y[0] = 0, 1
    z[2, 1], y[2] = 0, [-1, 3, -1, -1]
    got = losses(trackers(N), [3, -5, 4], z, y, mask=[True, False, True], ignore_index=-1)
    np.testing.assert_allclose(got[[3, 4]], np.log(7), rtol=1e-6)
    assert np.isnan(np.delete(got, [3, 4])).all()


def test_a_masked_sequence_without_an_index_to_ignore(trackers: Trackers) -> None:
    got = losses(trackers(N), [3, 4], np.zeros((2, 3, 5), np.float32), [[0] * 3, [7] * 3], mask=[True, False])
    assert np.flatnonzero(got > 0).tolist() == [3]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("target", "targets: 5 at position 1 of its batch, sample 8; must be at least 0 and below C"),
        ("number", r"logits: NaN or \+inf .* of sample 8 at position 1 of its batch; nonfinite="),
        ("no token", "targets of sample 8 at position 1 of its batch: no token that counts; nonfinite="),
        ("id", "ids: 12 at position 1 of its batch; must be at least 0 and below 12"),
    ],
)
def test_a_problem_is_raised_by_what_reads_next(trackers: Trackers, change: str, text: str) -> None:
    ids, z, y = np.array([7, 8, 9]), np.zeros((3, 600, 5), np.float32), np.zeros((3, 600), np.int64)
    if change == "target":
        y[1, 300], y[1, 580] = 5, 6
    elif change == "number":
        z[1, 599, 4] = np.inf
    elif change == "no token":
        y[1] = -100
    else:
        ids[1] = N
    tracker = trackers(N)
    tracker.observe(ids, z, y, ignore_index=-100)
    with pytest.raises(ArgumentError, match=text):
        tracker.end_epoch()
    tracker.end_epoch()
    assert np.flatnonzero(tracker.dynamics().count).tolist() == [7, 9]
    if change in ("number", "no token"):
        tracker.observe(ids, z, y, ignore_index=-100, nonfinite="skip")
        assert tracker.skipped == 1
        tracker.end_epoch()
        assert tracker.dynamics().count[[7, 8, 9]].tolist() == [2, 0, 2]


def test_nothing_at_all(trackers: Trackers) -> None:
    tracker = trackers(N)
    tracker.observe(np.zeros(0, np.int64), np.zeros((0, 3, 4), np.float32), np.zeros((0, 3), np.int64))
    tracker.observe([2], np.zeros((1, 0, 4), np.float32), np.zeros((1, 0), np.int64), nonfinite="skip")
    assert tracker.skipped == 1
    tracker.end_epoch()
    assert not tracker.dynamics().count.any()


@pytest.mark.parametrize(
    ("logits", "targets", "options", "text"),
    [
        ((2, 3, 4), (2,), {}, r"targets: int64 of shape \[2\]; must be integers \[2, 3\]"),
        ((2, 3, 4), (2, 4), {}, r"targets: int64 of shape \[2, 4\]; must be integers \[2, 3\]"),
        ((1, 3, 4), (1, 3), {}, r"logits: float32 of shape \[1, 3, 4\]; must be floating point \[2, C\] or"),
        ((2, 3, 0), (2, 3), {}, "there must be at least one class"),
        ((2, 3, 4), (2, 3), {"features": np.ones((2, 2))}, "features: given with logits"),
        ((2, 3, 4), (2, 3), {"ignore_index": 0.5}, "ignore_index=0.5: must be an integer"),
    ],
)
def test_what_is_refused_at_once(
    trackers: Trackers, logits: Any, targets: Any, options: dict[str, Any], text: str
) -> None:
    tracker = trackers(N)
    with pytest.raises(ArgumentError, match=text):
        tracker.observe([0, 1], np.zeros(logits, np.float32), np.zeros(targets, np.int64), **options)
    tracker.end_epoch()
    assert not tracker.dynamics().count.any()
