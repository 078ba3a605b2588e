"""The arguments of observe as tensors on a device: what inputs.py is for the host.

Nothing is waited for: what is on the host is copied without, and what a tensor holds is looked at by the
kernels alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.dlpack import from_dlpack

from pyimportance.errors import ArgumentError
from pyimportance.score import inputs

NARROW = (torch.float32, torch.float16, torch.bfloat16)


def tensor(name: str, value: Any, device: torch.device) -> torch.Tensor:
    """``value`` on the device, without its gradient. ArgumentError where torch has no such tensor."""
    try:
        if isinstance(value, torch.Tensor):
            given = value.detach()
        elif hasattr(value, "__dlpack__") and not isinstance(value, np.ndarray):
            given = from_dlpack(value)
        else:
            array = np.ascontiguousarray(_known_to_torch(inputs.as_array(name, value)))
            given = torch.from_numpy(array if array.flags.writeable else array.copy())
        if given.layout != torch.strided:
            raise TypeError(f"its layout is {given.layout}")
        return given.to(device, non_blocking=True)
    except (TypeError, RuntimeError, BufferError) as error:
        raise ArgumentError(
            f"{name}: no tensor can be made of this {type(value).__name__} ({error})"
        ) from None


def _known_to_torch(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """In the processor's byte order, and no longer than a double."""
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype(np.float64)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def integers(
    name: str, value: Any, device: torch.device, shape: tuple[int | str, ...] = ("B",)
) -> torch.Tensor:
    """int64 of a shape in which a string stands for any length; an empty list passes, of any dtype."""
    given = tensor(name, value, device)
    whole = not (given.is_floating_point() or given.is_complex() or given.dtype == torch.bool)
    if not inputs.fits(given.shape, shape) or (given.numel() and not whole):
        raise ArgumentError(f"{name}: {described(given)}; must be integers {inputs.shape_text(shape)}")
    return given.to(torch.int64).contiguous()


def booleans(name: str, value: Any, device: torch.device, rows: int) -> torch.Tensor:
    """bool [rows]."""
    given = tensor(name, value, device)
    if given.shape != (rows,) or (rows and given.dtype != torch.bool):
        raise ArgumentError(f"{name}: {described(given)}; must be booleans [{rows}], one for each id")
    return given.to(torch.bool).contiguous()


def matrix(
    name: str,
    value: Any,
    device: torch.device,
    *shapes: tuple[int | str, ...],
    dtypes: tuple[torch.dtype, ...] = NARROW,
) -> torch.Tensor:
    """Floating-point numbers of one of the shapes, of one of the dtypes (others become the first of them),
    elements of a row adjacent, the rows wherever they lie.
    """
    given = tensor(name, value, device)
    if shapes[0][0] == 0 and given.numel() == 0 and given.ndim < 3:  # an empty list says enough of no rows
        return torch.zeros(0, 1, device=device)
    real = given.is_floating_point() or not given.numel()
    if not real or not inputs.fits(given.shape, *shapes):
        wanted = " or ".join(map(inputs.shape_text, shapes))
        raise ArgumentError(f"{name}: {described(given)}; must be floating point {wanted}")
    if given.dtype not in dtypes:
        given = given.to(dtypes[0])
    return given if given.stride(-1) == 1 or given.shape[-1] == 1 else given.contiguous()


def described(given: torch.Tensor) -> str:
    """Its dtype and shape, as errors say them."""
    return f"{str(given.dtype).removeprefix('torch.')} of shape {list(given.shape)}"
