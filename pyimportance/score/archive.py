"""A Dynamics as .npz, and back. What is read is untrusted: every member is checked, and nothing is unpickled.

Members: ``header``, the bytes of a JSON object {"format": "pyimportance.dynamics", "version": 1, "epochs":
E}, and one array per recorded field, named as in Dynamics.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import fields
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError, DataError
from pyimportance.io.atomic import writing
from pyimportance.io.storage import read_whole
from pyimportance.score.dynamics import Dynamics

_FORMAT, _VERSION = "pyimportance.dynamics", 1
_ARRAYS = tuple(f.name for f in fields(Dynamics) if f.name not in ("epochs", "history"))


def save_dynamics(dynamics: Dynamics, path: str | PathLike[str]) -> None:
    """The file appears whole or not at all (OutputError)."""
    header = json.dumps({"format": _FORMAT, "version": _VERSION, "epochs": dynamics.epochs})
    arrays = {name: getattr(dynamics, name) for name in _ARRAYS}
    with writing(path) as file:
        np.savez(
            file,
            allow_pickle=False,
            header=np.frombuffer(header.encode(), dtype=np.uint8),
            **{name: array for name, array in arrays.items() if array is not None},
        )


def load_dynamics(path: str | PathLike[str]) -> Dynamics:
    """Raises DataError, naming the file and the member."""
    data = io.BytesIO(read_whole(path, None, "index"))
    try:
        file = np.load(data, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise DataError("not dynamics: a single array", path=path)
        epochs = _header(file, path)
        names = (name for name in file.files if name != "header")
        arrays: dict[str, Any] = {name: _member(file, name, path) for name in names}
    except DataError:
        raise
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        raise DataError(f"not an .npz file: {error}", path=path) from error
    if "count" not in arrays:
        raise DataError("there is no member 'count'", path=path)
    try:
        dynamics = Dynamics(epochs, **arrays)
    except ArgumentError as error:
        raise DataError(str(error), path=path) from None
    _check_counts(dynamics, path)
    return dynamics


def _header(file: Any, path: str | PathLike[str]) -> int:
    try:
        header = json.loads(file["header"].tobytes())
    except (KeyError, ValueError) as error:
        raise DataError(f"not dynamics: no header ({error})", path=path, member="header") from None
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise DataError("not dynamics: the header says otherwise", path=path, member="header")
    if header.get("version") != _VERSION:
        problem = f"dynamics format version {header.get('version')!r}; this release reads {_VERSION}"
        raise DataError(problem, path=path, member="header")
    epochs = header.get("epochs")
    if type(epochs) is not int or epochs < 0:
        raise DataError(f"epochs is {epochs!r}; must be an integer from 0", path=path, member="header")
    return epochs


def _member(file: Any, name: str, path: str | PathLike[str]) -> npt.NDArray[Any]:
    if name not in _ARRAYS:
        raise DataError(f"unknown; there may be {', '.join(_ARRAYS)}", path=path, member=name)
    try:
        array: npt.NDArray[Any] = file[name]
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        raise DataError(f"cannot be read: {error}", path=path, member=name) from error
    return array


def _check_counts(dynamics: Dynamics, path: str | PathLike[str]) -> None:
    """Counts are what the measures divide by and compare with."""
    limits: dict[str, npt.NDArray[np.int32] | int] = {"count": dynamics.epochs}
    limits |= {"correct": dynamics.count, "forgotten": dynamics.count}
    for name, limit in limits.items():
        values = getattr(dynamics, name)
        if values is not None and (wrong := (values < 0) | (values > limit)).any():
            at = int(wrong.argmax())
            most = limit if isinstance(limit, int) else limit[at]
            raise DataError(f"{values[at]} for sample {at}; allowed are 0 to {most}", path=path, member=name)
