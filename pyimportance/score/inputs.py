"""The arguments of observe, NumPy or torch, as the arrays the native code takes.

Nothing is copied that need not be: int64 ids and targets and float32 logits whose rows are contiguous go
through as they are. torch is never imported here: who passes a tensor has done so.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError

_INT64_MAX = 2**63 - 1
BFLOAT16 = np.dtype([("bfloat16", np.uint16)])  # NumPy has no such type: its bits


def as_array(name: str, value: Any, *, bfloat16: bool = False) -> npt.NDArray[Any]:
    """``value`` as NumPy sees it; a tensor without its gradient, copied to the host if it is elsewhere.

    bfloat16  whether a tensor of that type comes as BFLOAT16, where it lies, and not as a copy in float32

    ArgumentError where NumPy has no such array: a ragged list, a sparse or meta tensor, an exotic dtype.
    """
    try:
        return _converted(value, bfloat16)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(
            f"{name}: no array can be made of this {type(value).__name__} ({error})"
        ) from None


def _converted(value: Any, bfloat16: bool) -> npt.NDArray[Any]:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        tensor = value.detach().cpu()
        bits = bfloat16 and tensor.dtype == torch.bfloat16
        if tensor.dtype == torch.bfloat16:
            tensor = tensor.view(torch.int16) if bits else tensor.float()
        array: npt.NDArray[Any] = tensor.numpy()
        return array.view(BFLOAT16) if bits else array
    return np.asarray(value)


def integers(name: str, value: Any, mask: Any = None) -> npt.NDArray[np.int64]:
    """int64 [B]; an empty list has no dtype to speak of and passes. What is masked may be anything."""
    array = as_array(name, value)
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        raise ArgumentError(f"{name}: {_described(array)}; must be integers [B]")
    if array.dtype == np.uint64 and (beyond := array > np.uint64(_INT64_MAX)).any():
        if mask is not None:
            beyond &= booleans("mask", mask, array.size)
        if beyond.any():
            at = int(beyond.argmax())
            raise ArgumentError(f"{name}: {array[at]} at position {at}; must be at most {_INT64_MAX}")
    return np.ascontiguousarray(array, dtype=np.int64)


def class_numbers(name: str, value: Any, rows: int, classes: int) -> npt.NDArray[np.int64]:
    """int64 [rows], each in 0..classes-1."""
    array = integers(name, value)
    if array.size != rows:
        raise ArgumentError(f"{name}: {array.size} of them for {rows} rows")
    if (outside := (array < 0) | (array >= classes)).any():
        row = int(outside.argmax())
        raise ArgumentError(f"{name}: {array[row]} at row {row}; must be at least 0 and below {classes}")
    return array


def booleans(name: str, value: Any, rows: int) -> npt.NDArray[np.bool_]:
    """bool [rows]."""
    array = as_array(name, value)
    if array.shape != (rows,) or (array.dtype != np.bool_ and array.size):
        raise ArgumentError(f"{name}: {_described(array)}; must be booleans [{rows}], one for each id")
    return np.ascontiguousarray(array, dtype=np.bool_)


def floats(
    name: str, value: Any, shape: tuple[int | str, ...], *, bfloat16: bool = False
) -> npt.NDArray[Any]:
    """Floating-point numbers of a shape in which a string stands for any length; bfloat16: see as_array."""
    array = as_array(name, value, bfloat16=bfloat16)
    fits = array.ndim == len(shape) and all(
        isinstance(wanted, str) or got == wanted for got, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits or (array.dtype.kind != "f" and array.dtype != BFLOAT16 and array.size):
        wanted = ", ".join(str(length) for length in shape)
        raise ArgumentError(f"{name}: {_described(array)}; must be floating point [{wanted}]")
    return array


def logits_array(value: Any, rows: int) -> npt.NDArray[np.float32]:
    """float32 [rows, C] with the classes of a row adjacent; the rows may lie apart."""
    array = as_array("logits", value)
    if rows == 0 and array.size == 0:  # of an empty batch an empty list says enough
        return np.zeros((0, 1), dtype=np.float32)
    array = floats("logits", array, (rows, "C"))
    if array.shape[1] == 0:
        raise ArgumentError(f"logits: {_described(array)}; there must be at least one class")
    if array.dtype != np.float32:
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused as such
            return np.ascontiguousarray(array, dtype=np.float32)
    item = array.itemsize
    adjacent = array.flags.aligned and array.strides[1] == item and array.strides[0] % item == 0
    return array if adjacent else np.ascontiguousarray(array)


def _described(array: npt.NDArray[Any]) -> str:
    return f"{array.dtype} of shape {list(array.shape)}"
