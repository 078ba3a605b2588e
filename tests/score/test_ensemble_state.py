"""States of ensembles: to be continued, to be merged, and what is no state."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pyimportance import ArgumentError, Ensemble
from pyimportance.score.ensembles import ENSEMBLE_MEASURES
from pyimportance.score.sums import DTYPES

N, C = 30, 7


@pytest.fixture
def members(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return rng.standard_normal((5, N, C)) * 3


@pytest.fixture
def targets(rng: np.random.Generator) -> npt.NDArray[np.int64]:
    return rng.integers(0, C, N)


def columns(ensemble: Ensemble) -> dict[str, bytes]:
    return {name: ensemble._sums.column(name).tobytes() for name in DTYPES}


def test_a_state_is_continued_to_the_bit(
    members: npt.NDArray[np.float64], targets: npt.NDArray[np.int64]
) -> None:
    """Through torch.save, in the middle of a member."""
    whole = Ensemble.from_members(logits=members, targets=targets)
    begun = Ensemble.from_members(logits=members[:3], targets=targets)
    begun.add_batch(np.arange(9), logits=members[3, :9], targets=targets[:9])
    file = io.BytesIO()
    torch.save(begun.state_dict(), file)
    file.seek(0)
    later = Ensemble(N, C)
    later.load_state_dict(torch.load(file, weights_only=True))
    begun.end_member()  # what was saved is a copy
    assert later.members == 3
    with pytest.raises(ArgumentError, match="ids: 8 at position 0 was given before"):
        later.add_batch([8], logits=members[3, 8:9], targets=targets[8:9])
    later.add_batch(np.arange(9, N), logits=members[3, 9:], targets=targets[9:])
    later.end_member()
    later.add(logits=members[4], targets=targets)
    assert columns(later) == columns(whole)
    assert later.members == whole.members == 5
    for name in ENSEMBLE_MEASURES:
        assert later.scores(name).values.tobytes() == whole.scores(name).values.tobytes()
    with pytest.raises(ArgumentError, match="targets: given without them now, and with them before"):
        later.add(logits=members[0])


def test_merging_members(members: npt.NDArray[np.float64], targets: npt.NDArray[np.int64]) -> None:
    whole = Ensemble.from_members(logits=members, targets=targets)
    ours = Ensemble.from_members(logits=members[:2], targets=targets)
    theirs = Ensemble.from_members(logits=members[2:], targets=targets)
    before = theirs.state_dict()
    ours.merge(theirs)
    assert theirs.state_dict() == before
    assert ours.members == 5
    for name in DTYPES:
        got, want = ours._sums.column(name), whole._sums.column(name)
        rtol = 5 * 2**-52 if want.dtype == np.float64 else 0
        np.testing.assert_allclose(got, want, rtol=rtol, err_msg=name)
    nobody = Ensemble(N, C)
    nobody.merge(whole)
    assert columns(nobody) == columns(whole)
    with pytest.raises(ArgumentError, match="targets: given without them now, and with them before"):
        nobody.add(logits=members[0])


def test_merging_parts_of_the_samples(members: npt.NDArray[np.float64]) -> None:
    """As models of a cross-validation see them: bit for bit."""
    parts, whole = [Ensemble(N, C), Ensemble(N, C)], Ensemble(N, C)
    for k, ids in enumerate((np.arange(0, N, 2), np.arange(1, N, 2))):
        for ensemble in (parts[k], whole):
            ensemble.add_batch(ids, logits=members[k, ids])
            ensemble.end_member()
    parts[0].merge(parts[1])
    assert columns(parts[0]) == columns(whole)


def test_ensembles_that_do_not_fit_together(members: npt.NDArray[np.float64]) -> None:
    ours = Ensemble.from_members(logits=members)
    before = columns(ours)
    started = Ensemble(N, C)
    started.add_batch([0], logits=members[0, :1])
    full = Ensemble(N, C)
    full._members = 2**16 - 3
    for other, text in [
        (Ensemble(N, C + 1), r"merge: \[N, C\] is \[30, 7\] here, \[30, 8\] in the other"),
        (started, "merge: a member is in progress; call end_member first"),
        (Ensemble.from_members(logits=members, targets=np.zeros(N, int)), "merge: one was given targets"),
        (full, "merge: 65538 members; at most 65535 can be counted"),
    ]:
        with pytest.raises(ArgumentError, match=text):
            ours.merge(other)
    assert columns(ours) == before
    assert ours.members == 5


def altered(saved: dict[str, Any], name: str, at: int, value: Any) -> dict[str, Any]:
    column = np.frombuffer(saved["columns"][name], DTYPES[name]).copy()
    column[at] = value
    return {**saved, "columns": {**saved["columns"], name: column.tobytes()}}


def test_what_is_no_state(members: npt.NDArray[np.float64], targets: npt.NDArray[np.int64]) -> None:
    ensemble = Ensemble.from_members(logits=members, targets=targets)
    saved, before = ensemble.state_dict(), columns(ensemble)
    some = saved["columns"]
    cases: list[tuple[Any, str]] = [
        ([], "state: list; must be what state_dict returned"),
        ({}, "state of version None; this release reads 1"),
        ({**saved, "version": 2}, "state of version 2"),
        ({"version": 1}, "state: num_samples, num_classes, members, open, with_targets, columns missing"),
        ({**saved, "num_classes": 8}, r"state of \[N, C\] = \[30, 8\] for an ensemble of \[30, 7\]"),
        ({**saved, "members": -1}, "state: members=-1; must be an integer from 0"),
        ({**saved, "members": 70000}, "state: members=70000; must be at most 65535"),
        ({**saved, "members": 4}, "state: column count: 5 for sample 0, which no members add up to"),
        ({**saved, "open": 1}, "state: open=1, with_targets=True"),
        ({**saved, "with_targets": "no"}, "state: open=False, with_targets='no'"),
        ({**saved, "columns": 3}, "state: columns is int; must be a mapping"),
        ({**saved, "columns": {"p_sum": b""}}, r"state: columns \['p_sum'\]; must be p_sum, votes"),
        ({**saved, "columns": {**some, "votes": b"12"}}, "state: column votes: 2 bytes; must be 210 of 2"),
        ({**saved, "columns": {**some, "seen": "x"}}, "state: column seen is str; must be bytes"),
        ({**saved, "columns": {**some, "seen": bytes([2] * N)}}, "state: column seen: 2 for sample 0"),
        (altered(saved, "wrong", 3, 6), "state: column wrong: 6 for sample 3"),
        (altered(saved, "count", 3, 4), "state: column (p_sum|wrong): 5.* for sample 3, which no members"),
        (altered(saved, "p_sum", 8, np.nan), "state: column p_sum: nan for sample 1"),
        (altered(saved, "p_sum", 8, -1), "state: column p_sum: .* for sample 1"),
        (altered(saved, "votes", 8, 9), "state: column votes: .* for sample 1"),
        (altered(saved, "entropy_sum", 2, 99), "state: column entropy_sum: 99.0 for sample 2"),
        (altered(saved, "entropy_sum", 2, np.nan), "state: column entropy_sum: nan for sample 2"),
    ]
    for wrong, text in cases:
        with pytest.raises(ArgumentError, match=text):
            ensemble.load_state_dict(wrong)
        assert columns(ensemble) == before
    ensemble.load_state_dict(saved)
    assert columns(ensemble) == before
