"""The native row kernel, called directly, and the bounds that its rows keep."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pyimportance import _C
from pyimportance.score.history import ROW
from pyimportance.score.inputs import BFLOAT16
from pyimportance.score.reference import row_statistics


def rows_of(z: Any, y: npt.NDArray[np.int64], threads: int = 1, features: Any = None) -> npt.NDArray[np.void]:
    """The rows [B] that observe_logits makes of a batch."""
    epoch, scratch = np.zeros(len(y), ROW), np.zeros(len(y), ROW)
    _C.observe_logits(np.arange(len(y)), z, features, y, None, False, scratch, epoch, threads)
    return epoch


def assert_rows(
    got: npt.NDArray[np.void],
    z: npt.NDArray[Any],
    y: npt.NDArray[np.int64],
    case: str,
    features: npt.NDArray[Any] | None = None,
) -> None:
    """To the bounds that csrc/observe/gist.h states, wherever rows were made. float32 has no normal number
    below 1e-38; loss and 1 - p_y are doubles.
    """
    with np.errstate(over="ignore"):
        want = row_statistics(z, y, features)
    np.testing.assert_array_equal(got["code"], np.where(want["correct"] == 1, 2, 1), case)
    np.testing.assert_array_equal(got["margin"], want["margin"], case)
    np.testing.assert_allclose(got["loss"], want["loss"], rtol=1e-6, atol=1e-100, err_msg=case)
    np.testing.assert_allclose(-np.expm1(-got["loss"]), want["p_false"], rtol=1e-6, atol=1e-100, err_msg=case)
    np.testing.assert_allclose(got["el2n"], want["el2n"], rtol=1e-6, atol=1e-37, err_msg=case)
    np.testing.assert_allclose(got["entropy"], want["entropy"], rtol=1e-6, atol=1e-6, err_msg=case)
    assert (got["entropy"] >= 0).all(), case
    np.testing.assert_allclose(got["grand"], want["grand"], rtol=1.1e-6, atol=1e-37, err_msg=case)


def stored_as(dtype: str, values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """``values`` rounded to "float32", "float16" or "bfloat16": as native code takes them, and as numbers."""
    tensor = torch.from_numpy(values.astype(np.float32)).to(getattr(torch, dtype))
    native = tensor.view(torch.int16).numpy().view(BFLOAT16) if dtype == "bfloat16" else tensor.numpy()
    return native, tensor.double().numpy()


def legal(z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What float16 cannot hold is infinite: +inf is refused, and class 0 must be finite."""
    z = np.where(z == np.inf, np.finfo(np.float16).max, z)
    z[:, 0] = np.where(np.isfinite(z[:, 0]), z[:, 0], np.finfo(np.float16).min)
    return z
