"""Dynamics on disk: to a file and back, files of every version, and files that are something else."""

from __future__ import annotations

import json
import struct
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pyimportance import DataError, Dynamics, OutputError, measures, score
from pyimportance.score.archive import _ARRAYS
from tests.score.runs import assert_equal, example

GOLDEN = Path(__file__).parent / "golden"
KEYS = ("a/1", "", "\u00e4\u6f22", "b.c", "d", "e", "f")  # of the seven samples of version 2
HEADER = {"format": "pyimportance.dynamics", "version": 2, "classes": 3}


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


def test_keys_round_trip(tmp_path: Path) -> None:
    for names in (("a", "", "\u00e4\u6f22", "\U0001f600", "\ud800", "x" * 1000, "a"), ("",) * 7):
        dynamics = replace(example(), keys=names)
        dynamics.save(tmp_path / "d.npz")
        back = Dynamics.load(tmp_path / "d.npz")
        assert (back.keys, back.classes) == (names, 3)
    nothing = replace(Dynamics.from_history(loss=np.zeros((1, 0))), keys=())
    nothing.save(tmp_path / "d.npz")
    assert Dynamics.load(tmp_path / "d.npz").keys == ()


def test_losses_alone_round_trip(tmp_path: Path) -> None:
    dynamics = Dynamics.from_history(loss=[[1.0, np.nan], [2.0, np.nan]])
    dynamics.save(tmp_path / "d.npz")
    assert_equal(dynamics, Dynamics.load(tmp_path / "d.npz"))


@pytest.mark.parametrize("name", ["dynamics-v1.npz", "dynamics-v1-decayed.npz", "dynamics-v1-features.npz"])
def test_files_of_version_1_are_read_forever(name: str) -> None:
    dynamics = read_golden(name)
    assert (dynamics.keys, dynamics.classes) == (None, None)


def test_files_of_version_2_are_read_forever() -> None:
    dynamics = read_golden("dynamics-v2.npz")
    assert (dynamics.keys, dynamics.classes) == (KEYS, 3)
    assert "confidence_weighted_entropy" in measures(dynamics)


def test_files_of_version_2_are_written(tmp_path: Path) -> None:
    """By a processor that rounds otherwise, too: the members that are not floating point are the same."""
    replace(example(features=True), keys=KEYS).save(tmp_path / "d.npz")
    with np.load(tmp_path / "d.npz") as ours, np.load(GOLDEN / "dynamics-v2.npz") as golden:
        assert list(ours) == list(golden)
        for name in ours:
            assert ours[name].dtype == golden[name].dtype
            if golden[name].dtype.kind != "f":
                np.testing.assert_array_equal(ours[name], golden[name], name)


def read_golden(name: str) -> Dynamics:
    dynamics = Dynamics.load(GOLDEN / name)
    want = json.loads((GOLDEN / name).with_suffix(".json").read_text())
    assert dynamics.epochs == 4
    for measure in want:
        np.testing.assert_allclose(score(dynamics, measure).values, np.float32(want[measure]), rtol=1e-6)
    assert set(want) <= set(measures(dynamics))
    return dynamics


def write(path: Path, **change: Any) -> Path:
    """A file of this version with members changed (None: left out)."""
    dynamics = example()
    header = json.dumps({**HEADER, "epochs": 4}).encode()
    members: dict[str, Any] = {"header": np.frombuffer(header, np.uint8)}
    members |= {name: getattr(dynamics, name) for name in _ARRAYS if getattr(dynamics, name) is not None}
    for name, value in change.items():
        members[name] = np.frombuffer(json.dumps(value).encode(), np.uint8) if name == "header" else value
    np.savez(path, **{name: value for name, value in members.items() if value is not None})
    return path


def keys(data: bytes, ends: npt.ArrayLike) -> dict[str, Any]:
    return {"key_bytes": np.frombuffer(data, np.uint8), "key_ends": np.asarray(ends)}


def test_the_file_of_the_tests_below_is_good(tmp_path: Path) -> None:
    assert_equal(Dynamics.load(write(tmp_path / "d.npz")), example())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"header": ["x"]}, r"member 'header': not dynamics: the header says otherwise"),
        ({"header": {"format": "x", "version": 1, "epochs": 4}}, "the header says otherwise"),
        (
            {"header": {**HEADER, "version": 3, "epochs": 4}},
            "dynamics format version 3; this release reads 1 and 2",
        ),
        ({"header": {**HEADER, "epochs": "4"}}, "epochs is '4'"),
        (
            {"header": {**HEADER, "epochs": -1}},
            "epochs=-1: must",
        ),
        (
            {"header": {**HEADER, "epochs": 2}},
            "count: 4 for sample 1; allowed",
        ),
        ({"header": {**HEADER, "version": True, "epochs": 4}}, "version True"),
        ({"header": {**HEADER, "epochs": True}}, "epochs is True"),
        ({"header": {**HEADER, "epochs": 2**70}}, "epochs=11805916"),
        ({"header": {**HEADER, "epochs": 4, "classes": 0}}, "classes=0: must be an integer of at least 1"),
        (
            {"header": {**HEADER, "epochs": 4, "classes": "3"}},
            "classes='3': must be an integer of at least 1",
        ),
        ({"key_ends": np.arange(7)}, r"member 'key_bytes': must be uint8, as key_bytes and key_ends go"),
        ({"key_bytes": np.zeros(7, np.uint8)}, r"member 'key_ends': must be int64, as key_bytes and"),
        (keys(b"seven..", np.arange(7, dtype=np.int32)), r"member 'key_ends': must be int64"),
        (keys(b"seven..", np.arange(7)), r"member 'key_ends': must ascend from 0 to 7, the number of bytes"),
        (keys(b"seven..", [1, 2, 4, 3, 5, 6, 7]), r"member 'key_ends': must ascend from 0 to 7"),
        (keys(b"seven..", [-1, 2, 3, 4, 5, 6, 7]), r"member 'key_ends': must ascend from 0 to 7"),
        (keys(b"sixxxx", np.arange(1, 7)), "keys: 6 of them; must be 7 strings"),
        (keys(b"\xc3\xa4seven", [1, 2, 3, 4, 5, 6, 7]), "member 'key_bytes': not UTF-8"),
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
