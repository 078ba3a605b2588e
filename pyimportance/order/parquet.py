"""A Partition as a Parquet file, and back. What is read is untrusted: every field is checked."""

from __future__ import annotations

import json
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError, DataError
from pyimportance.io.atomic import writing
from pyimportance.io.storage import read_whole
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
    import pyarrow.parquet as pq

    data = pa.BufferReader(read_whole(path))
    try:
        table = pq.read_table(data, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a Parquet file: {error}", path=path) from error
    scalars = _scalars(table.schema.metadata, path)
    types = {"id": pa.int64(), "worker": pa.int32(), "bin": pa.int32(), "score": pa.float32()}
    columns: dict[str, npt.NDArray[Any]] = {}
    for name, dtype in types.items():
        if name not in table.column_names:
            if name == "score":
                continue
            raise DataError(f"there is no column {name!r}", path=path)
        column = table.column(name)
        if column.type != dtype or column.null_count:
            problem = (
                f"column {name!r} is {column.type} with {column.null_count} nulls; must be {dtype} without"
            )
            raise DataError(problem, path=path)
        columns[name] = column.to_numpy()
    offsets = _offsets(columns["worker"], columns["bin"], scalars["workers"], scalars["bins"], path)
    try:
        return Partition(order=columns["id"], offsets=offsets, values=columns.get("score"), **scalars)
    except ArgumentError as error:
        raise DataError(str(error), path=path) from None


def _scalars(metadata: dict[bytes, bytes] | None, path: str | PathLike[str]) -> dict[str, Any]:
    text = (metadata or {}).get(_METADATA)
    if text is None:
        raise DataError(f"not a partition: its schema metadata has no {_METADATA.decode()!r}", path=path)
    try:
        found = json.loads(text)
    except ValueError:
        raise DataError("the partition's metadata is not JSON", path=path) from None
    if not isinstance(found, dict) or found.get("version") != _VERSION:
        version = found.get("version") if isinstance(found, dict) else None
        raise DataError(f"partition format version {version!r}; this release reads {_VERSION}", path=path)
    for name, kind in _SCALARS.items():
        if type(found.get(name)) is not kind:
            raise DataError(
                f"metadata {name!r} is {found.get(name)!r}; must be of type {kind.__name__}", path=path
            )
    try:  # before group numbers are computed from them
        check_groups(found["workers"], found["bins"])
    except ArgumentError as error:
        raise DataError(str(error), path=path) from None
    return {name: found[name] for name in _SCALARS}


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
