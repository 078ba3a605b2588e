"""Reading a Parquet table of ours that anybody may have written: every column and scalar is checked."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

from pyimportance.errors import DataError
from pyimportance.io.storage import read_whole

if TYPE_CHECKING:
    import pyarrow as pa

Path = str | PathLike[str]


def read_table(
    path: Path,
    *,
    what: str,
    metadata: bytes,
    version: int,
    scalars: Mapping[str, type],
    columns: Mapping[str, pa.DataType],
    optional: Collection[str] = (),
) -> tuple[dict[str, pa.ChunkedArray], dict[str, Any]]:
    """The columns and the scalars of a file of format ``what``, of exactly the types given.

    metadata  the key of the schema's metadata that holds the scalars and the ``version``, as a JSON object
    optional  columns that may be missing; other columns are not read

    Raises DataError, naming the file and the column or field, where anything else is found.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = pa.BufferReader(read_whole(path, None, "index"))
    try:
        file = pq.ParquetFile(data)
        schema = file.schema_arrow
        names = list(schema.names)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"not a Parquet file: {error}", path=path) from error
    text = (schema.metadata or {}).get(metadata)
    if text is None:
        raise DataError(f"not {what}: its schema metadata has no {metadata.decode()!r}", path=path)
    found = _scalars(text, metadata.decode(), version, scalars, path)
    wanted = [name for name in columns if name in names or name not in optional]
    for name in wanted:
        if names.count(name) != 1:
            there = f"there are {names.count(name)} columns" if name in names else "there is no column"
            raise DataError(f"{there} {name!r}", path=path)
        if schema.field(name).type != columns[name]:
            raise DataError(_unlike(name, schema.field(name).type, 0, columns[name]), path=path)
    try:
        table = file.read(wanted, use_threads=False)  # no threads: no dependence on Arrow's global pools
        table.validate(full=True)  # text that is not UTF-8, among others
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"damaged: {error}", path=path) from error
    for name in wanted:
        column = table.column(name)
        if column.type != columns[name] or column.null_count:
            raise DataError(_unlike(name, column.type, column.null_count, columns[name]), path=path)
    return {name: table.column(name) for name in wanted}, found


def _unlike(name: str, found: pa.DataType, nulls: int, allowed: pa.DataType) -> str:
    return f"column {name!r} is {found} with {nulls} nulls; must be {allowed} without"


def _scalars(text: bytes, key: str, version: int, scalars: Mapping[str, type], path: Path) -> dict[str, Any]:
    try:
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair cannot be printed
    except (ValueError, RecursionError):
        raise DataError(f"the metadata {key!r} is not JSON", path=path) from None
    got = found.get("version") if isinstance(found, dict) else None
    if type(got) is not int or got != version:
        raise DataError(f"{key} format version {got!r}; this release reads {version}", path=path)
    for name, kind in scalars.items():
        if type(found.get(name)) is not kind:
            raise DataError(
                f"metadata {name!r} is {found.get(name)!r}; must be of type {kind.__name__}", path=path
            )
    return {name: found[name] for name in scalars}
