"""Sequences of tokens: logits [B, T, V], of which the mean loss is observed."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pyimportance import ArgumentError, Tracker, score
from pyimportance.score.reference import row_statistics


def means(z: npt.NDArray[Any], y: npt.NDArray[np.int64], ignore: int) -> list[float]:
    """The oracle's mean loss of every sequence over the tokens that count."""
    return [
        float(row_statistics(z[b][y[b] != ignore], y[b][y[b] != ignore])["loss"].mean())
        for b in range(len(z))
    ]


def losses(tracker: Tracker) -> npt.NDArray[np.float64]:
    tracker.end_epoch()
    return tracker.dynamics().mean("loss")


@pytest.mark.parametrize("vocabulary", [1, 2, 9, 160, 161, 2049, 50257, 256_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_against_the_oracle(isa: str, dtype: torch.dtype, vocabulary: int, rng: np.random.Generator) -> None:
    length = 5 if vocabulary < 100_000 else 3
    z = torch.from_numpy(rng.normal(size=(4, length, vocabulary)) * 3).to(dtype)
    y = rng.integers(0, vocabulary, (4, length))
    y[rng.random(y.shape) < 0.4] = -100
    y[:, 2] = vocabulary - 1
    tracker = Tracker(9)
    tracker.observe([8, 0, 3, 5], z, y, ignore_index=-100)
    got = losses(tracker)[[8, 0, 3, 5]]
    want = means(z.double().numpy(), y, -100)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-100)
    assert tracker.dynamics().quantities == ("loss",)
    scores = score(tracker.dynamics(), "perplexity").values[[8, 0, 3, 5]]
    np.testing.assert_allclose(scores, np.exp(got), rtol=1e-6)


def test_it_is_cross_entropy(rng: np.random.Generator) -> None:
    z, y = torch.randn(3, 7, 11), torch.randint(0, 11, (3, 7))
    y[0, 3:] = -100
    tracker = Tracker(3)
    tracker.observe([0, 1, 2], z, y, ignore_index=-100)
    want = [float(torch.nn.functional.cross_entropy(z[b], y[b])) for b in range(3)]
    np.testing.assert_allclose(losses(tracker), want, rtol=1e-6)


def test_strides_and_threads_change_nothing(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = torch.randn(6, 50, 1005)
    y = torch.randint(0, 1000, (6, 50))
    view, plain = wide[::2, 1::3, 2:-3], wide[::2, 1::3, 2:-3].contiguous()
    shifted = torch.cat([plain, plain[:, :1]], dim=1)[:, :-1]  # sequences further apart than they are long
    results = []
    for threads in (1, 2, 3, 4):
        monkeypatch.setattr("pyimportance.score.host.default_threads", lambda n=threads: n)
        for logits in (plain, view, shifted):
            tracker = Tracker(3)
            tracker.observe(range(3), logits, y[::2, 1::3].to(torch.uint16))
            results.append(losses(tracker).tobytes())
    assert len(set(results)) == 1


def test_no_copy_of_the_logits() -> None:
    z, y = np.zeros((4, 64, 5000), np.float16)[:, ::2], np.zeros((4, 32), np.int32)
    tracker = Tracker(4)
    tracker.observe(range(4), z, y)  # the working memory is allocated once
    tracemalloc.start()
    tracker.observe(range(4), z, y)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000 < z.nbytes


def test_a_sequence_without_a_token_that_counts() -> None:
    z, y = np.zeros((2, 3, 4), np.float32), np.array([[0, 1, 2], [-1, -1, -1]])
    with pytest.raises(ArgumentError, match=r"targets of sample 5 \(position 1\): no token that counts"):
        Tracker(9).observe([3, 5], z, y, ignore_index=-1)
    tracker = Tracker(9)
    tracker.observe([3, 5], z, y, ignore_index=-1, nonfinite="skip")
    assert tracker.skipped == 1
    tracker.observe([5], z[1:], y[1:], ignore_index=-1, mask=[False])  # padding is not even that
    assert tracker.skipped == 1
    np.testing.assert_allclose(losses(tracker)[3], np.log(4))
    with pytest.raises(ArgumentError, match=r"of sample 0 .*: no token that counts"):
        Tracker(9).observe([0], np.zeros((1, 0, 4), np.float32), np.zeros((1, 0), int))


def test_a_token_that_is_not_finite() -> None:
    z, y = np.zeros((2, 3, 4), np.float32), np.zeros((2, 3), int)
    z[1, 2, 3] = np.nan
    with pytest.raises(ArgumentError, match=r"logits: NaN or \+inf.* of sample 5 \(position 1\)"):
        Tracker(9).observe([3, 5], z, y)
    y[1, 2] = -100  # what is ignored is not looked at
    tracker = Tracker(9)
    tracker.observe([3, 5], z, y, ignore_index=-100)
    np.testing.assert_allclose(losses(tracker)[[3, 5]], np.log([4, 4]))


def test_masked_sequences_are_not_looked_at() -> None:
    z, y = np.full((2, 3, 4), np.nan, np.float32), np.full((2, 3), 99, np.uint8)
    z[0], y[0] = 0, 1
    tracker = Tracker(9)
    tracker.observe([3, -5], z, y, mask=[True, False])
    assert np.flatnonzero(losses(tracker) > 0).tolist() == [3]


def test_the_first_of_an_id_stands_and_losses_may_be_mixed_in() -> None:
    z = np.zeros((2, 2, 4), np.float32)
    z[1, :, 0] = 9
    tracker = Tracker(3)
    tracker.observe([1, 1], z, np.zeros((2, 2), int))
    tracker.observe_loss([0, 1], [7.0, 8.0])
    np.testing.assert_allclose(losses(tracker), [7.0, np.log(4), np.nan])
    with pytest.raises(ArgumentError, match="has been given loss, now logits; it takes one"):
        tracker.observe([0], z[0, :1], [0])


Z = np.zeros((2, 3, 4), np.float32)


@pytest.mark.parametrize(
    ("logits", "targets", "arguments", "text"),
    [
        (Z, [0, 1], {}, r"targets: int64 of shape \[2\]; must be integers \[2, 3\]"),
        (Z, np.zeros((2, 4), int), {}, r"targets: int64 of shape \[2, 4\]; must be integers \[2, 3\]"),
        (Z, np.zeros((2, 3)), {}, r"targets: float64 of shape \[2, 3\]; must be integers \[2, 3\]"),
        (Z, np.zeros((2, 3), bool), {}, r"targets: bool of shape \[2, 3\]; must be integers \[2, 3\]"),
        (Z, np.full((2, 3), -100), {}, "targets: -100 at position 0; must be at least 0 and below 4"),
        (Z, np.full((2, 3), 4), {"ignore_index": 0}, "targets: 4 at position 0; must be at"),
        (Z[:1], np.zeros((1, 3), int), {}, r"logits: float32 of shape \[1, 3, 4\]; must be floating"),
        (Z[..., None], [[0]], {}, r"must be floating point \[2, C\] or \[2, T, V\]"),
        (Z[..., :0], np.zeros((2, 3), int), {}, "there must be at least one class"),
        (Z, np.zeros((2, 3), int), {"features": np.ones((2, 2))}, "features: given with logits"),
        (Z, np.zeros((2, 3), int), {"ignore_index": 0.5}, "ignore_index=0.5: must be an integer"),
        (Z, np.zeros((2, 3), int), {"ignore_index": True}, "ignore_index=True: must be an integer"),
    ],
)  # fmt: skip
def test_what_is_refused(logits: Any, targets: Any, arguments: dict[str, Any], text: str) -> None:
    tracker = Tracker(4)
    with pytest.raises(ArgumentError, match=text):
        tracker.observe([0, 1], logits, targets, **arguments)
    assert np.isnan(losses(tracker)).all() if tracker.dynamics().quantities else True


def test_ignored_samples(isa: str) -> None:
    """[B, C]: the rows with that target are not observed, and not looked at."""
    z = np.zeros((3, 2), np.float32)
    z[1] = np.nan
    plain, ignoring = Tracker(5), Tracker(5)
    plain.observe([4, 2], z[[0, 2]], [1, 0])
    ignoring.observe([4, 3, 2], z, np.int8([1, -1, 0]), ignore_index=-1)
    ignoring.observe([4, 3, 2], z, [-1, 0, -1], ignore_index=-1, mask=[True, False, True])
    plain.end_epoch()
    ignoring.end_epoch()
    assert plain.state_dict() == ignoring.state_dict()
