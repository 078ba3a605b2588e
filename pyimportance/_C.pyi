"""Stub of the compiled module; sections mirror csrc/."""

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

_Sortable = TypeVar("_Sortable", np.float32, np.float64, np.int32, np.int64, np.uint32, np.uint64)

# order
def argsort(
    values: npt.NDArray[_Sortable], *, descending: bool, threads: int, wide: bool = False
) -> npt.NDArray[np.int64]: ...

# tar
def crc32c(data: Any, crc: int = 0, *, hardware: bool = True) -> int: ...
