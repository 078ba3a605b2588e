"""argsort: the positions of the values in order of importance, in the kind of array that came in."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from pyimportance import _C
from pyimportance.checks import check_flag, check_integer
from pyimportance.errors import ArgumentError, PyimportanceError
from pyimportance.score import inputs
from pyimportance.score.engine import cuda
from pyimportance.threads import default_threads

if TYPE_CHECKING:
    import torch

# What the native sort takes, and what every other dtype is widened to (which keeps order and ties).
_NATIVE = ("float32", "float64", "int32", "int64", "uint32", "uint64")
_WIDENED = {"float16": "float32", "int8": "int32", "int16": "int32", "bool": "uint32", "uint8": "uint32"}
_WIDENED["uint16"] = "uint32"


@overload
def argsort(values: torch.Tensor, *, descending: bool = True, threads: int | None = None) -> torch.Tensor: ...
@overload
def argsort(
    values: npt.NDArray[Any] | Sequence[float], *, descending: bool = True, threads: int | None = None
) -> npt.NDArray[np.int64]: ...
def argsort(
    values: torch.Tensor | npt.NDArray[Any] | Sequence[float],
    *,
    descending: bool = True,
    threads: int | None = None,
) -> torch.Tensor | npt.NDArray[np.int64]:
    """Positions int64 [N] of ``values`` [N] in order, highest first (``descending``) or lowest first.

    Equal values keep ascending positions in both directions; NaN comes last in both; -0.0 equals 0.0.

    values      floats or integers, one axis, any strides; NumPy in, NumPy out. A torch tensor gives a tensor
                on its device, sorted there on the current stream: by CUB on CUDA, and by torch on other
                devices or where pyimportance._cuda is not built
    threads     on the CPU, at most so many (default: OMP_NUM_THREADS, or the usable processors up
                to 16); the result is the same for any number

    On the CPU a radix sort, linear in N, of 64-bit values about as fast as of 32-bit ones. It works in the
    memory of the result and a few MB for each thread; values that begin with the same bits as very many
    others take 8 bytes each, from 2**32 values on all take 16. Contiguous values are not copied. On CUDA 8 to
    16 bytes of workspace, one tensor that torch's allocator keeps for the next call; nothing waits for the
    device, and the call may be captured in a graph.
    Raises ArgumentError for other dtypes, another number of axes, and the like.
    """
    threads = default_threads() if threads is None else check_integer("threads", threads, 1)
    descending = check_flag("descending", descending)
    loaded = sys.modules.get("torch")  # no tensor without it
    if loaded is not None and isinstance(values, loaded.Tensor):
        return _argsort_tensor(values, descending, threads)
    return _argsort_numpy(inputs.as_array("values", values), descending, threads)


def regroup(items: npt.NDArray[Any], owners: npt.NDArray[np.int32]) -> npt.NDArray[Any]:
    """``items`` [N], int64 or of 32 bits, by owner, each owner's as they were: items[argsort(owners)], but in
    one pass and without a gather."""
    threads = default_threads()
    if items.dtype == np.int64:
        return _C.argsort(owners, descending=False, threads=threads, carried=items)
    words = items.view(np.uint32)
    if items.size >= 2**32:
        wide = _C.argsort(owners, descending=False, threads=threads, carried=words)
        return wide.astype(np.uint32).view(items.dtype)
    grouped = _C.argsort(owners, descending=False, threads=threads, carried=words, compact=True)
    return grouped.view(items.dtype)


def _argsort_numpy(values: npt.NDArray[Any], descending: bool, threads: int) -> npt.NDArray[np.int64]:
    name = values.dtype.name
    native = name if name in _NATIVE else _WIDENED.get(name)
    if native is None:
        raise ArgumentError(f"values: {values.dtype}; must be floats or integers of at most 64 bits")
    if values.ndim != 1:
        raise ArgumentError(f"values: {values.ndim} axes; must have one")
    return _C.argsort(np.ascontiguousarray(values, native), descending=descending, threads=threads)


def _argsort_tensor(values: torch.Tensor, descending: bool, threads: int) -> torch.Tensor:
    import torch

    if values.ndim != 1:
        raise ArgumentError(f"values: {values.ndim} axes; must have one")
    if values.is_complex():
        name = str(values.dtype).removeprefix("torch.")
        raise ArgumentError(f"values: {name}; must be floats or integers of at most 64 bits")
    if values.is_cuda and _cuda_is_built():
        from pyimportance.order.device import argsort_native
        from pyimportance.score.device import callers_stream

        with callers_stream(values.device) as stream:
            return argsort_native(values, descending, cuda(), stream)
    if values.device.type != "cpu":
        return _argsort_torch(values, descending)
    return torch.from_numpy(_argsort_numpy(inputs.as_array("values", values), descending, threads))


def _cuda_is_built() -> bool:
    try:
        cuda()
    except PyimportanceError:
        return False
    return True


def _argsort_torch(values: torch.Tensor, descending: bool) -> torch.Tensor:
    """The same order by torch's own stable ascending sort, on any device, of keys that reverse the values.

    torch puts NaN first when it sorts descending, and reverses ties; hence the keys.
    """
    import torch

    if values.is_floating_point():
        keys = (-values if descending else values) + 0.0  # -0.0 becomes 0.0
        keys = torch.where(values.isnan(), torch.nan, keys)  # one NaN, whatever the sign
    else:
        if values.dtype == torch.uint64:  # shifted so that int64 keeps the order
            keys = values.view(torch.int64) ^ torch.iinfo(torch.int64).min
        else:
            keys = values.to(torch.int64)
        keys = ~keys if descending else keys
    return torch.sort(keys, stable=True).indices
