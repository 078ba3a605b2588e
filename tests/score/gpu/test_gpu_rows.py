"""The kernels over logits against the oracle in float64, on the host and on a device."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.score.gpu.conftest import Machine
from tests.score.rows_of import assert_rows

# Both kernels, and whatever number of lanes or warps shares a row; round 32, and round each limit.
CLASSES = (1, 2, 4, 5, 8, 9, 31, 32, 33, 64, 127, 129, 255, 256, 257, 300, 1000, 1003, 4096, 4097, 5003)
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
Logits = Callable[[str, int, int, np.random.Generator], npt.NDArray[np.float32]]


def targets_of(z: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Half of them correct; none at -inf."""
    y = rng.integers(0, z.shape[1], len(z))
    y[::2] = z[::2].argmax(1)
    return np.where(np.isfinite(z[np.arange(len(z)), y]), y, 0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_against_the_oracle(
    machine: Any, dtype: torch.dtype, kind: str, make_logits: Logits, rng: np.random.Generator
) -> None:
    if kind == "offset" and dtype == torch.float16:
        pytest.skip("float16 ends at 65504")
    for classes in CLASSES:
        rows = 33 if classes < 300 else 9
        logits = torch.from_numpy(make_logits(kind, rows, classes, rng)).to(dtype)
        z = logits.float().numpy()
        y = targets_of(z, rng)
        assert_rows(machine.rows(logits, y), z, y, f"{kind}, {classes} classes")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("classes", [7, 300, 4500])
def test_rows_that_start_anywhere(
    machine: Any, dtype: torch.dtype, classes: int, make_logits: Logits, rng: np.random.Generator
) -> None:
    """16-byte loads begin at the first address that allows them, and the classes beside them are others'."""
    logits = torch.from_numpy(make_logits("normal", 6, classes, rng)).to(dtype)
    z = logits.float().numpy()
    y = targets_of(z, rng)
    for start in range(9):
        wide = torch.full((6, classes + 9), torch.inf, dtype=dtype)
        wide[:, start : start + classes] = logits
        part = machine.tensor(wide)[:, start : start + classes]
        assert_rows(machine.rows(part, y), z, y, f"from {start}")
        assert_rows(machine.rows(part[::2], y[::2].copy()), z[::2], y[::2], f"every other row from {start}")


@pytest.mark.parametrize("off", [-1.0, 1.0, 2.0], ids=["too small", "too large", "both"])
def test_bounds_hold_with_the_worst_powers_of_two_of_a_device(
    on_host: Callable[[int], ModuleType], off: float, kind: str, make_logits: Logits, rng: np.random.Generator
) -> None:
    native = on_host(800)
    machine = Machine(native, torch.device("cpu"), lambda: -1)
    powers_off = ctypes.c_float.in_dll(ctypes.CDLL(native.__file__), "on_host_powers_off")
    powers_off.value = off
    try:
        for classes in (2, 10, 33, 300, 1000, 5003):
            z = make_logits(kind, 40 if classes < 300 else 9, classes, rng)
            y = targets_of(z, rng)
            assert_rows(machine.rows(z, y), z, y, f"{kind}, {classes} classes")
    finally:
        powers_off.value = 0.0


def test_sorted_logits_keep_their_digits(machine: Any) -> None:
    """Where every logit is above all before it, the reference moves all the way up."""
    for classes in (1000, 6000):
        for top in (3.0, 60.0, 3e4):
            z = np.linspace(0, top, classes, dtype=np.float32)[None].repeat(3, 0)
            y = np.array([0, classes // 2, classes - 1])
            assert_rows(machine.rows(z, y), z, y, f"up to {top}")
            assert_rows(machine.rows(z[:, ::-1].copy(), y), z[:, ::-1], y, f"from {top}")


def test_the_first_maximum_wins(machine: Any) -> None:
    for classes in (4, 40, 350, 5000):
        last = classes - 1
        z = np.zeros((4, classes), np.float32)
        z[:3, [1, last]] = 1
        rows = machine.rows(z, np.array([1, last, 0, last]))
        assert rows["code"].tolist() == [2, 1, 1, 1]
        assert rows["margin"].tolist() == [0, 0, -1, 0]


@pytest.mark.parametrize("classes", [3, 200, 350, 5000])
def test_numbers_that_are_not_finite(machine: Any, classes: int, rng: np.random.Generator) -> None:
    z = rng.standard_normal((12, classes)).astype(np.float32)
    good = z.copy()
    y = np.full(12, 1)
    z[0, 1] = z[1, 0] = z[2, classes - 1] = np.nan
    z[3, 1] = z[4, 0] = z[5, classes - 1] = np.inf
    z[6, 1] = -np.inf  # an infinite loss
    z[7] = -np.inf
    z[8, 2] = good[8, 2] = -np.inf  # legal
    z[9], good[9] = -np.inf, -np.inf  # but the target's: the others are nothing
    z[9, 1] = good[9, 1] = 3
    z[10] = good[10] = np.finfo(np.float32).min  # as masks have it
    z[11] = good[11] = np.finfo(np.float32).min
    z[11, 1] = good[11, 1] = 5
    rows = machine.rows(z, y)
    assert rows["code"][:8].tolist() == [4] * 8
    assert_rows(rows[8:], good[8:], y[8:], "legal")
    assert machine.rows(z[:2], np.array([classes, -1]))["code"].tolist() == [0, 0]  # nothing is read
    bits = torch.tensor([0x7FC1, -0x7F], dtype=torch.int16).view(torch.bfloat16)  # NaNs of either sign
    for nan in (bits, bits.float(), bits.half()):
        broken = torch.zeros(2, classes, dtype=nan.dtype)
        broken[:, 2] = nan
        assert machine.rows(broken, [0, 0])["code"].tolist() == [4, 4]


@pytest.mark.parametrize("classes", [10, 1000, 5000])
def test_a_row_depends_on_nothing_but_itself(
    machine: Any, classes: int, make_logits: Logits, rng: np.random.Generator
) -> None:
    z = make_logits("normal", 70, classes, rng)
    y = rng.integers(0, classes, 70)
    whole = machine.rows(z, y)
    for start, stop in ((0, 1), (0, 31), (1, 33), (3, 36), (5, 70)):
        assert machine.rows(z[start:stop].copy(), y[start:stop]).tobytes() == whole[start:stop].tobytes()
    assert machine.rows(z[:0], y[:0]).size == 0


def test_what_is_refused(machine: Any) -> None:
    z, y = np.zeros((3, 4), np.float32), np.zeros(3, np.int64)
    out = machine.poisoned(3, 32)

    def attempt(z: Any, y: Any, scratch: Any, rows: Any) -> None:
        machine.native.rows(machine.tensor(z), machine.tensor(y), scratch, rows, machine.stream())

    for arguments, text in [
        ((z[:2], y, out, out), "logits: 2 rows; must be 3"),
        ((z[0], y, out, out), "logits: must have 2 axes"),
        ((z[:, :0], y, out, out), "logits: must have 1 to"),
        ((z.astype(np.float64), y, out, out), "logits: must be float32, float16 or bfloat16"),
        ((np.zeros((4, 3), np.float32).T, y[:3], out, out), "logits: elements of the last axis"),
        ((z, y.astype(np.int32), out, out), "targets: has another dtype"),
        ((z, y, out[:2], out), "scratch: 2 of them; must be 3"),
        ((z, y, out, machine.poisoned(3, 40)[:, :32]), r"out: must be contiguous \[N, 32\]"),
    ]:
        with pytest.raises(ValueError, match=text):
            attempt(*arguments)
    assert (out == 0xA5).all()
