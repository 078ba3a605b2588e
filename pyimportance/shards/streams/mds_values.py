"""What the columns of mosaicml-streaming's shards hold -> parts.

    bytes                                  as they are; the extension is the column's name
    str                                    .txt
    int, int8 to uint64, str_int           .cls (decimal)
    float16 to float64, str_float,
    str_decimal, json                      .json
    jpeg, png                              .jpg, .png
    ndarray (dtype and shape if fixed)     .npy: the numbers as they are behind NumPy's header
    pil, pkl                               .pil, .pkl, as they are (pixels behind a header; a pickle)

Lists of images are refused: no one file holds them.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np

from pyimportance.errors import DataError

Value: TypeAlias = "tuple[str, Callable[[bytes], bytes]]"
"""(the extension, "" for the column's name alone; bytes in the shard -> bytes of the part)"""

_SHAPES: Final = ("<u1", "<u2", "<u4", "<u8")
_DTYPES: Final = {
    8: "uint8", 9: "int8", 16: "uint16", 17: "int16", 18: "float16", 32: "uint32",
    33: "int32", 34: "float32", 64: "uint64", 65: "int64", 66: "float64",
}  # fmt: skip
_INTEGERS: Final = {"int": "int64"} | {n: n for n in _DTYPES.values() if "int" in n}
_FLOATS: Final = tuple(n for n in _DTYPES.values() if "float" in n)
_AS_THEY_ARE: Final = {
    "bytes": "",
    "str": "txt",
    "str_int": "cls",
    "str_float": "json",
    "str_decimal": "json",
    "json": "json",
    "jpeg": "jpg",
    "png": "png",
    "pil": "pil",
    "pkl": "pkl",
}


def value_of(encoding: str) -> Value:
    """Raises ValueError for an encoding that is not read."""
    name, _, fixed = encoding.partition(":")
    if encoding in _AS_THEY_ARE:
        return _AS_THEY_ARE[encoding], bytes
    if encoding in _INTEGERS:
        return "cls", partial(_integer, np.dtype(_INTEGERS[encoding]).newbyteorder("<"))
    if encoding in _FLOATS:
        return "json", partial(_float, np.dtype(encoding).newbyteorder("<"))
    if name == "ndarray":
        dtype, _, shape = fixed.partition(":")
        if dtype and dtype not in _DTYPES.values():
            raise ValueError(f"{dtype!r} is no type of an array's numbers")
        return "npy", partial(_array, dtype, tuple(map(int, shape.split(","))) if shape else None)
    known = ", ".join([*_AS_THEY_ARE, *_INTEGERS, *_FLOATS, "ndarray"])
    raise ValueError(f"it is not read; these are: {known}")


def _integer(dtype: np.dtype[Any], data: bytes) -> bytes:
    return b"%d" % int(_number(dtype, data))


def _float(dtype: np.dtype[Any], data: bytes) -> bytes:
    return json.dumps(float(_number(dtype, data))).encode()


def _number(dtype: np.dtype[Any], data: bytes) -> Any:
    if len(data) != dtype.itemsize:
        raise DataError(f"has {len(data)} bytes; a {dtype.name} has {dtype.itemsize}")
    return np.frombuffer(data, dtype)[0]


def _array(dtype: str, shape: tuple[int, ...] | None, data: bytes) -> bytes:
    at = 0
    try:
        if not dtype:
            dtype, at = _DTYPES[data[0]], 1
        if shape is None:
            axes, width = data[at] >> 2, 1 << (data[at] & 3)
            stop = at + 1 + axes * width
            shape = tuple(np.frombuffer(data[at + 1 : stop], _SHAPES[data[at] & 3]).tolist())
            if len(shape) != axes:
                raise IndexError
            at = stop
    except (IndexError, KeyError, ValueError):
        raise DataError("is no array: its type or shape is damaged") from None
    kind = np.dtype(dtype).newbyteorder("<")
    if len(data) - at != math.prod(shape) * kind.itemsize:
        raise DataError(f"has {len(data) - at} bytes of numbers; {dtype} {list(shape)} has other many")
    out = io.BytesIO()
    header = {"descr": kind.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(out, header)
    return out.getvalue() + data[at:]
