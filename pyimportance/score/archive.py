"""A Dynamics as .npz, and back. What is read is untrusted: nothing in it is unpickled, inflated or evaluated.

Members: ``header.npy``, the bytes of a JSON object {"format": "pyimportance.dynamics", "version": 1,
"epochs": E}, and one array [N] per recorded field, named as in Dynamics. They are stored, not compressed, so
that no member is larger than the file.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from dataclasses import fields
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError, DataError
from pyimportance.io.atomic import writing
from pyimportance.io.storage import read_whole
from pyimportance.score.dynamics import NOT_COLUMNS, Dynamics

_FORMAT, _VERSION = "pyimportance.dynamics", 1
_ARRAYS = tuple(f.name for f in fields(Dynamics) if f.name not in NOT_COLUMNS)

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
    header = json.dumps({"format": _FORMAT, "version": _VERSION, "epochs": dynamics.epochs})
    arrays: dict[str, Any] = {"header": np.frombuffer(header.encode(), dtype=np.uint8)}
    arrays |= {name: getattr(dynamics, name) for name in _ARRAYS}
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
        if name not in (*_ARRAYS, "header"):
            raise DataError(f"unknown; there may be {', '.join(_ARRAYS)}", path=path, member=name)
        if name in arrays:
            raise DataError("is there twice", path=path, member=name)
        arrays[name] = _member(archive, info, len(data), name, path)
    epochs = _epochs(arrays.pop("header", None), path)
    if "count" not in arrays:
        raise DataError("there is no member 'count'", path=path)
    try:
        return Dynamics(epochs, **arrays)  # type: ignore[arg-type]
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


def _epochs(array: npt.NDArray[Any] | None, path: str | PathLike[str]) -> int:
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
    if type(version) is not int or version != _VERSION:
        raise wrong(f"dynamics format version {version!r}; this release reads {_VERSION}")
    if type(epochs) is not int:
        raise wrong(f"epochs is {epochs!r}; must be an integer")
    return epochs
