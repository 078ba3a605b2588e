"""The edges of what a tracker on a device takes: types of integers, numbers of classes, doubles that float32
cannot hold, places beyond 32 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pyimportance import ArgumentError, Dynamics, Tracker
from pyimportance.score.device import reduced
from tests.score.runs import batch, bits

Trackers = Callable[..., Tracker]


def observed(tracker: Tracker, *arguments: Any, **options: Any) -> Dynamics:
    tracker.observe(*arguments, **options)
    tracker.end_epoch()
    return tracker.dynamics()


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
@pytest.mark.parametrize("given", ["NumPy", "tensors"])
def test_integers_of_any_type(trackers: Trackers, kind: str, given: str) -> None:
    ids, z, y = batch(np.random.default_rng(0).permutation(60))
    narrow = [x.astype(kind) for x in (ids, y)]
    if given == "tensors":
        narrow = [torch.from_numpy(x) for x in narrow]
    for where in (trackers, Tracker):
        plain = observed(where(60), ids, z, y)
        assert bits(observed(where(60), narrow[0], z, narrow[1])) == bits(plain)


@pytest.mark.parametrize("kind", ["int64", "uint64", "int8"])
def test_integers_out_of_range(trackers: Trackers, kind: str) -> None:
    """The largest and the smallest there are."""
    z = np.zeros((2, 3), np.float32)
    for bad in (np.iinfo(kind).max, np.iinfo(kind).min):
        if bad == 0:
            continue
        for ids, y in (([0, bad], [0, 0]), ([0, 1], [0, bad])):
            tracker = trackers(5)
            with pytest.raises(ArgumentError, match=r"(ids|targets): "):
                observed(tracker, np.array(ids, kind), z, np.array(y, kind))
            tracker.end_epoch()
            assert tracker.dynamics().count.sum() <= 1  # the other entry, if the device had to be asked


@pytest.mark.parametrize("classes", [1, 256_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_one_class_and_as_many_as_any_vocabulary_has(
    trackers: Trackers, classes: int, dtype: torch.dtype
) -> None:
    z = torch.from_numpy(np.random.default_rng(classes).standard_normal((3, classes))).to(dtype)
    y = [classes - 1, 0, classes // 2]
    got, want = (observed(tracker, [2, 0, 1], z, y) for tracker in (trackers(3), Tracker(3)))
    assert got.classes == want.classes == classes
    for quantity in ("loss", "p_true", "margin", "el2n", "entropy"):
        np.testing.assert_allclose(got.mean(quantity), want.mean(quantity), rtol=2e-6, atol=2e-6)
    np.testing.assert_array_equal(got.correct, want.correct)


def test_doubles_beyond_float32_are_infinite(trackers: Trackers) -> None:
    z = np.array([[0, 1e300], [0, -1e300], [-1e300, 0]])
    text = r"logits: NaN or \+inf \(what float32 cannot hold is infinite\), .* of sample 0 "
    for tracker in (trackers(3), Tracker(3)):
        with pytest.raises(ArgumentError, match=text):
            observed(tracker, [0], z[:1], [0])
        tracker.observe([0, 1, 2], z, [0, 0, 0], nonfinite="skip")
        assert tracker.skipped == 2  # +inf, and a target of which the loss is infinite
        tracker.end_epoch()
        assert tracker.dynamics().count.tolist() == [0, 1, 0]


@pytest.mark.gpu
def test_a_state_beyond_32_bits(device: Any) -> None:
    """Rows of 32 bytes, the last of them past 2 GiB, and past 2^31 of any element."""
    samples = 70_000_000
    if torch.cuda.mem_get_info()[0] < 80 * samples:
        pytest.skip("the device has too little free memory")
    tracker = Tracker(samples, device="cuda")
    ids = torch.tensor([0, 2**26 - 1, 2**26, 2**26 + 1, samples - 1])
    tracker.observe_loss(ids, torch.arange(1.0, 6.0))
    there, rows = tracker._engine.packed()
    assert there.tolist() == ids.tolist()
    assert rows.cpu().numpy().view(np.float64)[:, 0].tolist() == [1, 2, 3, 4, 5]


@pytest.mark.gpu
def test_a_history_beyond_32_bits(device: Any) -> None:
    epochs, samples = 2150, 1_000_000
    if torch.cuda.mem_get_info()[0] < 2 * epochs * samples:
        pytest.skip("the device has too little free memory")
    correct = torch.zeros(epochs, samples, dtype=torch.bool, device="cuda")
    correct[-1, -3:] = True
    correct[-2, -1] = correct[0, -2] = True
    got = reduced({"correct": correct}, device.native, device.stream())
    assert got is not None
    assert got["correct"][-4:].tolist() == [0, 1, 2, 2]
    assert got["forgotten"][-4:].tolist() == [0, 0, 1, 0]
    assert got["first_learned"][-3:].tolist() == [epochs - 1, 0, epochs - 2]
    assert got["count"].tolist() == [epochs] * samples
