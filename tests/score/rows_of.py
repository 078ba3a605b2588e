"""The native row kernel, called directly."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pyimportance import _C
from pyimportance.score.history import ROW
from pyimportance.score.inputs import BFLOAT16


def rows_of(z: Any, y: npt.NDArray[np.int64], threads: int = 1, features: Any = None) -> npt.NDArray[np.void]:
    """The rows [B] that observe_logits makes of a batch."""
    epoch, scratch = np.zeros(len(y), ROW), np.zeros(len(y), ROW)
    _C.observe_logits(np.arange(len(y)), z, features, y, None, False, scratch, epoch, threads)
    return epoch


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
