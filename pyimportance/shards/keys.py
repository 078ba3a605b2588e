"""Keys as raw buffers: what the native code and digests work on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def to_buffers(keys: Any) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """A large_string array as (offsets int64 [N + 1] from 0, the UTF-8 bytes), without copying the bytes."""
    N = len(keys)
    _, starts, data = keys.buffers()
    if N == 0 or starts is None:
        return np.zeros(1, np.int64), np.zeros(0, np.uint8)
    offsets = np.frombuffer(starts, np.int64)[keys.offset : keys.offset + N + 1]
    text = np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    if offsets[0] == 0:
        return offsets, text[: offsets[-1]]
    return offsets - offsets[0], text[offsets[0] : offsets[-1]]


def from_buffers(offsets: NDArray[np.int64], data: NDArray[np.uint8]) -> Any:
    """The large_string array over these buffers."""
    return pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data))
