"""Stub of the compiled module; sections mirror csrc/."""

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

_Sortable = TypeVar("_Sortable", np.float32, np.float64, np.int32, np.int64, np.uint32, np.uint64)

# order
def argsort(
    values: npt.NDArray[_Sortable], *, descending: bool, threads: int, wide: bool = False
) -> npt.NDArray[np.int64]: ...

# observe
row_dtype: np.dtype[np.void]

def observe_logits(
    ids: npt.NDArray[np.int64],
    logits: npt.NDArray[np.float32],
    targets: npt.NDArray[np.int64],
    mask: npt.NDArray[np.bool_] | None,
    skip_nonfinite: bool,
    scratch: npt.NDArray[np.void],
    epoch: npt.NDArray[np.void],
    threads: int,
) -> int: ...
def observe_losses(
    ids: npt.NDArray[np.int64],
    losses: npt.NDArray[np.float64],
    mask: npt.NDArray[np.bool_] | None,
    skip_nonfinite: bool,
    scratch: npt.NDArray[np.void],
    epoch: npt.NDArray[np.void],
) -> int: ...
def commit_rows(
    ids: npt.NDArray[np.int64], rows: npt.NDArray[np.void], epoch: npt.NDArray[np.void]
) -> None: ...
def fold(
    columns: dict[str, npt.NDArray[Any]], rows: npt.NDArray[np.void], epoch: int, threads: int
) -> None: ...
def reduce(
    columns: dict[str, npt.NDArray[Any]],
    seen: npt.NDArray[np.bool_],
    loss: npt.NDArray[np.float64] | None,
    p_true: npt.NDArray[np.float64] | None,
    correct: npt.NDArray[np.bool_] | None,
    margin: npt.NDArray[np.float64] | None,
    el2n: npt.NDArray[np.float64] | None,
    entropy: npt.NDArray[np.float64] | None,
    threads: int,
) -> None: ...
def instruction_sets() -> list[str]: ...
def instruction_set() -> str: ...
def use_instruction_set(name: str) -> None: ...

# tar
def crc32c(data: Any, crc: int = 0, *, hardware: bool = True) -> int: ...
