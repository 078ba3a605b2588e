"""A Dynamics as .npz, and back. What is read is untrusted: nothing in it is unpickled, inflated or evaluated.

Members: ``header.npy``, the bytes of a JSON object {"format": "pyimportance.dynamics", "version": 2,
"epochs": E, "classes": C or null}, and one array [N] per recorded field, named as in Dynamics. Where keys
are known, ``key_bytes.npy`` has them one after the other in UTF-8, and ``key_ends.npy``, int64 [N], their
ends. Members are stored, not compressed, so that none is larger than the file.

Version 1 had neither keys nor classes, and loss_last and margin_last in float32. It is read as well.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from dataclasses import fields
from itertools import pairwise
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError, DataError
from pyimportance.io.atomic import writing
from pyimportance.io.storage import read_whole
from pyimportance.score import state
from pyimportance.score.dynamics import NOT_COLUMNS, Dynamics

_FORMAT, _VERSION = "pyimportance.dynamics", 2
_READABLE = (1, _VERSION)
_ARRAYS = tuple(f.name for f in fields(Dynamics) if f.name not in NOT_COLUMNS)
_KEYS = ("key_bytes", "key_ends")
_UNICODE = ("utf-8", "surrogatepass")  # of every string that Python has

# The header of a .npy file (NEP 1), version 1.0, of numbers [N].
_NPY = re.compile(
    rb"\x93NUMPY\x01\x00(..)"
    rb"\{'descr': '([<>|][biuf]\d)', 'fortran_order': False, 'shape': \((\d{1,15}),\), \} *\n",
    re.DOTALL,
)
# What zipfile raises for files made to break it.
_BROKEN = (
    zipfile.BadZipFile,
    ValueError,
    OSError,
    EOFError,
    RuntimeError,
    struct.error,
    OverflowError,
)


def save_dynamics(dynamics: Dynamics, path: str | PathLike[str]) -> None:
    """The file appears whole or not at all (OutputError)."""
    said = {"epochs": dynamics.epochs, "classes": dynamics.classes}
    header = json.dumps({"format": _FORMAT, "version": _VERSION, **said})
    arrays: dict[str, Any] = {"header": np.frombuffer(header.encode(), dtype=np.uint8)}
    arrays |= {name: getattr(dynamics, name) for name in _ARRAYS}
    if dynamics.keys is not None:
        keys = [key.encode(*_UNICODE) for key in dynamics.keys]
        ends = np.cumsum([len(key) for key in keys], dtype=np.int64)
        arrays |= zip(_KEYS, (np.frombuffer(b"".join(keys), dtype=np.uint8), ends), strict=True)
    # Not np.savez: some of its versions take allow_pickle for the name of one more array.
    with writing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            if array is not None:
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)


def load_dynamics(path: str | PathLike[str]) -> Dynamics:
    """Raises DataError, naming the file and the member."""
    data = read_whole(path, None, "index")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except _BROKEN as error:
        raise DataError(f"not an .npz file: {error}", path=path) from error
    arrays: dict[str, npt.NDArray[Any]] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name not in (*_ARRAYS, *_KEYS, "header"):
            raise DataError(f"unknown; there may be {', '.join(_ARRAYS + _KEYS)}", path=path, member=name)
        if name in arrays:
            raise DataError("is there twice", path=path, member=name)
        arrays[name] = _member(archive, info, len(data), name, path)
    version, epochs, classes = _header(arrays.pop("header", None), path)
    for name in state.ONCE_NARROW:
        if version == 1 and name in arrays and arrays[name].dtype == np.float32:
            arrays[name] = arrays[name].astype(np.float64)
    if "count" not in arrays:
        raise DataError("there is no member 'count'", path=path)
    keys = _keys(arrays.pop(_KEYS[0], None), arrays.pop(_KEYS[1], None), path)
    try:
        return Dynamics(epochs, keys=keys, classes=classes, **arrays)  # type: ignore[arg-type]
    except ArgumentError as error:
        raise DataError(str(error), path=path) from None


def _member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int, name: str, path: str | PathLike[str]
) -> npt.NDArray[Any]:
    plain = info.compress_type == zipfile.ZIP_STORED and info.flag_bits == 0
    if not plain or not info.compress_size == info.file_size <= most:
        raise DataError("must be stored: neither compressed nor encrypted", path=path, member=name)
    try:
        data = archive.read(info)
    except _BROKEN as error:
        raise DataError(f"cannot be read: {error}", path=path, member=name) from error
    header = _NPY.match(data)
    if header is None or header.end() != 10 + int.from_bytes(header[1], "little"):
        raise DataError("not an array of numbers [N] in .npy format 1.0", path=path, member=name)
    try:
        dtype = np.dtype(header[2].decode())
    except TypeError:
        raise DataError(f"no dtype: {header[2].decode()}", path=path, member=name) from None
    size, there = int(header[3]), len(data) - header.end()
    if size * dtype.itemsize != there:
        raise DataError(f"{there} bytes for {size} numbers of {dtype.itemsize} bytes", path=path, member=name)
    return np.frombuffer(data, dtype, offset=header.end())


def _keys(
    data: npt.NDArray[Any] | None, ends: npt.NDArray[Any] | None, path: str | PathLike[str]
) -> tuple[str, ...] | None:
    if data is None and ends is None:
        return None
    for name, array, dtype in zip(_KEYS, (data, ends), (np.uint8, np.int64), strict=True):
        if array is None or array.dtype != dtype:
            raise DataError(f"must be {np.dtype(dtype)}, as {' and '.join(_KEYS)} go", path=path, member=name)
    assert data is not None
    assert ends is not None
    starts = np.append(0, ends)
    if (starts[1:] < starts[:-1]).any() or starts[-1] != data.size:
        raise DataError(f"must ascend from 0 to {data.size}, the number of bytes", path=path, member=_KEYS[1])
    text, at = data.tobytes(), starts.tolist()
    try:
        return tuple(str(text[begin:end], *_UNICODE) for begin, end in pairwise(at))
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8: {error}", path=path, member=_KEYS[0]) from None


def _header(array: npt.NDArray[Any] | None, path: str | PathLike[str]) -> tuple[int, int, int | None]:
    """The version, and epochs and classes, which Dynamics checks."""

    def wrong(problem: str) -> DataError:
        return DataError(problem, path=path, member="header")

    if array is None:
        raise wrong("not dynamics: no header")
    try:
        header = json.loads(array.tobytes())
    except (ValueError, RecursionError) as error:
        raise wrong(f"not dynamics: no header ({error})") from None
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise wrong("not dynamics: the header says otherwise")
    version, epochs = header.get("version"), header.get("epochs")
    if type(version) is not int or version not in _READABLE:
        known = " and ".join(map(str, _READABLE))
        raise wrong(f"dynamics format version {version!r}; this release reads {known}")
    if type(epochs) is not int:
        raise wrong(f"epochs is {epochs!r}; must be an integer")
    return version, epochs, header.get("classes")
