"""Dynamics: from plain arrays, to disk and back, and what is refused."""

from __future__ import annotations

import copy
import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pyimportance import ArgumentError, DataError, Dynamics, OutputError, Tracker, measures, score
from pyimportance.score.archive import _ARRAYS

GOLDEN = Path(__file__).parent / "golden"


def example(decayed: bool = False, features: bool = False) -> Dynamics:
    rng = np.random.default_rng(3)
    tracker = Tracker(7)
    for epoch in range(4):
        ids = np.arange(epoch % 2, 6)  # 6 is never observed
        z, y = rng.normal(size=(ids.size, 3)).astype(np.float32), rng.integers(0, 3, ids.size)
        tracker.observe(ids, z, y, features=rng.normal(size=(ids.size, 5)) if features else None)
        tracker.end_epoch()
        if decayed:
            tracker.dynamics(decay=0.5)
    return tracker.dynamics()


def assert_equal(a: Dynamics, b: Dynamics) -> None:
    assert a.epochs == b.epochs
    for name in _ARRAYS:
        one, other = getattr(a, name), getattr(b, name)
        assert (one is None) == (other is None), name
        if one is not None:
            assert one.tobytes() == other.tobytes(), name


@pytest.mark.parametrize("decayed", [False, True])
def test_round_trip(tmp_path: Path, decayed: bool) -> None:
    dynamics = example(decayed)
    dynamics.save(tmp_path / "d.npz")
    back = Dynamics.load(tmp_path / "d.npz")
    assert_equal(dynamics, back)
    assert (back.weight is not None) == decayed
    assert [p.name for p in tmp_path.iterdir()] == ["d.npz"]
    dynamics.save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "d.npz").read_bytes()


def test_losses_alone_round_trip(tmp_path: Path) -> None:
    dynamics = Dynamics.from_history(loss=[[1.0, np.nan], [2.0, np.nan]])
    dynamics.save(tmp_path / "d.npz")
    assert_equal(dynamics, Dynamics.load(tmp_path / "d.npz"))


@pytest.mark.parametrize("name", ["dynamics-v1.npz", "dynamics-v1-decayed.npz", "dynamics-v1-features.npz"])
def test_files_of_version_1_are_read_forever(name: str) -> None:
    dynamics = Dynamics.load(GOLDEN / name)
    want = json.loads((GOLDEN / name).with_suffix(".json").read_text())
    assert dynamics.epochs == 4
    for measure in want:
        np.testing.assert_allclose(score(dynamics, measure).values, np.float32(want[measure]), rtol=1e-6)
    assert set(want) <= set(measures(dynamics))


def write(path: Path, **change: Any) -> Path:
    """A file of this version with members changed (None: left out)."""
    dynamics = example()
    header = json.dumps({"format": "pyimportance.dynamics", "version": 1, "epochs": 4}).encode()
    members: dict[str, Any] = {"header": np.frombuffer(header, np.uint8)}
    members |= {name: getattr(dynamics, name) for name in _ARRAYS if getattr(dynamics, name) is not None}
    for name, value in change.items():
        members[name] = np.frombuffer(json.dumps(value).encode(), np.uint8) if name == "header" else value
    np.savez(path, **{name: value for name, value in members.items() if value is not None})
    return path


def test_the_file_of_the_tests_below_is_good(tmp_path: Path) -> None:
    assert_equal(Dynamics.load(write(tmp_path / "d.npz")), example())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"header": ["x"]}, r"member 'header': not dynamics: the header says otherwise"),
        ({"header": {"format": "x", "version": 1, "epochs": 4}}, "the header says otherwise"),
        (
            {"header": {"format": "pyimportance.dynamics", "version": 2, "epochs": 4}},
            "dynamics format version 2; this release reads 1",
        ),
        ({"header": {"format": "pyimportance.dynamics", "version": 1, "epochs": "4"}}, "epochs is '4'"),
        (
            {"header": {"format": "pyimportance.dynamics", "version": 1, "epochs": -1}},
            "epochs=-1: must",
        ),
        (
            {"header": {"format": "pyimportance.dynamics", "version": 1, "epochs": 2}},
            "count: 4 for sample 1; allowed",
        ),
        ({"header": {"format": "pyimportance.dynamics", "version": True, "epochs": 4}}, "version True"),
        ({"header": {"format": "pyimportance.dynamics", "version": 1, "epochs": True}}, "epochs is True"),
        ({"header": {"format": "pyimportance.dynamics", "version": 1, "epochs": 2**70}}, "epochs=11805916"),
        ({"count": np.zeros((1, 7), np.int32)}, "not an array of numbers"),
        ({"count": None}, "there is no member 'count'"),
        (
            {"count": np.zeros(6, np.int32)},
            r"weight|loss_mean: float64 of shape \[7\]; must be float64 \[6\]",
        ),
        ({"count": np.zeros(7, np.int64)}, r"count: int64 of shape \[7\]; must be int32 \[7\]"),
        ({"loss_m2": None}, "loss_mean, loss_m2, loss_last: some are missing"),
        ({"weight": np.ones(7)}, "weight and weight_sq: one is missing"),
        ({"surprise": np.ones(7)}, "member 'surprise': unknown; there may be count, weight"),
        ({"correct": np.full(7, 9, np.int32)}, "correct: 9 for sample 0; allowed are 0 to 2"),
        ({"forgotten": np.full(7, -1, np.int32)}, "forgotten: -1 for sample 0; allowed are 0 to 0"),
        (
            {"count": np.array([object()] * 7)},
            r"member 'count': not an array of numbers \[N\] in \.npy format",
        ),
    ],
)
def test_files_that_are_something_else(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    path = write(tmp_path / "d.npz", **change)
    with pytest.raises(DataError, match=text) as caught:
        Dynamics.load(path)
    assert caught.value.path == str(path)


def test_broken_files(tmp_path: Path) -> None:
    whole = write(tmp_path / "d.npz").read_bytes()
    with pytest.raises(DataError, match="does not exist"):
        Dynamics.load(tmp_path / "none.npz")
    for length in (0, 3, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.npz").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"not an \.npz file"):
            Dynamics.load(tmp_path / "cut.npz")
    flipped = bytearray(whole)
    flipped[whole.index(b"loss_mean") + 200] ^= 1
    (tmp_path / "flipped.npz").write_bytes(flipped)
    with pytest.raises(DataError, match="member 'loss_mean': cannot be read: Bad CRC-32"):
        Dynamics.load(tmp_path / "flipped.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"not an \.npz file"):
        Dynamics.load(tmp_path / "array.npy")
    with pytest.raises(OutputError, match="cannot be written"):
        example().save(tmp_path / "nowhere" / "d.npz")


def stored(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def npy(descr: str, shape: str, data: bytes = b"") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def test_only_named_arrays_are_written(tmp_path: Path) -> None:
    """np.savez of NumPy before 2.1 writes its argument allow_pickle as one more array."""
    example().save(tmp_path / "d.npz")
    with zipfile.ZipFile(tmp_path / "d.npz") as archive:
        assert {name.removesuffix(".npy") for name in archive.namelist()} <= {"header", *_ARRAYS}
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    with np.load(tmp_path / "d.npz", allow_pickle=False) as file:  # and NumPy reads it
        np.testing.assert_array_equal(file["count"], example().count)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (npy("<i4", "(10000000000000,)"), "0 bytes for 10000000000000 numbers of 4 bytes"),
        (npy("<i4", "(7,)", bytes(27)), "27 bytes for 7 numbers"),
        (npy("<i3", "(7,)", bytes(21)), "no dtype: <i3"),
        (npy("|O", "(7,)", bytes(56)), "not an array of numbers"),
        (npy("<i4", "(" * 3000), "not an array of numbers"),
        (npy("<i4", "(-1,)"), "not an array of numbers"),
        (npy("<i4", "(7,)", bytes(28))[:30], "not an array of numbers"),
        (b"", "not an array of numbers"),
    ],
)
def test_arrays_that_are_not_what_they_say(tmp_path: Path, count: bytes, text: str) -> None:
    path = stored(tmp_path / "d.npz", {"count.npy": count})
    with pytest.raises(DataError, match=f"member 'count': {text}"):
        Dynamics.load(path)


def test_members_that_are_packed_encrypted_or_there_twice(tmp_path: Path) -> None:
    bomb = stored(tmp_path / "bomb.npz", {"count.npy": bytes(10**7)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match="member 'count': must be stored"):
        Dynamics.load(bomb)
    whole = bytearray(write(tmp_path / "d.npz").read_bytes())
    at = whole.index(b"PK\x01\x02")
    for offset, value in ((8, 1), (10, 99), (8, 0x20)):  # flags: encrypted; an unknown method; a patch
        changed = bytearray(whole)
        changed[at + offset] = value
        (tmp_path / "changed.npz").write_bytes(changed)
        with pytest.raises(DataError, match="member 'header': must be stored"):
            Dynamics.load(tmp_path / "changed.npz")
    with zipfile.ZipFile(tmp_path / "two.npz", "w") as archive:
        archive.writestr("count.npy", npy("<i4", "(1,)", bytes(4)))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("count.npy", npy("<i4", "(1,)", bytes(4)))
    with pytest.raises(DataError, match="member 'count': is there twice"):
        Dynamics.load(tmp_path / "two.npz")


@pytest.mark.parametrize("header", [b"[" * 100_000, b"\xff\xfe", b"9" * 10_000, b""])
def test_headers_that_are_no_json(tmp_path: Path, header: bytes) -> None:
    path = write(tmp_path / "d.npz")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["header.npy"] = npy("|u1", f"({len(header)},)", header)
    with pytest.raises(DataError, match="member 'header': not dynamics"):
        Dynamics.load(stored(path, members))


def test_a_file_with_any_byte_changed_is_read_or_refused(tmp_path: Path) -> None:
    whole, path = write(tmp_path / "d.npz").read_bytes(), tmp_path / "fuzzed.npz"
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(1500):
        changed = bytearray(whole)
        for at in rng.integers(0, len(whole), rng.integers(1, 4)):
            changed[at] = rng.integers(0, 256)
        path.write_bytes(changed)
        try:
            Dynamics.load(path)
        except DataError:
            refused += 1
    assert refused > 750


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"epochs": 2**70}, "epochs=1180591620717411303424: must be an integer from 0 to 2147483647"),
        ({"epochs": True}, "epochs=True: must be an integer"),
        ({"epochs": 1}, "count: 2 for sample 0; allowed are 0 to 1"),
        ({"p_mean": 7.0}, "p_mean: 7.0 for sample 0; allowed are 0 to 1"),
        ({"p_mean": np.nan}, "p_mean: nan for sample 0; allowed are 0 to 1"),
        ({"loss_mean": np.nan}, "loss_mean: nan for sample 0; must be a number"),
        ({"loss_m2": -1.0}, "loss_m2: -1.0 for sample 0; allowed are 0 to inf"),
        ({"p_m2": np.nan}, "p_m2: nan for sample 0"),
        ({"q_sum": 9.0}, "q_sum: 9.0 for sample 0; allowed are 0 to 2"),
        ({"el2n_sum": 9.0}, "el2n_sum: 9.0 for sample 0; allowed are 0 to 2.8"),
        ({"entropy_sum": -1.0}, "entropy_sum: -1.0 for sample 0; allowed are 0 to inf"),
        ({"grand_sum": -1.0}, "grand_sum: -1.0 for sample 0; allowed are 0 to inf"),
        ({"loss_last": np.nan}, "loss_last: nan for sample 0; must be a number"),
        ({"margin_last": np.nan}, "margin_last: nan for sample 0; must be a number"),
        ({"el2n_last": 1.5}, "el2n_last: 1.5 for sample 0; allowed are 0 to 1.41"),
        ({"entropy_last": -1.0}, "entropy_last: -1.0 for sample 0; allowed are 0 to inf"),
        ({"correct": 3}, "correct: 3 for sample 0; allowed are 0 to 2"),
        ({"correct": 1, "forgotten": 2, "first_learned": 0}, "forgotten: 2 for sample 0; allowed are 0 to 1"),
        ({"correct": 1, "forgotten": 0, "first_learned": -9}, "first_learned: -9 for sample 0; allowed"),
        ({"correct": 1, "forgotten": 0, "first_learned": 99}, "first_learned: 99 for sample 0; allowed"),
        ({"weight": 3.0, "weight_sq": 1.0}, "weight: 3.0 for sample 0; allowed are 0 to 2"),
    ],
)  # fmt: skip
def test_numbers_that_no_training_leaves_behind(change: dict[str, Any], text: str) -> None:
    dynamics = example()
    columns = {name: getattr(dynamics, name) for name in ("epochs", *_ARRAYS)}
    for name, value in change.items():
        if name == "epochs":
            columns[name] = value
            continue
        ones = np.ones(7) if columns[name] is None else columns[name].copy()
        ones[0] = value
        columns[name] = ones
    if "weight" in change:
        columns["weight_sq"][1:] = columns["weight"][1:] = 0
    with pytest.raises(ArgumentError, match=text):
        Dynamics(**columns)


def test_a_variance_stays_above_zero_when_the_past_has_faded() -> None:
    tracker = Tracker(1000)
    rng = np.random.default_rng(0)
    for epoch in range(4):
        tracker.observe_loss(np.arange(1000), rng.random(1000) * 10.0 ** (3 - epoch))
        tracker.end_epoch()
        tracker.dynamics(decay=1e-30)
    m2 = tracker.dynamics().loss_m2
    assert m2 is not None
    assert (m2 >= 0).all()


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))])
def test_copies_are_as_read_only(how: Any) -> None:
    dynamics = Dynamics.from_history(loss=[[1.0, np.nan], [2.0, np.nan]])
    back = how(dynamics)
    assert_equal(dynamics, back)
    assert back.loss_mean is not None
    with pytest.raises(ValueError, match="read-only"):
        back.loss_mean[0] = 1
    np.testing.assert_array_equal(back.history.array("loss"), [[1, np.nan], [2, np.nan]])


@pytest.mark.parametrize("quantity", ["margin", "los", "correct", None, [], True])
def test_a_variance_of_what_has_none(quantity: Any) -> None:
    with pytest.raises(ArgumentError, match=r"quantity=.*: must be one of 'loss', 'p_true'$"):
        example().variance(quantity, 0)


def test_means_and_divisors_that_there_are_not() -> None:
    for quantity in ("correct", "loss_mean", 3):
        with pytest.raises(ArgumentError, match=r"quantity=.*: must be one of 'loss', 'p_true', 'p_fal"):
            example().mean(quantity)  # type: ignore[arg-type]
    for ddof in (2, -1, True, 0.5, "0"):
        with pytest.raises(ArgumentError, match=r"ddof=.*: must be one of 0, 1"):
            example().variance("loss", ddof)  # type: ignore[arg-type]


def test_arrays_are_read_only() -> None:
    dynamics = example()
    assert dynamics.loss_mean is not None
    with pytest.raises(ValueError, match="read-only"):
        dynamics.loss_mean[0] = 1
    with pytest.raises(AttributeError):
        dynamics.epochs = 9  # type: ignore[misc]


def test_quantities_that_were_not_recorded() -> None:
    dynamics = Dynamics.from_history(p_true=[[0.5]])
    assert dynamics.quantities == ("p_true",)
    with pytest.raises(ArgumentError, match="loss_mean was not recorded; recorded are p_true"):
        dynamics.mean("loss")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_from_history_of_many_samples(dtype: npt.DTypeLike) -> None:
    """More than are converted at a time, in memory of either order."""
    rng = np.random.default_rng(0)
    loss = np.asfortranarray(rng.random((3, 140_001)).astype(dtype))
    loss[1, ::7] = np.nan
    correct = rng.random(loss.shape) < 0.5
    dynamics = Dynamics.from_history(loss=loss, correct=correct)
    np.testing.assert_allclose(dynamics.mean("loss"), np.nanmean(loss.astype(np.float64), 0), rtol=1e-12)
    assert dynamics.correct is not None
    np.testing.assert_array_equal(dynamics.correct, (correct & ~np.isnan(loss)).sum(0))
    assert dynamics.history is not None
    assert np.isnan(dynamics.history.array("correct")[1, ::7]).all()


def test_from_history_of_nothing() -> None:
    assert Dynamics.from_history(loss=np.zeros((0, 4))).count.tolist() == [0] * 4
    assert Dynamics.from_history(loss=np.zeros((4, 0))).num_samples == 0


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({}, "from_history: nothing was given; at least one of loss, p_true, correct"),
        ({"loss": [1.0]}, r"loss: float64 of shape \[1\]; must be numbers \[E, N\]"),
        ({"loss": [["a"]]}, "loss: <U1"),
        (
            {"loss": [[1.0]], "p_true": [[1.0, 0.5]]},
            r"p_true: .* \[1, 2\]; must be numbers \[E, N\], here \[1, 1\]",
        ),
        (
            {"loss": [[1.0, 2.0]], "margin": [[1.0, np.nan]]},
            "margin: epoch 0 of sample 1 is nan, while in loss it is 2.0; NaN must mark the same",
        ),
        ({"p_true": [[1.5]]}, "p_true: 1.5 in epoch 0 of sample 0; allowed are 0 to 1"),
        ({"correct": [[0, 2]]}, "correct: 2 in epoch 0 of sample 1; allowed are 0 and 1"),
        ({"correct": [[0.5]]}, "correct: 0.5 in epoch 0 of sample 0; allowed are 0 and 1"),
        ({"loss": [[np.inf]]}, "loss: inf in epoch 0 of sample 0; allowed are finite numbers"),
        ({"entropy": [[-1.0]]}, "entropy: -1.0 in epoch 0 of sample 0; allowed are finite numbers from 0"),
        ({"loss": [[1.0], [1.0, 2.0]]}, "loss: no array can be made of this list"),
        ({"el2n": [[1.42]]}, r"el2n: 1.42 in epoch 0 of sample 0; allowed are 0 to sqrt"),
        ({"el2n": [[2.0]]}, r"el2n: 2.0 in epoch 0 of sample 0; allowed are 0 to sqrt\(2\)"),
    ],
)
def test_histories_that_are_refused(arrays: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        Dynamics.from_history(**arrays)


def test_infinite_margins_are_legal() -> None:
    dynamics = Dynamics.from_history(margin=[[np.inf, 1.0], [np.inf, 2.0]])
    assert score(dynamics, "aum").values.tolist() == [np.inf, 1.5]
