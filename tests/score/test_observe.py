"""observe and observe_loss: what counts once, what kinds of arrays are taken, what is refused."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from pyimportance import _C, ArgumentError, Tracker, score
from tests.score.runs import batch, bits


def test_the_first_observation_of_an_epoch_stands() -> None:
    ids, z, y = batch([3, 1, 3, 0, 1])
    once, twice = Tracker(4), Tracker(4)
    once.observe([3, 1, 0], z[[0, 1, 3]], y[[0, 1, 3]])
    twice.observe(ids, z, y)  # within a batch
    twice.observe(*batch([0, 3], seed=1))  # and after it
    for tracker in (once, twice):
        tracker.end_epoch()
        tracker.observe(*batch([3], seed=2))  # the next epoch is a new one
        tracker.end_epoch()
    assert bits(once.dynamics()) == bits(twice.dynamics())
    assert once.dynamics().count.tolist() == [1, 1, 0, 2]


@pytest.mark.parametrize("samples", [3, 5000, 200000])
@pytest.mark.parametrize("how", ["logits", "losses", "rows"])
def test_the_first_stands_on_all_threads(how: str, samples: int, rng: np.random.Generator) -> None:
    """Ids that a batch holds many times, some entries masked with ids and targets that cannot be."""
    n = 40000  # rows are scattered by as many as four threads
    ids, loss = rng.integers(0, samples, n), rng.exponential(size=n)
    z, y = rng.normal(size=(n, 3)).astype(np.float32), rng.integers(0, 3, n)
    mask = rng.random(n) < (1.0 if how == "rows" else 0.8)
    ids[~mask], y[~mask] = rng.choice([-1, samples, 2**63 - 1, -(2**63)], (~mask).sum()), 7
    rows = np.zeros(n, _C.row_dtype)
    rows["loss"], rows["code"] = loss, 3
    results = []
    for threads in (1, 2, 3, 4, 7, 16):
        epoch, scratch = np.zeros(samples, _C.row_dtype), np.zeros(n, _C.row_dtype)
        if how == "logits":
            _C.observe_logits(ids, z, None, y, mask, False, scratch, epoch, threads)
        elif how == "losses":
            _C.observe_losses(ids, loss, mask, False, scratch, epoch, threads)
        else:
            _C.commit_rows(ids, rows, epoch, threads)
        results.append(epoch)
    seen, first = np.unique(ids[mask], return_index=True)
    assert np.flatnonzero(results[0]["code"]).tolist() == seen.tolist()
    if how != "logits":
        np.testing.assert_array_equal(results[0]["loss"][seen], loss[mask][first])
    assert len({epoch.tobytes() for epoch in results}) == 1


WRONG = {
    "an id": ([("id", 4000), ("target", 10), ("logit", 5)], "ids: 99 at position 4000; must be at least 0"),
    "ids": ([("id", 4000), ("id", 4001), ("id", 7000)], "ids: 99 at position 4000; must be at least 0"),
    "a target": ([("target", 7000), ("logit", 5), ("logit", 6000)], "targets: 99 at position 7000; must be"),
    "logits": ([("logit", 4500), ("logit", 4499), ("logit", 7999)], r"of sample 99 \(position 4499\)"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_said_to_be_wrong_depends_on_no_thread(what: str, rng: np.random.Generator) -> None:
    """Of several wrong entries: ids before targets before logits, then the first of them."""
    entries, says = WRONG[what]
    n = 8000
    ids, z, y = rng.integers(0, 99, n), rng.normal(size=(n, 3)).astype(np.float32), rng.integers(0, 3, n)
    samples = 99 if "id" in what else 100
    for kind, at in entries:
        if kind == "id":
            ids[at] = 99
        elif kind == "target":
            y[at] = 99
        else:
            z[at], ids[at] = np.nan, min(99, samples - 1)
    before = _C.use_every_thread(True)
    try:
        for threads in (1, 2, 3, 5, 16):
            epoch, scratch = np.zeros(samples, _C.row_dtype), np.zeros(n, _C.row_dtype)
            with pytest.raises(ArgumentError, match=says):
                _C.observe_logits(ids, z, None, y, None, False, scratch, epoch, threads)
            assert not epoch["code"].any()
    finally:
        _C.use_every_thread(before)


def test_masked_entries_are_not_looked_at() -> None:
    ids, z, y = batch([3, 1, 2, 0, 1])
    mask = np.array([True, False, True, True, False])
    plain, masked = Tracker(4), Tracker(4)
    plain.observe(ids[mask], z[mask], y[mask])
    ids[1], y[1], z[4] = -7, 99, np.nan
    masked.observe(ids, z, y, mask=mask)
    masked.observe(ids, z, y, mask=np.zeros(5, bool))
    plain.end_epoch()
    masked.end_epoch()
    assert bits(plain.dynamics()) == bits(masked.dynamics())
    assert masked.skipped == 0


@pytest.mark.parametrize("rows", [0, 1, 31, 32, 33])
def test_batch_sizes(rows: int) -> None:
    tracker = Tracker(100)
    tracker.observe(*batch(np.arange(rows)))
    tracker.end_epoch()
    assert tracker.dynamics().count.sum() == rows
    assert tracker.epochs == 1


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=lambda d: str(d).split(".")[1]
)
def test_tensors(dtype: torch.dtype) -> None:
    ids, z, y = batch([5, 2, 8])
    tensor = torch.from_numpy(z).to(dtype).requires_grad_()
    by_torch, by_numpy = Tracker(10), Tracker(10)
    by_torch.observe(torch.tensor(ids), tensor, torch.tensor(y, dtype=torch.int32), mask=torch.ones(3) > 0)
    by_numpy.observe(ids.astype(np.uint16), tensor.detach().float().numpy(), y.astype(np.int8))
    for tracker in (by_torch, by_numpy):
        tracker.end_epoch()
    assert bits(by_torch.dynamics()) == bits(by_numpy.dynamics())


INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">i4")


@pytest.mark.parametrize("kind", INTEGERS)
def test_ids_and_targets_of_any_integer_type(kind: str) -> None:
    ids, z, y = batch(np.random.default_rng(0).permutation(60))
    plain = Tracker(60)
    plain.observe(ids, z, y)
    plain.end_epoch()
    narrow = ids.astype(kind), y.astype(kind)
    apart = [np.repeat(x, 2)[::2] for x in narrow]
    tensors = [torch.from_numpy(x) for x in narrow] if kind != ">i4" else narrow
    for i, t in (narrow, apart, tensors):
        tracker = Tracker(60)
        tracker.observe(i, z, t)
        tracker.end_epoch()
        assert bits(tracker.dynamics()) == bits(plain.dynamics())


def test_a_transposed_tensor_is_understood() -> None:
    ids, z, y = batch([5, 2, 8])
    plain, transposed = Tracker(10), Tracker(10)
    plain.observe(ids, z, y)
    transposed.observe(ids, torch.from_numpy(z.T.copy()).T, y)
    plain.end_epoch()
    transposed.end_epoch()
    assert bits(plain.dynamics()) == bits(transposed.dynamics())


def test_large_ids() -> None:
    n = 2**24 + 100  # beyond what a float32 counts
    tracker = Tracker(n)
    ids = np.array([0, 2**24, 2**24 + 1, n - 1])
    tracker.observe_loss(ids, np.ones(4))  # a quarter of the memory that logits take
    tracker.end_epoch()
    assert np.flatnonzero(tracker.dynamics().count).tolist() == ids.tolist()


def test_ids_beyond_32_bits_are_out_of_range_and_nothing_else() -> None:
    with pytest.raises(
        ArgumentError, match=f"ids: {2**32 + 1} at position 1; must be at least 0 and below 4"
    ):
        Tracker(4).observe(*batch([0, 2**32 + 1]))


def test_an_empty_batch_is_legal() -> None:
    tracker = Tracker(4)
    tracker.observe([], [], [])
    tracker.observe([], [], [], mask=[])
    tracker.observe(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 0), [])
    other = Tracker(4)
    other.observe_loss([], [])
    for each in (tracker, other):
        each.end_epoch()
        assert each.dynamics().count.sum() == 0


def test_unsigned_numbers_are_named_as_they_are() -> None:
    ids = np.array([0, 2**63 + 5], np.uint64)
    with pytest.raises(ArgumentError, match="ids: 9223372036854775813 at position 1; must be at most 922337"):
        Tracker(4).observe(ids, ONE, [0, 0])
    with pytest.raises(ArgumentError, match="targets: 9223372036854775813 at position 1; must be at most"):
        Tracker(4).observe([0, 1], ONE, ids)
    tracker = Tracker(4)
    tracker.observe(ids, ONE, ids, mask=[True, False])  # what is masked may be anything
    tracker.end_epoch()
    assert tracker.dynamics().count.tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(
    "logits",
    [
        [[1.0], [1.0, 2.0]],
        torch.zeros(2, 3).to(torch.float8_e4m3fn),
        torch.zeros(2, 3).to_sparse(),
        torch.zeros(2, 3, device="meta"),
    ],
    ids=["ragged", "float8", "sparse", "meta"],
)
def test_what_no_array_can_be_made_of(logits: Any) -> None:
    with pytest.raises(ArgumentError, match=r"logits: no array can be made of this (list|Tensor)"):
        Tracker(4).observe([0, 1], logits, [0, 0])


ONE = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (([0, 4], ONE, [0, 0]), "ids: 4 at position 1; must be at least 0 and below 4"),
        (([-1, 0], ONE, [0, 0]), "ids: -1 at position 0; must be at least 0 and below 4"),
        (([0, 1], ONE, [0, 3]), "targets: 3 at position 1; must be at least 0 and below 3"),
        (([0, 1], ONE, [-100, 0]), "targets: -100 at position 0; must be at least 0 and below 3"),
        (([0, 1, 2], ONE, [0, 0, 0]), r"logits: float32 of shape \[2, 3\]; must be floating point \[3, C\]"),
        (([0, 1], ONE[0], [0, 0]), r"logits: float32 of shape \[3\]; must be floating point \[2, C\]"),
        (
            ([0, 1], ONE[:, :0], [0, 0]),
            r"logits: float32 of shape \[2, 0\]; there must be at least one class",
        ),
        (([0, 1], ONE.astype(int), [0, 0]), r"logits: int64 of shape \[2, 3\]; must be floating point"),
        (([0, 1], ONE, [0]), "targets: 1 of them; must be 2"),
        (([0, 1], ONE, [0.0, 1.0]), r"targets: float64 of shape \[2\]; must be integers \[B\]"),
        (([0.0, 1.0], ONE, [0, 0]), r"ids: float64 of shape \[2\]; must be integers \[B\]"),
        (([[0, 1]], ONE, [0, 0]), r"ids: int64 of shape \[1, 2\]; must be integers \[B\]"),
    ],
)
def test_what_observe_refuses(arguments: Any, text: str) -> None:
    tracker = Tracker(4)
    with pytest.raises(ArgumentError, match=text):
        tracker.observe(*arguments)
    tracker.end_epoch()
    assert tracker.dynamics().count.sum() == 0  # not even the good entries


def test_more_that_is_refused() -> None:
    tracker = Tracker(4)
    with pytest.raises(ArgumentError, match=r"mask: bool of shape \[1\]; must be booleans \[2\]"):
        tracker.observe([0, 1], ONE, [0, 0], mask=[True])
    with pytest.raises(ArgumentError, match=r"mask: int64 of shape \[2\]; must be booleans \[2\]"):
        tracker.observe([0, 1], ONE, [0, 0], mask=[1, 0])
    with pytest.raises(ArgumentError, match='nonfinite=\'drop\': must be "raise" or "skip"'):
        tracker.observe([0, 1], ONE, [0, 0], nonfinite="drop")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="num_samples=0: must be at least 1"):
        Tracker(0)
    with pytest.raises(ArgumentError, match='history=3: must be None, "memory" or the path'):
        Tracker(4, history=3)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"num_samples=2\.5: must be an integer"):
        Tracker(2.5)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"group: torch\.distributed is not initialised"):
        tracker.end_epoch(group=object())
    tracker.observe([0, 1], ONE, [0, 0])
    with pytest.raises(
        ArgumentError, match="this tracker has been given logits, now loss; it takes one kind"
    ):
        tracker.observe_loss([0], [1.0])


def test_losses_alone() -> None:
    tracker = Tracker(4)
    tracker.observe_loss([2, 0], np.float32([-1.5, 3]))
    tracker.observe_loss(
        torch.tensor([2, 1, 3]), torch.tensor([9, 2, 7.0]), torch.tensor([True, True, False])
    )
    with pytest.raises(ArgumentError, match=r"loss: NaN or infinite of sample 3 \(position 0\)"):
        tracker.observe_loss([3], [np.nan])
    tracker.observe_loss([3], [np.inf], nonfinite="skip")
    assert tracker.skipped == 1
    tracker.end_epoch()
    np.testing.assert_array_equal(score(tracker.dynamics()).values, np.float32([3, 2, -1.5, np.nan]))
    assert tracker.dynamics().quantities == ("loss",)


def test_tracking_loads_no_torch() -> None:
    code = """
import sys, numpy as np
from pyimportance import Tracker, score
tracker = Tracker(3)
tracker.observe([0, 1], np.zeros((2, 4), np.float32), [1, 2])
tracker.end_epoch()
score(tracker.dynamics())
print(*[m for m in ("torch", "pyarrow", "scipy") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
