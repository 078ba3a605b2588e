"""A Scores as a Parquet file, and back. What is read is untrusted: every field is checked."""

from __future__ import annotations

import json
from os import PathLike
from typing import Any

import numpy as np

from pyimportance.errors import ArgumentError, DataError
from pyimportance.io.atomic import writing
from pyimportance.io.storage import read_whole
from pyimportance.score.values import Scores

_METADATA = b"pyimportance.scores"
_VERSION = 1


def save_scores(scores: Scores, path: str | PathLike[str]) -> None:
    """One row per sample, ids ascending; the file appears whole or not at all (OutputError)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {"id": scores.sample_ids()}
    if scores.keys is not None:
        columns["key"] = scores.keys
    columns["score"] = scores.values
    scalars = {
        "version": _VERSION,
        "measure": scores.measure,
        "descending": scores.descending,
        "metadata": dict(scores.metadata),
    }
    table = pa.table(columns).replace_schema_metadata({_METADATA: json.dumps(scalars)})
    with writing(path) as file:
        # Ascending ids are small differences: with them a consecutive run costs next to nothing.
        encoding = {"id": "DELTA_BINARY_PACKED"}
        pq.write_table(table, file, compression="zstd", use_dictionary=False, column_encoding=encoding)


def load_scores(path: str | PathLike[str]) -> Scores:
    """Raises DataError, naming the file and the row or field, where the file is not a Scores."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = pa.BufferReader(read_whole(path, None, "index"))
    try:
        table = pq.read_table(data, use_threads=False)  # no threads: no dependence on Arrow's global pools
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a Parquet file: {error}", path=path) from error
    scalars = _scalars(table.schema.metadata, path)
    types = {"id": pa.int64(), "key": pa.large_string(), "score": pa.float32()}
    columns: dict[str, Any] = {}
    for name, dtype in types.items():
        if name not in table.column_names:
            if name == "key":
                continue
            raise DataError(f"there is no column {name!r}", path=path)
        column = table.column(name)
        if column.type != dtype or column.null_count:
            found = f"column {name!r} is {column.type} with {column.null_count} nulls"
            raise DataError(f"{found}; must be {dtype} without", path=path)
        columns[name] = column
    ids = columns["id"].to_numpy()
    consecutive = bool((ids == np.arange(ids.size)).all())
    try:
        return Scores(
            values=columns["score"].to_numpy(),
            ids=None if consecutive else ids,
            keys=columns.get("key"),
            **scalars,
        )
    except ArgumentError as error:
        raise DataError(str(error), path=path) from None


def _scalars(metadata: dict[bytes, bytes] | None, path: str | PathLike[str]) -> dict[str, Any]:
    text = (metadata or {}).get(_METADATA)
    if text is None:
        raise DataError(f"not scores: its schema metadata has no {_METADATA.decode()!r}", path=path)
    try:
        found = json.loads(text)
    except ValueError:
        raise DataError("the scores' metadata is not JSON", path=path) from None
    if not isinstance(found, dict) or found.get("version") != _VERSION:
        version = found.get("version") if isinstance(found, dict) else None
        raise DataError(f"scores format version {version!r}; this release reads {_VERSION}", path=path)
    for name, kind in {"measure": str, "descending": bool, "metadata": dict}.items():
        if type(found.get(name)) is not kind:
            problem = f"metadata {name!r} is {found.get(name)!r}; must be of type {kind.__name__}"
            raise DataError(problem, path=path)
    return {name: found[name] for name in ("measure", "descending", "metadata")}
