"""The arguments of observe, NumPy or torch, as the arrays the native code takes.

Nothing is copied that need not be: int64 ids and targets, and logits and features of float32, float16 or
bfloat16 whose rows are contiguous, go through as they are. torch is never imported here: who passes a tensor
has done so.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError

_INT64_MAX = 2**63 - 1
BFLOAT16 = np.dtype([("bfloat16", np.uint16)])  # NumPy has no such type: its bits
NARROW = (np.dtype(np.float32), np.dtype(np.float16), BFLOAT16)


def as_array(name: str, value: Any, *, bfloat16: bool = False) -> npt.NDArray[Any]:
    """``value`` as NumPy sees it; a tensor without its gradient, copied to the host if it is elsewhere.

    bfloat16  whether a tensor of that type comes as BFLOAT16, where it lies, and not as a copy in float32

    ArgumentError where NumPy has no such array: a ragged list, a sparse or meta tensor, an exotic dtype; and
    where numbers of a masked array are masked, whose mask it would lose.
    """
    if type(value) is np.ndarray:
        return value
    try:
        return _converted(value, bfloat16)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(
            f"{name}: no array can be made of this {type(value).__name__} ({error})"
        ) from None


def _converted(value: Any, bfloat16: bool) -> npt.NDArray[Any]:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        tensor = value.detach() if value.requires_grad else value
        tensor = tensor if tensor.is_cpu else tensor.cpu()
        if tensor.dtype == torch.bfloat16 and bfloat16:
            bits: npt.NDArray[Any] = tensor.view(torch.int16).numpy()
            return bits.view(BFLOAT16)
        array: npt.NDArray[Any] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        return array
    if isinstance(value, np.ma.MaskedArray) and (masked := np.count_nonzero(value.mask)):
        raise ValueError(f"{masked} of its {value.size} numbers are masked; fill them first")
    return np.asarray(value)


def integers(
    name: str, value: Any, mask: npt.NDArray[np.bool_] | None = None, shape: tuple[int | str, ...] = ("B",)
) -> npt.NDArray[np.int64]:
    """int64 of a shape in which a string stands for any length; an empty list has no dtype to speak of and
    passes. What is masked along the first axis may be anything.
    """
    array = as_array(name, value)
    if not fits(array.shape, shape) or (array.dtype.kind not in "iu" and array.size):
        raise ArgumentError(f"{name}: {_described(array)}; must be integers {shape_text(shape)}")
    if array.dtype == np.uint64 and (beyond := array > np.uint64(_INT64_MAX)).any():
        if mask is not None and mask.size == len(array):
            beyond[~mask] = False
        if beyond.any():
            at = int(beyond.argmax())
            raise ArgumentError(f"{name}: {array.flat[at]} at position {at}; must be at most {_INT64_MAX}")
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


def floats(name: str, value: Any, *shapes: tuple[int | str, ...], bfloat16: bool = False) -> npt.NDArray[Any]:
    """Floating-point numbers of one of the shapes, in which a string stands for any length; bfloat16: see
    as_array.
    """
    array = as_array(name, value, bfloat16=bfloat16)
    real = array.dtype.kind == "f" or array.dtype == BFLOAT16 or not array.size
    if not real or not fits(array.shape, *shapes):
        wanted = " or ".join(map(shape_text, shapes))
        raise ArgumentError(f"{name}: {_described(array)}; must be floating point {wanted}")
    return array


def matrix(name: str, value: Any, *shapes: tuple[int | str, ...]) -> npt.NDArray[Any]:
    """Floating-point numbers of one of the shapes, as native code takes them: float32, float16 or BFLOAT16,
    elements of a row adjacent, the rows wherever they lie. Other dtypes become float32.
    """
    array = as_array(name, value, bfloat16=True)
    if array.size == 0 and shapes[0][0] == 0 and array.ndim < 3:  # an empty list says enough of no rows
        return np.zeros((0, 1), dtype=np.float32)
    array = floats(name, array, *shapes)
    if array.dtype not in NARROW:
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused as such
            return np.ascontiguousarray(array, dtype=np.float32)
    flags = array.flags
    if flags.c_contiguous and flags.aligned:
        return array
    item = array.itemsize
    adjacent = array.strides[-1] == item and not any(stride % item for stride in array.strides)
    return array if adjacent and flags.aligned else np.ascontiguousarray(array)


def fits(got: tuple[int, ...], *shapes: tuple[int | str, ...]) -> bool:
    """Whether it is one of the shapes, in which a string stands for any length."""
    for shape in shapes:
        if len(got) == len(shape):
            for length, wanted in zip(got, shape, strict=True):
                if length != wanted and not isinstance(wanted, str):
                    break
            else:
                return True
    return False


def shape_text(shape: tuple[int | str, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _described(array: npt.NDArray[Any]) -> str:
    dtype = "bfloat16" if array.dtype == BFLOAT16 else array.dtype
    return f"{dtype} of shape {list(array.shape)}"
