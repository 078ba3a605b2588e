"""GraNd of the last layer: logits observed together with what the last layer was given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pyimportance import ArgumentError, Dynamics, Tracker, score
from pyimportance.score.reference import measure, row_statistics

Z = np.zeros((2, 3), np.float32)
H = np.ones((2, 4), np.float32)


def batch(seed: int, rows: int) -> tuple[torch.Tensor, torch.nn.Linear, torch.Tensor]:
    generator = torch.manual_seed(seed)
    layer = torch.nn.Linear(6, 5)
    h = torch.randn(rows, 6, generator=generator) * 2
    return h, layer, torch.randint(0, 5, (rows,), generator=generator)


def test_identities_of_gradients(isa: str) -> None:
    """||d loss / d z|| is EL2N; with respect to weights and bias it is EL2N sqrt(1 + ||h||^2)."""
    h, layer, y = batch(0, 40)
    z = layer(h)
    tracker = Tracker(40, history="memory")
    tracker.observe(torch.arange(40), z, y, features=h)
    tracker.end_epoch()
    history = tracker.dynamics().history
    assert history is not None
    assert history.quantities[-1] == "grand"
    for n in range(40):
        logits = layer(h[n : n + 1])
        loss = torch.nn.functional.cross_entropy(logits, y[n : n + 1])
        of_z, of_w, of_b = torch.autograd.grad(loss, (logits, layer.weight, layer.bias))
        whole = torch.sqrt(of_w.square().sum() + of_b.square().sum())
        np.testing.assert_allclose(history.array("el2n")[0, n], float(of_z.norm()), rtol=1e-5)
        np.testing.assert_allclose(history.array("grand")[0, n], float(whole), rtol=1e-5)


def test_grand_over_epochs(isa: str, rng: np.random.Generator) -> None:
    tracker, rows = Tracker(9), []
    for epoch in range(4):
        z, h, y = rng.normal(size=(9, 4)), rng.normal(size=(9, 33)), rng.integers(0, 4, 9)
        z, h = z.astype(np.float32), h.astype(np.float16)
        ids = np.arange(9) if epoch else np.arange(9)[::-1]
        tracker.observe(ids, z[ids], y[ids], features=h[ids])
        tracker.end_epoch()
        rows.append(row_statistics(z, y, h))
    history = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    got = score(tracker.dynamics(), "grand_last").values
    np.testing.assert_allclose(got, measure("grand_last", history), rtol=1e-6)
    decayed = tracker.dynamics(decay=0.5)
    assert decayed.grand_sum is not None
    after = tracker.dynamics().grand_sum
    np.testing.assert_array_equal(after, decayed.grand_sum * 0.5)


def test_two_halves_merged_are_one_whole(rng: np.random.Generator) -> None:
    z, h, y = rng.normal(size=(10, 3)), rng.normal(size=(10, 5)), rng.integers(0, 3, 10)
    whole, even, odd = Tracker(10), Tracker(10), Tracker(10)
    whole.observe(range(10), z, y, features=h)
    even.observe(range(0, 10, 2), z[::2], y[::2], features=h[::2])
    odd.observe(range(1, 10, 2), z[1::2], y[1::2], features=h[1::2])
    for tracker in (whole, even, odd):
        tracker.end_epoch()
    even.merge(odd)
    assert even.dynamics().grand_sum.tobytes() == whole.dynamics().grand_sum.tobytes()  # type: ignore[union-attr]
    other = Tracker(10)
    other.load_state_dict(even.state_dict())
    other.observe(range(10), z, y, features=h)
    with pytest.raises(ArgumentError, match="has been given logits and features, now logits; it takes one"):
        other.observe(range(10), z, y)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite(isa: str, bad: float) -> None:
    h = np.ones((3, 40), np.float32)
    h[1, 39] = bad
    with pytest.raises(ArgumentError, match=r"features: NaN or infinite, .* of sample 7 \(position 1\)"):
        Tracker(9).observe([2, 7, 4], np.zeros((3, 2)), [0, 0, 0], features=h)
    tracker = Tracker(9)
    tracker.observe([2, 7, 4], np.zeros((3, 2)), [0, 0, 0], features=h, nonfinite="skip")
    assert tracker.skipped == 1
    tracker.observe([7], np.zeros((1, 2)), [0], features=h[1:2], mask=[False])
    tracker.end_epoch()
    assert np.flatnonzero(tracker.dynamics().count).tolist() == [2, 4]


@pytest.mark.parametrize(
    ("features", "text"),
    [
        (H[:1], r"features: float32 of shape \[1, 4\]; must be floating point \[2, D\]"),
        (H[0], r"features: float32 of shape \[4\]; must be floating point \[2, D\]"),
        (H.astype(int), r"features: int64 of shape \[2, 4\]; must be floating point"),
        (
            torch.ones(3, 4, dtype=torch.bfloat16),
            r"features: bfloat16 of shape \[3, 4\]; must be floating point",
        ),
        ([[1.0], [1.0, 2.0]], "features: no array can be made of this list"),
    ],
)
def test_features_that_are_refused(features: Any, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        Tracker(4).observe([0, 1], Z, [0, 0], features=features)


def test_no_grand_without_features() -> None:
    tracker = Tracker(4)
    tracker.observe([0, 1], Z, [0, 0])
    tracker.end_epoch()
    dynamics: Dynamics = tracker.dynamics()
    assert dynamics.grand_sum is None
    with pytest.raises(ArgumentError, match="'grand_last' needs grand, which was not recorded"):
        score(dynamics, "grand_last")


def test_what_a_tracker_can_record_is_known_once_it_has_been_given_something() -> None:
    tracker = Tracker(2, history="memory")
    assert {"loss", "grand", "history"} <= set(tracker.recordable)
    tracker.observe([0, 1], Z, [0, 1], features=H)
    assert {"loss", "grand", "history"} <= set(tracker.recordable)
    tracker = Tracker(2)
    tracker.observe([0, 1], Z, [0, 1])
    assert {"grand", "history"}.isdisjoint(tracker.recordable)
    tracker = Tracker(2)
    tracker.observe_loss([0], [1.0])
    assert tracker.recordable == ("loss",)
