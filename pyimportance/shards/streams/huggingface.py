"""Datasets of Hugging Face's `datasets`: a row is a sample, a column a part (see fields.py).

They are asked for Arrow tables, so that images and audio come as the bytes that are stored. Keys are those of
a text column ``__key__``, else the number of the row.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from pyimportance.errors import ArgumentError, DataError
from pyimportance.io.meter import Meter
from pyimportance.io.storage import read_whole
from pyimportance.shards.streams.stream import Sample, Samples, State, Stream, guarded
from pyimportance.shards.streams.tables import check_columns, samples_of

_ROWS = 64  # at a time


def is_one(source: object) -> bool:
    """Whether it is an object of `datasets`, which is not imported for that."""
    return any(kind.__module__.partition(".")[0] == "datasets" for kind in type(source).__mro__)


def stream_of(dataset: Any) -> Stream:
    """The whole of it as one unit. Raises ArgumentError for several splits in one object."""
    what = f"a {type(dataset).__name__} of Hugging Face"
    if isinstance(dataset, dict):
        splits = ", ".join(map(repr, dataset)) or "none"
        raise ArgumentError(f"source is {what} with the splits {splits}; give one of them")
    return Stream(what, (Samples("dataset", what, partial(_read, dataset, what), partial(_state, dataset)),))


def _state(dataset: Any) -> State:
    """The fingerprint that `datasets` gives to what is on disk; of what is generated nothing tells."""
    rows = len(dataset) if hasattr(dataset, "__len__") else None
    return State([getattr(dataset, "_fingerprint", None), rows])


def _read(dataset: Any, what: str, meter: Meter | None) -> Iterator[Sample]:
    row = 0
    for table in guarded(dataset.with_format("arrow").iter(batch_size=_ROWS), f"{what}, batch"):
        if row == 0:
            check_columns(table.schema.names, what)
        yield from samples_of(table, what, row, lambda at: f"{at:09d}", partial(_open, meter=meter))
        row += len(table)


def _open(path: str, meter: Meter | None) -> bytes:
    """A file that a column names instead of holding it. Raises DataError for one inside an archive."""
    if "::" in path:
        raise DataError(f"names a file in an archive, {path!r}; embed it first (`Dataset.cast_column`)")
    return read_whole(path, meter, "origin")
