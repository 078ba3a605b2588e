"""Logits and features of float32, float16 and bfloat16, read as they are: the oracle on rounded values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pyimportance import _C, Tracker
from pyimportance.score.inputs import BFLOAT16, matrix
from tests.score.rows_of import assert_rows, legal, rows_of, stored_as

Logits = Callable[[str, int, int, np.random.Generator], npt.NDArray[np.float32]]
DTYPES = ("float32", "float16", "bfloat16")
CLASSES = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 159, 160, 161, 1000, 2049)


@pytest.fixture(params=DTYPES)
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_against_the_oracle(
    isa: str, dtype: str, kind: str, make_logits: Logits, rng: np.random.Generator
) -> None:
    for classes in CLASSES:
        _, rounded = stored_as(dtype, make_logits(kind, 11, classes, rng))
        z, values = stored_as(dtype, legal(rounded))
        h, hidden = stored_as(dtype, rng.normal(size=(11, classes)))
        y = rng.integers(0, classes, 11) * np.isfinite(values).all(1)
        y[::2] = values[::2].argmax(1)
        assert_rows(rows_of(z, y, features=h), values, y, f"{kind}, {classes} classes", hidden)


@pytest.mark.parametrize("classes", [2, 161])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_number_there_is(isa: str, dtype: str, classes: int) -> None:
    """All 65,536 bit patterns as the logit of class 0, the target; the margin is that number."""
    bits = np.arange(1 << 16, dtype=np.uint16).view(np.int16)
    tensor = torch.from_numpy(bits).view(getattr(torch, dtype))
    finite = torch.isfinite(tensor)
    z = torch.zeros(int(finite.sum()), classes, dtype=tensor.dtype)
    z[:, 0] = tensor[finite]
    native = z.view(torch.int16).numpy().view(BFLOAT16 if dtype == "bfloat16" else np.float16)
    got = rows_of(native, np.zeros(len(z), np.int64))
    np.testing.assert_array_equal(got["margin"], z[:, 0].double().numpy())
    for value in (torch.inf, torch.nan):  # and the others are refused, wherever they are
        for column in (0, classes - 1):
            z[3, column] = value
            with pytest.raises(ValueError, match=r"NaN or \+inf.* of sample 3 "):
                Tracker(5).observe(range(5), z[:5], [0] * 5)
            z[3, column] = 0


@pytest.mark.parametrize("classes", [5, 350])
def test_rows_of_any_stride(isa: str, dtype: str, classes: int, rng: np.random.Generator) -> None:
    wide, _ = stored_as(dtype, rng.normal(size=(60, classes + 3)))
    y = rng.integers(0, classes, 60)
    plain = rows_of(np.ascontiguousarray(wide[:, 1:-2]), y)
    for rows in (slice(None), slice(None, None, -1), slice(1, None, 3)):
        assert rows_of(wide[rows, 1:-2], y[rows].copy()).tobytes() == plain[rows].tobytes()
    again = rows_of(np.broadcast_to(wide[:1, :classes], (4, classes)), y[:1].repeat(4))
    assert again.tobytes() == rows_of(wide[:1, :classes], y[:1]).tobytes() * 4


@pytest.mark.parametrize("classes", [10, 1000])
def test_threads_change_nothing(isa: str, dtype: str, classes: int, rng: np.random.Generator) -> None:
    """As many as large batches are worth."""
    rows = (4 << 18) // classes + 3
    z, _ = stored_as(dtype, rng.normal(size=(rows, classes)))
    h, _ = stored_as(dtype, rng.normal(size=(rows, 7)))
    y = rng.integers(0, classes, rows)
    one = rows_of(z, y, 1, h).tobytes()
    assert all(rows_of(z, y, threads, h).tobytes() == one for threads in (2, 3, 4))


def test_nothing_is_copied(dtype: str, rng: np.random.Generator) -> None:
    """Rows of a tensor that is a view go to native code where they lie."""
    wide = torch.from_numpy(rng.normal(size=(6, 40))).to(getattr(torch, dtype))
    for view in (wide, wide[::2], wide[:, 3:20], wide[1::2, 5:6]):
        array = matrix("logits", view, ("B", "C"))
        assert array.ctypes.data == view.data_ptr()
        assert array.shape == tuple(view.shape)
    assert matrix("logits", wide.T, ("B", "C")).flags.c_contiguous


@pytest.mark.parametrize(("classes", "apart"), [(150, 5), (2000, 7.5), (100_000, 11)])
@pytest.mark.parametrize(("inexact", "bound"), [(0.0, 5e-7), (1 / 3, 1e-6)])
def test_the_stated_bound_of_sums(isa: str, classes: int, apart: float, inexact: float, bound: float) -> None:
    """csrc/observe/gist.h, at its worst: one logit is the reference, and so many are ``apart`` below it that
    their exponentials, all with the same error, are all of the sum. Where differences are exact, half of it.
    """
    for step in np.linspace(0, 1, 200 if classes < 10_000 else 20):
        z = np.full((1, classes), inexact - apart + np.round(step * 64) / 64, np.float32)
        z[0, classes // 2], z[0, 1] = 40, inexact  # the target, and the reference
        want = np.exp(z[0].astype(np.longdouble) - 40)
        loss = rows_of(z, np.array([classes // 2]))["loss"][0]
        assert abs(loss / np.log1p(np.delete(want, classes // 2).sum()) - 1) < bound


def test_the_stated_bound_of_exp(isa: str) -> None:
    """csrc/observe/arithmetic.h: 3e-12 relative. One other class is no sum."""
    z = np.zeros((50_000, 2), np.float32)
    z[:, 1] = -np.linspace(0, 250, len(z))
    exact = np.log1p(np.exp(z[:, 1].astype(np.longdouble)))
    assert np.abs(rows_of(z, np.zeros(len(z), np.int64))["loss"] / exact - 1).max() < 3.2e-12


def test_the_stated_bound_of_log(isa: str) -> None:
    """1e-13 relative."""
    for classes in (2, 3, 10, 100, 160, 161, 1000, 100_000):  # equal logits: exp is exact
        zero = np.zeros((1, classes), np.float32)
        exact = np.log(np.longdouble(classes))
        assert abs(rows_of(zero, np.zeros(1, np.int64))["loss"][0] / exact - 1) < 1.3e-13


def test_instruction_sets_agree_on_halves(rng: np.random.Generator) -> None:
    """By instructions and by integers: the same numbers, whatever they are."""
    z, _ = stored_as("float16", rng.normal(size=(100, 40)) * 10.0 ** rng.integers(-7, 4, (100, 1)))
    before, rows = _C.instruction_set(), []
    for name in _C.instruction_sets():
        _C.use_instruction_set(name)
        rows.append(rows_of(z, np.zeros(100, np.int64)))
    _C.use_instruction_set(before)
    for other in rows[1:]:
        np.testing.assert_array_equal(other["margin"], rows[0]["margin"])
