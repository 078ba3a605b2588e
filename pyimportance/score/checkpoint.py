"""The state dict of a tracker: made of plain values and bytes, and checked before anything of it is used.

No NumPy array is in it, so that torch.load reads it as it reads weights (weights_only=True), without
unpickling anything else. The arrays' dtypes follow from their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance import _C
from pyimportance.errors import ArgumentError
from pyimportance.score import state
from pyimportance.score.history import ROW, UNSEEN, Rows, blank_rows
from pyimportance.threads import default_threads

_VERSION, _FIRST = 2, 1
_MOST = 2**31 - 1  # epochs are int32 in the columns


@dataclass(frozen=True)
class Checkpoint:
    """What a tracker consists of besides its size and its settings. ``rows``: [N], the epoch in progress."""

    first_epoch: int
    epochs: int
    start: int
    kind: str
    classes: int
    skipped: int
    skipping: int
    open: bool
    rows: Rows
    columns: state.Columns
    history: dict[int, Rows] | None


_COUNTS = ("first_epoch", "epochs", "start", "skipped", "skipping")
_FIELDS = ("version", "num_samples", *_COUNTS, "kind", "open", "open_ids", "open_rows", "columns", "history")


def pack(of: Checkpoint) -> dict[str, Any]:
    """A copy of everything."""
    ids = np.flatnonzero(of.rows["code"] != UNSEEN).astype(np.int64)
    history = of.history
    return {
        "version": _VERSION,
        "num_samples": int(of.rows.size),
        **{name: getattr(of, name) for name in _COUNTS},
        "kind": of.kind,
        "classes": of.classes,
        "open": of.open,
        # None where there is none: torch.save writes b"" as a call of bytes(), which torch.load refuses.
        "open_ids": ids.tobytes() or None,
        "open_rows": of.rows[ids].tobytes() or None,
        "columns": {name: column.tobytes() for name, column in of.columns.items()},
        "history": None if history is None else {epoch: rows.tobytes() for epoch, rows in history.items()},
    }


def unpack(saved: Mapping[str, Any], num_samples: int) -> Checkpoint:
    """ArgumentError, naming the entry, where it is not a state of a tracker of ``num_samples``."""
    check_version(saved, _FIRST, _VERSION)
    if missing := sorted(set(_FIELDS) - saved.keys()):
        raise ArgumentError(f"state: {', '.join(missing)} missing")
    if saved["num_samples"] != num_samples:
        raise ArgumentError(f"state of {saved['num_samples']!r} samples for a tracker of {num_samples}")
    counts = {name: count_of(saved, name) for name in _COUNTS}
    end = counts["first_epoch"] + counts["epochs"]
    if not counts["first_epoch"] <= counts["start"] <= end <= _MOST:
        raise ArgumentError(
            f"state: epochs {counts['first_epoch']} to {end}, statistics from {counts['start']}; "
            f"must be in this order and at most {_MOST}"
        )
    kind = saved["kind"]
    if type(kind) is not str or kind not in ("", *state.KINDS):
        raise ArgumentError(f"state: kind={kind!r}; must be one of '', {', '.join(map(repr, state.KINDS))}")
    if type(saved["open"]) is not bool:
        raise ArgumentError(f"state: open={saved['open']!r}; must be a bool")
    return Checkpoint(
        **counts,
        kind=kind,
        classes=_classes(saved, kind),
        open=saved["open"],
        rows=_open_rows(saved, num_samples),
        columns=_columns(saved, num_samples, kind, end - counts["start"]),
        history=_history(saved["history"], num_samples, range(counts["first_epoch"], end)),
    )


def check_version(saved: Any, *known: int) -> Mapping[str, Any]:
    """``saved`` itself; ArgumentError where it is no state of these versions."""
    if not isinstance(saved, Mapping):
        raise ArgumentError(f"state: {type(saved).__name__}; must be what state_dict returned")
    if type(saved.get("version")) is not int or saved["version"] not in known:
        raise ArgumentError(
            f"state of version {saved.get('version')!r}; this release reads {' and '.join(map(str, known))}"
        )
    return saved


def count_of(saved: Mapping[str, Any], name: str) -> int:
    value = saved[name]
    if type(value) is not int or not 0 <= value < 2**63:
        raise ArgumentError(f"state: {name}={value!r}; must be an integer from 0")
    return value


def array_of(name: str, data: Any, dtype: np.dtype[Any], size: int | None = None) -> npt.NDArray[Any]:
    """Bytes as numbers: a copy, which can be written."""
    if not isinstance(data, bytes):
        raise ArgumentError(f"state: {name} is {type(data).__name__}; must be bytes")
    if len(data) % dtype.itemsize or (size is not None and len(data) != size * dtype.itemsize):
        wanted = "whole numbers of" if size is None else f"{size} of"
        raise ArgumentError(f"state: {name}: {len(data)} bytes; must be {wanted} {dtype.itemsize} bytes")
    return np.frombuffer(data, dtype).copy()


def mapping_of(name: str, value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise ArgumentError(f"state: {name} is {type(value).__name__}; must be a mapping")
    return value


def _classes(saved: Mapping[str, Any], kind: str) -> int:
    """Of states that do not say, by releases that did not count, nothing is known."""
    classes = saved.get("classes", state.VARIED if kind else 0)
    if type(classes) is not int or not state.VARIED <= classes <= _MOST:
        raise ArgumentError(f"state: classes={classes!r}; must be an integer from {state.VARIED}")
    return classes


def _open_rows(saved: Mapping[str, Any], num_samples: int) -> Rows:
    given = {name: b"" if saved[name] is None else saved[name] for name in ("open_ids", "open_rows")}
    ids = array_of("open_ids", given["open_ids"], np.dtype(np.int64))
    rows = blank_rows(num_samples)
    _C.commit_rows(ids, array_of("open_rows", given["open_rows"], ROW, ids.size), rows, default_threads())
    return rows


def _columns(saved: Mapping[str, Any], num_samples: int, kind: str, epochs: int) -> state.Columns:
    columns: state.Columns = {}
    for name, data in mapping_of("columns", saved["columns"]).items():
        if name not in state.DTYPES:
            raise ArgumentError(f"state: column {name!r} is unknown")
        dtype = state.DTYPES[name]
        narrow = saved["version"] == _FIRST and name in state.ONCE_NARROW
        given = array_of(f"column {name}", data, np.dtype(np.float32) if narrow else dtype, num_samples)
        columns[name] = given.astype(dtype, copy=False)
    state.check(columns, kind, epochs)
    return columns


def _history(value: Any, num_samples: int, epochs: range) -> dict[int, Rows] | None:
    if value is None:
        return None
    history: dict[int, Rows] = {}
    for epoch, data in mapping_of("history", value).items():
        if type(epoch) is not int or epoch not in epochs:
            raise ArgumentError(
                f"state: history of epoch {epoch!r}; there are {epochs.start} to {epochs.stop - 1}"
            )
        history[epoch] = array_of(f"history of epoch {epoch}", data, ROW, num_samples)
        if ((history[epoch]["code"] < UNSEEN) | (history[epoch]["code"] > 3)).any():
            raise ArgumentError(f"state: history of epoch {epoch}: a row's code is none")
    if missing := [epoch for epoch in epochs if epoch not in history]:
        raise ArgumentError(f"state: history of epoch {missing[0]} is missing")
    return history
