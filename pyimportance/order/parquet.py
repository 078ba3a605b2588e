"""A Partition as a Parquet file, and back. What is read is untrusted: every field is checked."""

from __future__ import annotations

import json
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError, DataError
from pyimportance.io.atomic import writing
from pyimportance.io.parquet import read_table
from pyimportance.order.checks import check_groups
from pyimportance.order.values import Partition

_METADATA = b"pyimportance.partition"
_VERSION = 1
_SCALARS: dict[str, type] = {
    "workers": int, "bins": int, "measure": str, "descending": bool, "policy": str, "seed": int,
}  # fmt: skip


def save_partition(partition: Partition, path: str | PathLike[str]) -> None:
    """One row per sample in the partition's order; the file appears whole or not at all (OutputError)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    groups = np.repeat(np.arange(partition.offsets.size - 1, dtype=np.int32), np.diff(partition.offsets))
    columns: dict[str, npt.NDArray[Any]] = {
        "id": partition.order,
        "worker": groups // np.int32(partition.bins),
        "bin": groups % np.int32(partition.bins),
    }
    if partition.values is not None:
        columns["score"] = partition.values
    scalars = {"version": _VERSION, **{name: getattr(partition, name) for name in _SCALARS}}
    table = pa.table(columns).replace_schema_metadata({_METADATA: json.dumps(scalars)})
    with writing(path) as file:
        pq.write_table(table, file, compression="zstd")


def load_partition(path: str | PathLike[str]) -> Partition:
    """Raises DataError, naming the file and the row or field, where the file is not a partition."""
    import pyarrow as pa

    columns, scalars = read_table(
        path,
        what="a partition",
        metadata=_METADATA,
        version=_VERSION,
        scalars=_SCALARS,
        columns={"id": pa.int64(), "worker": pa.int32(), "bin": pa.int32(), "score": pa.float32()},
        optional=("score",),
    )
    arrays = {name: column.to_numpy() for name, column in columns.items()}
    try:
        check_groups(scalars["workers"], scalars["bins"])  # before arrays are made that are so long
        offsets = _offsets(arrays["worker"], arrays["bin"], scalars["workers"], scalars["bins"], path)
        return Partition(order=arrays["id"], offsets=offsets, values=arrays.get("score"), **scalars)
    except ArgumentError as error:
        raise DataError(str(error), path=path) from None


def _offsets(
    worker: npt.NDArray[np.int32],
    bin: npt.NDArray[np.int32],
    workers: int,
    bins: int,
    path: str | PathLike[str],
) -> npt.NDArray[np.int64]:
    outside = (worker < 0) | (worker >= workers) | (bin < 0) | (bin >= bins)
    if outside.any():
        row = int(outside.argmax())
        problem = (
            f"row {row}: worker {worker[row]}, bin {bin[row]}; there are {workers} workers of {bins} bins"
        )
        raise DataError(problem, path=path)
    group = worker.astype(np.int64) * bins + bin
    if (falls := np.diff(group) < 0).any():
        row = int(falls.argmax()) + 1
        raise DataError(f"row {row}: rows must be sorted by worker, then bin", path=path)
    counts = np.bincount(group, minlength=workers * bins)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
