"""A Scores as a Parquet file, and back. What is read is untrusted: every field is checked."""

from __future__ import annotations

import json
from os import PathLike
from typing import Any

import numpy as np

from pyimportance.errors import ArgumentError, DataError
from pyimportance.io.atomic import writing
from pyimportance.io.parquet import read_table
from pyimportance.score.values import Scores

_METADATA = b"pyimportance.scores"
_VERSION = 1
_SCALARS: dict[str, type] = {"measure": str, "descending": bool, "metadata": dict}


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

    columns, scalars = read_table(
        path,
        what="scores",
        metadata=_METADATA,
        version=_VERSION,
        scalars=_SCALARS,
        columns={"id": pa.int64(), "key": pa.large_string(), "score": pa.float32()},
        optional=("key",),
    )
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
