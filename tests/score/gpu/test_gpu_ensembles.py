"""An ensemble whose sums are on a device is one whose sums are on the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pyimportance import ArgumentError, Ensemble
from pyimportance.score.ensembles import ENSEMBLE_MEASURES
from pyimportance.score.reference import softmax
from pyimportance.score.sums import DTYPES

Ensembles = Callable[..., Ensemble]
Logits = Callable[[str, int, int, np.random.Generator], npt.NDArray[np.float32]]

# Whatever number of lanes shares a row; round 32, round each limit, and more than registers hold.
CLASSES = (1, 2, 4, 5, 8, 9, 31, 32, 33, 127, 128, 129, 256, 257, 700, 2048, 2049, 4100)
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def agree(ours: Ensemble, hosts: Ensemble, case: str = "") -> None:
    """The exponentials of either are good to 3e-12 (csrc/observe/arithmetic.h)."""
    for name in DTYPES:
        got, want = ours._sums.column(name), hosts._sums.column(name)
        assert got.dtype == want.dtype
        if name in ("p_sum", "entropy_sum"):
            np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-120, err_msg=f"{name} {case}")
        else:
            np.testing.assert_array_equal(got, want, f"{name} {case}")
    for measure in ENSEMBLE_MEASURES:
        got, want = ours.scores(measure).values, hosts.scores(measure).values
        atol = 1e-10 if measure == "mutual_information" else 1e-100
        np.testing.assert_allclose(got, want, rtol=2e-7, atol=atol, err_msg=f"{measure} {case}")
    np.testing.assert_allclose(ours.mean_probs(), hosts.mean_probs(), rtol=3e-7, atol=1e-45)


FORMS = [(form, dtype) for form in ("logits", "probs") for dtype in FLOATS]
SOME = [(*case, CLASSES[n % 4 :: 4]) for n, case in enumerate(FORMS)]  # of one form all, by four types
EACH = [pytest.param((*case, CLASSES), marks=pytest.mark.slow) for case in FORMS]


@pytest.mark.parametrize("case", [*SOME, *EACH], ids=lambda case: f"{case[0]}-{case[1]}-{len(case[2])}")
def test_sums_of_the_host(machine: Any, ensembles: Ensembles, case: Any, make_logits: Logits) -> None:
    """Whole members in every type, of every number of classes and every way of being hard to get right."""
    form, dtype, numbers = case
    rng = np.random.default_rng(1)
    for classes in numbers:
        rows = 37 if classes < 300 else 3
        ours, hosts = ensembles(rows, classes), Ensemble(rows, classes)
        for kind in ("normal", "ties", "masked", "confident", "huge"):
            z = make_logits(kind, rows, classes, rng).astype(np.float64)
            given = torch.from_numpy(softmax(z) if form == "probs" else z).to(dtype)
            if form == "probs" and classes > 1000 and dtype in FLOATS[2:]:
                given = given / given.double().sum(1, keepdim=True).to(dtype)  # as many roundings add up
            y = rng.integers(0, classes, rows)
            for ensemble, tensor in ((ours, machine.tensor(given)), (hosts, given)):
                ensemble.add(**{form: tensor}, targets=y, temperature=1 if form == "probs" else 1.7)
        agree(ours, hosts, f"{classes} classes")


def test_batches_layouts_and_ids(machine: Any, ensembles: Ensembles, rng: np.random.Generator) -> None:
    N, classes = 300, 21
    ours, hosts = ensembles(N, classes), Ensemble(N, classes)
    for member in range(3):
        z = torch.from_numpy(rng.standard_normal((2 * N, classes + 9)).astype(np.float32))
        for ids in np.array_split(rng.permutation(N)[: N - 10 * member], [0, 1, 33, 290, 290]):
            view = z[::2, member : member + classes][ids]
            turned = machine.tensor(view).T.contiguous().T
            padded = machine.tensor(torch.nn.functional.pad(view, (3, 6), value=torch.nan))[:, 3:-6]
            hosts.add_batch(ids, logits=view)
            ours.add_batch(ids.astype(np.int32), logits=padded if member else turned)
        hosts.end_member()
        ours.end_member()
    agree_without_targets(ours, hosts)
    assert ours.members == 3


def test_every_number_of_a_summary_is_written(machine: Any, ensembles: Ensembles) -> None:
    """Whatever was there before; of samples that no member saw as well."""
    for rows, classes in ((33, 3), (257, 40), (5, 2100)):
        ours = ensembles(rows, classes)
        ours.add_batch(np.arange(1, rows), logits=np.eye(rows - 1, classes))
        ours.end_member()
        entropy, most = machine.poisoned(rows, 8), machine.poisoned(rows, 4)
        outputs = entropy.view(torch.float64).view(-1), most.view(torch.int32).view(-1)
        ours._sums._native.summarize(*outputs, machine.stream())
        want = ours._sums.entropy_and_most_votes()
        for output, column in zip(outputs, want, strict=True):
            np.testing.assert_array_equal(output.cpu().numpy(), column)
        assert np.isnan(want[0][0])
        assert 0 < want[0][1:].min() <= want[0][1:].max() <= np.log(classes) + 1e-9
        assert outputs[1].tolist()[1:] == [1] * (rows - 1)


def agree_without_targets(ours: Ensemble, hosts: Ensemble) -> None:
    for name in ("votes", "count", "wrong", "seen"):
        np.testing.assert_array_equal(ours._sums.column(name), hosts._sums.column(name), name)
    for name in ("p_sum", "entropy_sum"):
        np.testing.assert_allclose(ours._sums.column(name), hosts._sums.column(name), rtol=1e-11)


def test_a_row_depends_on_nothing_but_itself(ensembles: Ensembles, rng: np.random.Generator) -> None:
    for classes in (10, 300, 2100):
        z = rng.standard_normal((70, classes))
        whole, parts = ensembles(70, classes), ensembles(70, classes)
        whole.add(logits=z)
        for ids in np.array_split(rng.permutation(70), [1, 32, 65]):
            parts.add_batch(ids, logits=z[ids])
        parts.end_member()
        for name in DTYPES:
            assert whole._sums.column(name).tobytes() == parts._sums.column(name).tobytes(), name


@pytest.mark.parametrize("classes", [3, 40, 300, 2100])
@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"logits": np.nan}, r"logits or probs: row 4 \(sample 14\) of its batch: logits must be finite"),
        ({"logits": np.inf}, r"logits or probs: row 4 \(sample 14\) of its batch: logits must be finite"),
        ({"logits": None}, r"logits or probs: row 4 \(sample 14\) of its batch: .* but for one class"),
        ({"probs": -1e-3}, r"row 4 \(sample 14\) .* within 0..1 and of sum 1, give or take 0.01"),
        ({"probs": 1.5}, r"row 4 \(sample 14\) of its batch: .* of sum 1"),
        ({"probs": np.nan}, r"row 4 \(sample 14\) of its batch: .* of sum 1"),
        ({"probs": 0.3}, r"row 4 \(sample 14\) of its batch: .* of sum 1"),
        ({"ids": 30}, "ids: 30 at row 4 of its batch; must be at least 0 and below 30"),
        ({"ids": -1}, "ids: -1 at row 4 of its batch; must be at least 0"),
        ({"ids": 2**32 + 1}, f"ids: {2**32 + 1} at row 4 of its batch; must be at least 0"),
        ({"ids": 11}, "ids: 11 at row 4 of its batch was given before; must be once in a member"),
        ({"ids": 0}, "ids: 0 at row 4 of its batch was given before; must be once in a member"),
        ({"targets": -1}, r"targets: -1 at row 4 \(sample 14\) of its batch; must be at least 0 and below"),
        ({"targets": 2**31}, r"targets: 2147483648 at row 4 \(sample 14\) of its batch; must be"),
    ],
)
def test_a_bad_row_is_left_out_and_raised_by_what_reads_next(
    ensembles: Ensembles, classes: int, change: dict[str, Any], text: str
) -> None:
    (name, value), ids, y = *change.items(), np.arange(10, 20), np.ones(10, np.int64)
    form = "probs" if name == "probs" else "logits"
    z = np.full((10, classes), 1 / classes if form == "probs" else 0.0)
    good = {form: z.copy(), "targets": y.copy()}
    if value is None:
        z[4] = -np.inf
    elif name in ("logits", "probs"):
        z[4, classes - 1] = value if value != 0.3 else z[4, classes - 1] + 0.3
    elif name == "ids":
        ids[4] = value
    else:
        y[4] = value
    ours, plain = ensembles(30, classes), ensembles(30, classes)
    rest = np.delete(np.arange(10), 4)
    for ensemble in (ours, plain):
        ensemble.add_batch([0], **{form: good[form][:1]}, targets=[1])
    ours.add_batch(ids, **{form: z}, targets=y)
    plain.add_batch(np.arange(10, 20)[rest], **{form: good[form][rest]}, targets=y[rest])
    for ensemble in (ours, plain):
        ensemble.end_member()
    with pytest.raises(ArgumentError, match=text) as raised:
        ours.scores("error_count")
    assert "(left out, the first of 1; the others are added)" in str(raised.value)
    for column in DTYPES:
        assert ours._sums.column(column).tobytes() == plain._sums.column(column).tobytes()
    ours.scores("error_count")  # raised once
    ours.add_batch([14], **{form: good[form][:1]}, targets=[1])  # another member may speak of it
    ours.end_member()
    assert ours._sums.column("count")[14] == 1


def test_of_several_the_first_problem_is_named(ensembles: Ensembles) -> None:
    ours = ensembles(9, 2)
    z = np.zeros((600, 2))
    z[599] = np.nan
    ours.add_batch(np.append(np.arange(8), np.full(592, 8)), logits=z)  # 591 times too often, one of them NaN
    ours.add_batch([99], logits=z[:1])
    ours.end_member()
    with pytest.raises(
        ArgumentError, match=r"ids: 8 at row 9 .* once in a member \(left out, the first of 592;"
    ):
        ours.scores("variation_ratio")
    assert ours._sums.column("count").tolist() == [1] * 9


def test_a_sample_whose_row_was_bad_may_be_given_again(ensembles: Ensembles) -> None:
    ours = ensembles(3, 2)
    ours.add_batch([1, 2], logits=[[np.nan, 0.0], [0.0, 1.0]])
    with pytest.raises(ArgumentError, match="row 0"):
        ours.state_dict()
    ours.add_batch([1], logits=[[0.0, 1.0]])
    ours.add_batch([2], logits=[[0.0, 1.0]])
    ours.end_member()
    with pytest.raises(ArgumentError, match="ids: 2 at row 0 of its batch was given before"):
        ours.mean_probs()
    assert ours._sums.column("count").tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            {"logits": [[0.0, 0.0, 0.0]]},
            r"logits: float64 of shape \[1, 3\]; must be floating point \[1, 2\]",
        ),
        ({"logits": [[0, 1]]}, r"logits: int64 of shape \[1, 2\]; must be floating point \[1, 2\]"),
        ({}, "logits, probs: exactly one of the two must be given"),
        ({"logits": [[0.0, 1.0]], "targets": [0, 1]}, "targets: 2 of them for 1 rows"),
        ({"logits": [[0.0, 1.0]], "targets": [0.0]}, "targets: float64 .* must be integers"),
        ({"logits": [[0.0, 1.0]], "temperature": 0}, "temperature=0: must be a finite number > 0"),
        ({"probs": [[0.5, 0.5]], "temperature": 2}, "temperature=2: is of logits; probabilities have none"),
        ({"logits": torch.zeros(1, 2).to_sparse()}, "logits: no tensor can be made of this Tensor"),
    ],
)
def test_what_can_be_seen_without_waiting_is_refused_at_once(
    ensembles: Ensembles, arguments: dict[str, Any], text: str
) -> None:
    ours = ensembles(6, 2)
    with pytest.raises(ArgumentError, match=text):
        ours.add_batch([5], **arguments)
    ours.add_batch([], logits=np.zeros((0, 2)))
    ours.end_member()
    assert np.isnan(ours.scores("ensemble_entropy").values).all()
    assert np.isnan(ours.mean_probs()).all()


def test_states_travel_between_host_and_device(ensembles: Ensembles, rng: np.random.Generator) -> None:
    z = rng.standard_normal((3, 40, 12))
    y = rng.integers(0, 12, 40)
    first = ensembles(40, 12)
    first.add(logits=z[0], targets=y)
    first.add_batch(np.arange(20), logits=z[1, :20], targets=y[:20])
    saved = first.state_dict()
    hosts = Ensemble.from_members(logits=z, targets=y)
    for make in (ensembles, Ensemble):
        other = make(40, 12)
        other.load_state_dict(saved)
        assert other.state_dict() == saved
        other.add_batch(np.arange(20, 40), logits=z[1, 20:], targets=y[20:])
        other.end_member()
        third = make(40, 12)
        third.add(logits=z[2], targets=y)
        other.merge(third)
        agree(other, hosts)


def test_members_of_an_array(machine: Any, ensembles: Ensembles, rng: np.random.Generator) -> None:
    z = rng.standard_normal((4, 30, 7)).astype(np.float32)
    for members in (z, machine.tensor(z), [machine.tensor(member) for member in z]):
        ours = Ensemble.from_members(logits=members, targets=np.zeros(30, np.int8), device="cuda")
        agree(ours, Ensemble.from_members(logits=z, targets=np.zeros(30, np.int64)))


def test_tensors_that_the_extension_refuses(machine: Any) -> None:
    on = machine.tensor

    def state(N: int = 3, C: int = 4) -> list[torch.Tensor]:
        kinds = (torch.float64, torch.int16, torch.float64, torch.int32, torch.int32)
        sums = [torch.zeros((N, C) if i < 2 else N, dtype=dtype) for i, dtype in enumerate(kinds)]
        return [on(x) for x in (*sums, torch.full((N,), -1, dtype=torch.int32), torch.tensor([-1] + [0] * 6))]

    for place, wrong, text in [
        (0, torch.zeros(3, 4), "p_sum: has another dtype"),
        (0, torch.zeros(3, 9, dtype=torch.float64)[:, :4], r"p_sum: must be contiguous \[N, C\]"),
        (1, torch.zeros(3, 5, dtype=torch.int16), r"votes: must be contiguous \[N, C\]"),
        (2, torch.zeros(4, dtype=torch.float64), "entropy_sum: 4 of them; must be 3"),
        (5, torch.zeros(3, dtype=torch.int64), "claims: has another dtype"),
        (6, torch.zeros(6, dtype=torch.int64), "problems: 6 of them; must be 7"),
    ]:
        tensors = state()
        tensors[place] = on(wrong)
        with pytest.raises(ValueError, match=text):
            machine.native.Ensemble(*tensors, machine.stream())
    ensemble = machine.native.Ensemble(*state(), machine.stream())
    y = on(torch.zeros(3, dtype=torch.int64))
    for z, ids, text in [
        (torch.zeros(3, 4).int(), None, "predictions: must be float32, float64, float16 or bfloat16"),
        (torch.zeros(3, 5), None, r"predictions: must be \[B, C\], or \[N, C\] without ids"),
        (torch.zeros(2, 4), None, r"predictions: must be \[B, C\], or \[N, C\] without ids"),
        (torch.zeros(4, 3).T, None, "predictions: elements of the last axis must be adjacent"),
        (torch.zeros(3, 4), torch.zeros(2, dtype=torch.int64), "ids: 2 of them; must be 3"),
    ]:
        with pytest.raises(ValueError, match=text):
            ensemble.add(on(z), False, 1.0, None if ids is None else on(ids), y, machine.stream())
