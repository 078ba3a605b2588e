"""Ensembles against the float64 oracle, in every type, layout and number of threads; and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimportance import _C, ArgumentError, Ensemble
from pyimportance.score.ensembles import ENSEMBLE_MEASURES
from pyimportance.score.reference import ensemble_measures, softmax
from pyimportance.score.sums import DTYPES
from tests.score import running

Logits = Callable[[str, int, int, np.random.Generator], npt.NDArray[np.float32]]
KINDS = ("normal", "equal", "close", "margins", "huge", "ties", "confident", "masked", "offset")
CLASSES = [1, 2, 3, 7, 8, 9, 10, 31, 32, 33, 100, 1023, 1024, 1025, 1500]


def agree(ensemble: Ensemble, p: Any, targets: Any, case: str = "") -> None:
    want = ensemble_measures(p, targets)
    for name in ENSEMBLE_MEASURES:
        got = ensemble.scores(name)
        # entropies are good to 1e-11, of which the mutual information is a difference
        atol = 1e-11 * want["ensemble_entropy"].max() if name == "mutual_information" else 1e-100
        np.testing.assert_allclose(got.values, want[name], rtol=2e-7, atol=atol, err_msg=f"{name} {case}")
        assert (got.measure, got.descending, got.ids) == (name, True, None)
        assert (got.values >= 0).all()  # a mutual information too, although it is a difference
        assert got.metadata == {"members": str(len(p))}


@settings(max_examples=150, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=6),
    samples=st.integers(1, 40),
    classes=st.sampled_from(CLASSES),
    seed=st.integers(0, 2**32 - 1),
    isa=st.sampled_from(_C.instruction_sets()),
    dtype=st.sampled_from([np.float32, np.float64, np.float16, "bfloat16"]),
    form=st.sampled_from(["logits", "probs"]),
    threads=st.sampled_from([2, 3, 5]),
)
def test_against_the_oracle(  # noqa: PLR0917 (hypothesis passes them by name)
    make_logits: Logits,
    kinds: list[str],
    samples: int,
    classes: int,
    seed: int,
    isa: str,
    dtype: Any,
    form: str,
    threads: int,
) -> None:
    rng = np.random.default_rng(seed)
    narrow = dtype in (np.float16, "bfloat16")
    kinds = ["normal" if kind == "offset" and narrow else kind for kind in kinds]  # half has no 3e4 + 1
    members = [make_logits(kind, samples, classes, rng) for kind in kinds]
    if form == "probs":
        members = [softmax(z) for z in members]
    if dtype == "bfloat16":
        given_ = [torch.from_numpy(m.astype(np.float32)).bfloat16() for m in members]
        exact = [m.double().numpy() for m in given_]
    else:
        given_ = [m.astype(dtype) for m in members]
        exact = [m.astype(np.float64) for m in given_]
    p = [m / m.sum(1, keepdims=True) if form == "probs" else softmax(m) for m in exact]
    targets = np.where(rng.random(samples) < 0.5, p[0].argmax(1), rng.integers(0, classes, samples))
    with running.instruction_set(isa):
        ensemble = Ensemble.from_members(**{form: given_}, targets=targets)
        agree(ensemble, np.stack(p), targets)
        with running.threads(threads):
            again = Ensemble.from_members(**{form: given_}, targets=targets)
            assert everything(again) == everything(ensemble)


@pytest.fixture
def members(make_logits: Logits, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    return np.stack([make_logits("margins", 700, 21, rng) for _ in range(4)])


def everything(ensemble: Ensemble) -> bytes:
    parts = [ensemble.scores(name).values for name in ENSEMBLE_MEASURES]
    return b"".join(part.tobytes() for part in [*parts, ensemble.mean_probs()])


def untouched(ensemble: Ensemble) -> bool:
    return not any(ensemble._sums.column(name).any() for name in DTYPES)


def test_neither_batches_nor_their_order_change_a_bit(
    isa: str, members: npt.NDArray[np.float32], rng: np.random.Generator
) -> None:
    targets = rng.integers(0, 21, 700)
    whole = Ensemble.from_members(logits=members, targets=targets)
    pieces = Ensemble(700, 21)
    for z in members:
        for ids in np.array_split(rng.permutation(700), [0, 1, 33, 95, 400, 400]):
            pieces.add_batch(ids, logits=z[ids], targets=targets[ids])
        pieces.end_member()
    assert pieces.members == whole.members == 4
    assert everything(pieces) == everything(whole)


@pytest.mark.parametrize("form", ["logits", "probs"])
def test_threads_change_no_bit(
    isa: str, form: str, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    given_ = [rng.normal(size=(9001, 100)) for _ in range(2)]  # several grains of work
    if form == "probs":
        given_ = [softmax(z) for z in given_]
    targets, results = rng.integers(0, 100, 9001), set()
    for threads in (1, 2, 3, 5):
        monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
        results.add(everything(Ensemble.from_members(**{form: given_}, targets=targets)))
    assert len(results) == 1


def test_layouts(isa: str, members: npt.NDArray[np.float32]) -> None:
    targets = np.zeros(700, np.int64)
    plain = everything(Ensemble.from_members(logits=members, targets=targets))
    wide = np.zeros((4, 1400, 45), np.float32)
    wide[:, ::2, 1:43:2] = members
    turned = [np.asfortranarray(z) for z in members]
    backwards = np.ascontiguousarray(members[:, ::-1, ::-1])[:, ::-1, ::-1]
    swapped = members.astype(">f4")
    record = np.zeros((4, 700, 21), np.dtype([("odd", "u1"), ("z", "f4")]))
    record["z"] = members
    layouts = [wide[:, ::2, 1:43:2], turned, backwards, swapped, record["z"], torch.from_numpy(members)]
    for layout in layouts:
        assert everything(Ensemble.from_members(logits=layout, targets=targets)) == plain
    longer = Ensemble.from_members(logits=members.astype(np.longdouble), targets=targets)
    assert everything(longer) == plain
    grown = torch.from_numpy(members).bfloat16()
    apart = torch.zeros(4, 700, 42, dtype=torch.bfloat16)
    apart[..., ::2] = grown
    narrow = everything(Ensemble.from_members(logits=grown.float(), targets=targets))
    assert everything(Ensemble.from_members(logits=apart[..., ::2], targets=targets)) == narrow
    tracked = grown.clone().requires_grad_()
    assert everything(Ensemble.from_members(logits=tracked, targets=targets)) == narrow


def test_every_half() -> None:
    """All finite ones, as probabilities: what a member of two classes makes of x and 1 - x."""
    bits = np.arange(0x3C01, dtype=np.uint16)
    x = bits.view(np.float16)
    pair = np.stack([x, (1 - x.astype(np.float64)).astype(np.float16)], 1)
    got = Ensemble.from_members(probs=[pair]).mean_probs()
    wide = pair.astype(np.float64)
    np.testing.assert_allclose(got, wide / wide.sum(1, keepdims=True), rtol=1e-7)


def test_by_hand() -> None:
    """Two members that agree, two that are each sure of another class, one sample that one member saw."""
    ensemble = Ensemble(4, 2)
    ensemble.add_batch([0, 1, 2], probs=[[0.75, 0.25], [1.0, 0], [0.5, 0.5]], targets=[0, 0, 1])
    ensemble.end_member()
    ensemble.add_batch([1, 0], probs=[[0.0, 1], [0.75, 0.25]], targets=[0, 0])
    ensemble.end_member()
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    nan = np.nan
    for name, want in {
        "ensemble_entropy": [entropy, np.log(2), np.log(2), nan],
        "mutual_information": [0, np.log(2), 0, nan],
        "variation_ratio": [0, 0.5, 0, nan],
        "error_count": [0, 1, 1, nan],
    }.items():
        np.testing.assert_allclose(ensemble.scores(name).values, np.float32(want), rtol=1e-6, err_msg=name)
    np.testing.assert_array_equal(
        ensemble.mean_probs(), np.float32([[0.75, 0.25], [0.5, 0.5], [0.5, 0.5], [nan, nan]])
    )


def test_equal_members_are_of_one_mind(isa: str, make_logits: Logits, rng: np.random.Generator) -> None:
    z = make_logits("margins", 300, 10, rng)
    ensemble = Ensemble.from_members(logits=[z] * 300)
    one = Ensemble.from_members(logits=[z]).scores("ensemble_entropy").values
    np.testing.assert_allclose(ensemble.scores("ensemble_entropy").values, one, rtol=1e-6)
    information = ensemble.scores("mutual_information").values
    assert (information >= 0).all()
    assert (information <= 1e-10 * one).all()
    assert not ensemble.scores("variation_ratio").values.any()


def test_a_confident_ensemble_keeps_its_digits(isa: str) -> None:
    """The entropy and the mutual information of probabilities that differ from 0 and 1 by 1e-12."""
    gap = np.array([[27.6, 0.0], [28.0, 0.0]])
    p = softmax(gap)[:, None]
    ensemble = Ensemble.from_members(logits=gap[:, None])
    want = ensemble_measures(p, np.zeros(1, np.int64))
    for name in ("ensemble_entropy", "mutual_information"):
        np.testing.assert_allclose(ensemble.scores(name).values, want[name], rtol=1e-5, err_msg=name)


def test_temperature(members: npt.NDArray[np.float32]) -> None:
    sharp = Ensemble.from_members(logits=members, temperature=0.5)
    twice = Ensemble.from_members(logits=members * 2)
    np.testing.assert_array_equal(sharp.mean_probs(), twice.mean_probs())
    flat = Ensemble.from_members(logits=members, temperature=1e9)
    np.testing.assert_allclose(flat.mean_probs(), 1 / 21, rtol=1e-6)


def test_the_first_maximum_has_the_vote(isa: str) -> None:
    for classes in (4, 350):
        z = np.zeros((1, classes), np.float32)
        z[:, [1, 3]] = 1
        ensemble = Ensemble.from_members(logits=[z] * 2, targets=[1])
        assert ensemble.scores("error_count").values == 0
        assert Ensemble.from_members(logits=[z], targets=[3]).scores("error_count").values == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"logits": [[0.0, np.nan]]}, r"logits: nan at row 0 \(sample 5\), class 1; must be finite, or -inf"),
        ({"logits": [[np.inf, 0.0]]}, r"logits: inf at row 0 \(sample 5\), class 0; must be finite"),
        ({"logits": [[-np.inf, -np.inf]]}, r"logits: row 0 \(sample 5\) is -inf for every class"),
        ({"probs": [[1.5, -0.5]]}, r"probs: 1.5 at row 0 \(sample 5\), class 0; must be within 0..1"),
        ({"probs": [[1.0, -1e-9]]}, r"probs: -1e-09 at row 0 \(sample 5\), class 1; must be within 0..1"),
        ({"probs": [[0.5, np.nan]]}, r"probs: nan at row 0 \(sample 5\), class 1"),
        ({"probs": [[0.5, 0.4]]}, r"probs: row 0 \(sample 5\) sums to 0.9; must be 1, give or take 0.01"),
        ({"probs": [[0.0, 0.0]]}, r"probs: row 0 \(sample 5\) sums to 0"),
        (
            {"logits": [[0.0, 0.0, 0.0]]},
            r"logits: float64 of shape \[1, 3\]; must be floating point \[1, 2\]",
        ),
        ({"logits": [[0, 1]]}, r"logits: int64 of shape \[1, 2\]; must be floating point \[1, 2\]"),
        ({"logits": np.zeros((1, 2), np.uint16)}, r"logits: uint16 of shape \[1, 2\]; must be floating"),
        ({"logits": [[0.0, 0.0]], "probs": [[0.5, 0.5]]}, "logits, probs: exactly one of the two"),
        ({}, "logits, probs: exactly one of the two must be given"),
        (
            {"logits": [[0.0, 1.0]], "targets": [2]},
            r"targets: 2 at row 0 \(sample 5\); must be at least 0 and",
        ),
        ({"logits": [[0.0, 1.0]], "targets": [-1]}, "targets: -1 at row 0"),
        ({"logits": [[0.0, 1.0]], "targets": [0, 1]}, "targets: 2 of them for 1 rows"),
        ({"logits": [[0.0, 1.0]], "targets": [0.0]}, "targets: float64 .* must be integers"),
        ({"logits": [[0.0, 1.0]], "temperature": 0}, "temperature=0: must be a finite number > 0"),
        ({"logits": [[0.0, 1.0]], "temperature": np.nan}, "temperature=nan: must be a finite"),
        ({"logits": [[0.0, 1.0]], "temperature": "hot"}, "temperature='hot': must be a finite"),
        ({"probs": [[0.5, 0.5]], "temperature": 2}, "temperature=2: is of logits; probabilities have none"),
    ],
)
def test_what_is_refused_changes_nothing(arguments: dict[str, Any], text: str) -> None:
    ensemble = Ensemble(6, 2)
    with pytest.raises(ArgumentError, match=text):
        ensemble.add_batch([5], **arguments)
    assert untouched(ensemble)
    ensemble.add_batch([5], logits=[[0.0, 1.0]])  # neither begun, nor given targets
    ensemble.end_member()
    assert ensemble.scores("variation_ratio").values[5] == 0


@pytest.mark.parametrize("classes", [3, 40])
def test_one_bad_row_among_many(isa: str, classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found wherever it lies, the first of several, and nothing of the batch is taken."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    z = np.zeros((300_000 // classes * 2, classes), np.float32)
    for row in (0, len(z) // 2, len(z) - 1):
        bad = z.copy()
        bad[row:, classes - 1] = np.nan
        ensemble = Ensemble(len(z), classes)
        with pytest.raises(ArgumentError, match=f"logits: nan at row {row}, class {classes - 1};"):
            ensemble.add(logits=bad)
        assert untouched(ensemble)


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([0, 1, 0], "ids: 0 at position 2 was given before; must be once in a member"),
        ([0, 9, 1], "ids: 9 at position 1; must be at least 0 and below 4"),
        ([0, 1, -1], "ids: -1 at position 2; must be at least 0"),
        ([3, 2, 1], "ids: 3 at position 0 was given before"),
        ([0.0, 1.0, 2.0], "ids: float64 of shape .*; must be integers"),
    ],
)
def test_ids(ids: list[int], text: str) -> None:
    ensemble = Ensemble(4, 2)
    ensemble.add_batch([3], logits=np.zeros((1, 2)))
    with pytest.raises(ArgumentError, match=text):
        ensemble.add_batch(ids, logits=np.zeros((3, 2)))
    ensemble.add_batch([2, 1, 0], logits=np.zeros((3, 2)))  # none of them counts as given
    ensemble.end_member()
    ensemble.add_batch([3], logits=np.zeros((1, 2)))  # another member may speak of it again
    with pytest.raises(ArgumentError, match="add: a member is in progress"):
        ensemble.add(logits=np.zeros((4, 2)))
    with pytest.raises(ArgumentError, match="scores: a member is in progress"):
        ensemble.scores("ensemble_entropy")


def test_out_of_turn() -> None:
    ensemble = Ensemble(2, 2)
    with pytest.raises(ArgumentError, match="end_member: no member is in progress"):
        ensemble.end_member()
    with pytest.raises(ArgumentError, match="scores: no member was added"):
        ensemble.scores("variation_ratio")
    ensemble.add(logits=np.zeros((2, 2)))
    with pytest.raises(ArgumentError, match="targets: given with them now, and without them before"):
        ensemble.add(logits=np.zeros((2, 2)), targets=[0, 0])
    with pytest.raises(ArgumentError, match="'error_count' needs targets"):
        ensemble.scores("error_count")
    with pytest.raises(ArgumentError, match="measure='entropy': must be one of ensemble_entropy, mut"):
        ensemble.scores("entropy")
    ensemble.add_batch([], logits=np.zeros((0, 2)))
    ensemble.end_member()
    assert repr(ensemble) == "Ensemble(2 samples, 2 classes, members=2)"
    with pytest.raises(ArgumentError, match="num_classes=0: must be at least 1"):
        Ensemble(2, 0)
    with pytest.raises(ArgumentError, match="probs: there must be at least one member"):
        Ensemble.from_members(probs=[])
    with pytest.raises(ArgumentError, match=r"logits: float64 of shape \[2, 2\]; must be .* \[M, N, C\]"):
        Ensemble.from_members(logits=np.zeros((2, 2)))
    with pytest.raises(ArgumentError, match="logits: int; must be"):
        Ensemble.from_members(logits=3)


def test_more_members_than_can_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyimportance.score.ensembles._MOST_MEMBERS", 2)
    ensemble = Ensemble.from_members(logits=np.zeros((2, 1, 1)))
    with pytest.raises(ArgumentError, match="members: there are 2, and no more can be counted"):
        ensemble.add(logits=np.zeros((1, 1)))


def test_memory() -> None:
    sums = Ensemble(100, 7)._sums
    assert sum(sums.column(name).nbytes for name in DTYPES) == 100 * (10 * 7 + 17)
