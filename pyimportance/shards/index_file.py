"""A SampleIndex as an Arrow IPC file: one record batch per tar, so that a range fetches one tar's rows.

Columns: id int64, key large_string, offset int64, nbytes int64, parts list<struct<extension: dictionary,
offset int64, size int64>>, and where known crc32c list<uint32> (of the parts' payloads), score float32, bin
int32, frame int32 (of compressed tars). Batch
i lists the samples of the i-th tar in the schema's metadata ``files`` (JSON: [[path, bytes], ...]).

Places are those in tars, and bytes their sizes, also where they are compressed: where a frame lies stands in
the seek table at the end of its file, once for all of its samples and for every reader of that format.

An index is checked as a whole when it is read: its CRC32C, where a manifest has it, what Arrow can check,
and every value (`SampleIndex`), each in one pass and in threads. What depends on the tars is checked when
they are read: their lengths when they are opened, headers with their samples.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyimportance import _C
from pyimportance.errors import DataError
from pyimportance.io import atomic, storage, urls
from pyimportance.io.meter import Meter
from pyimportance.shards.arrow_messages import check_not_compressed
from pyimportance.shards.sample_index import SampleIndex
from pyimportance.threads import default_threads

FORMAT: Final = "pyimportance-index"
VERSION: Final = 1

_SMALL = 4 << 20  # bytes of an index that is read before threads have begun

_PART = pa.struct(
    [
        pa.field("extension", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
    ]
)
_COLUMNS = {
    "id": pa.int64(),
    "key": pa.large_string(),
    "offset": pa.int64(),
    "nbytes": pa.int64(),
    "parts": pa.list_(pa.field("item", _PART, nullable=False)),
    "crc32c": pa.list_(pa.field("item", pa.uint32(), nullable=False)),
    "score": pa.float32(),
    "bin": pa.int32(),
    "frame": pa.int32(),
}
_OPTIONAL = {"crc32c": "part_crc32c", "score": "score", "bin": "bin", "frame": "frame"}  # as attributes


def write_index(index: SampleIndex, path: str | os.PathLike[str]) -> None:
    """Writes ``index`` atomically. Raises OutputError."""
    with atomic.writing(path) as out:
        out.write(encode(index))


def encode(index: SampleIndex) -> bytes:
    """The bytes of the Arrow file; equal indexes give equal bytes."""
    files = [[urls.public(name), int(size)] for name, size in zip(index.files, index.file_bytes, strict=True)]
    metadata = {"format": FORMAT, "version": str(VERSION), "files": json.dumps(files)}
    names = [c for c in _COLUMNS if c not in _OPTIONAL or getattr(index, _OPTIONAL[c]) is not None]
    schema = pa.schema([pa.field(c, _COLUMNS[c], nullable=False) for c in names], metadata=metadata)
    bounds = np.searchsorted(index.file, np.arange(len(index.files) + 1))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            writer.write_batch(_batch(index, start, end, schema))
    return bytes(sink.getvalue().to_pybytes())


def _batch(index: SampleIndex, start: int, end: int, schema: Any) -> Any:
    first, last = int(index.part_start[start]), int(index.part_start[end])
    extension = pa.DictionaryArray.from_arrays(
        pa.array(index.part_ext[first:last]), pa.array(index.extensions, pa.string())
    )
    parts = pa.StructArray.from_arrays(
        [extension, pa.array(index.part_offset[first:last]), pa.array(index.part_size[first:last])],
        fields=list(_PART),
    )
    starts = pa.array((index.part_start[start : end + 1] - first).astype(np.int32))
    columns: dict[str, Any] = {
        "id": pa.array(index.ids[start:end]),
        "key": index.keys.slice(start, end - start),
        "offset": pa.array(index.offset[start:end]),
        "nbytes": pa.array(index.nbytes[start:end]),
        "parts": pa.ListArray.from_arrays(starts, parts, type=_COLUMNS["parts"]),
    }
    if index.part_crc32c is not None:
        sums = pa.array(index.part_crc32c[first:last])
        columns["crc32c"] = pa.ListArray.from_arrays(starts, sums, type=_COLUMNS["crc32c"])
    for name in schema.names:
        if name not in columns:
            columns[name] = pa.array(getattr(index, name)[start:end], from_pandas=False)
    return pa.record_batch([columns[name] for name in schema.names], schema=schema)


def read_index(
    path: str | os.PathLike[str], meter: Meter | None = None, *, crc32c: int | None = None
) -> SampleIndex:
    """Reads what `write_index` wrote, as untrusted data; ``crc32c`` is what its bytes must sum to, if known.

    Raises DataError if the file is damaged, or is something else.
    """
    with storage.open_file(path, meter, "index") as file:
        return checked(file.map(), file.path, crc32c)


def checked(data: Any, name: str, crc32c: int | None) -> SampleIndex:
    """`decode`, where the bytes sum to ``crc32c``. Raises DataError."""
    with _calls(1 if len(data) < _SMALL else 2) as calls:  # sums while this thread decodes
        summing = None if crc32c is None else calls(_C.crc32c, [data])
        index: SampleIndex | DataError
        try:
            index = decode(data, name)
        except DataError as error:
            index = error
        if summing is not None and (got := next(iter(summing))) != crc32c:
            raise DataError(f"has CRC32C {got:#010x}; the manifest says {crc32c:#010x}", path=name)
    if isinstance(index, DataError):
        raise index
    return index


def decode(data: Any, name: str) -> SampleIndex:
    """What `encode` made bytes (any buffer) of, as untrusted data; errors call it ``name``.

    Raises DataError if it is damaged, or is something else. Arrays may be views of ``data``.
    """
    try:
        check_not_compressed(data, name)
        with pa.ipc.open_file(pa.py_buffer(data)) as reader:
            index = _decode(reader, name, default_threads() if len(data) >= _SMALL else 1)
        if len(data) >= _SMALL:
            pa.default_memory_pool().release_unused()  # what checking took
        return index
    except DataError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError, struct.error, MemoryError) as e:
        # Whatever Arrow stumbles over in damaged bytes, and what SampleIndex finds wrong with them.
        raise DataError(f"is no sound index ({(str(e) or repr(e)).splitlines()[0]})", path=name) from e


@contextmanager
def _calls(threads: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """`map`, with other threads where there are to be some."""
    if threads == 1:
        yield map
        return
    with ThreadPoolExecutor(threads) as pool:
        yield pool.map


def _decode(reader: Any, path: str, threads: int) -> SampleIndex:
    files, file_bytes = _check_schema(reader, path)
    batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
    with _calls(threads) as calls:  # Arrow checks and copies without the GIL
        shares = (pa.Table.from_batches(batches[t::threads], reader.schema) for t in range(threads))
        list(calls(lambda share: share.validate(full=True), shares))
        table = pa.Table.from_batches(batches, reader.schema).unify_dictionaries()
        names = sorted(table.column_names, key="parts".__ne__)  # the largest first
        whole = dict(zip(names, calls(lambda c: _one(table[c], _COLUMNS[c]), names), strict=True))
    if any(column.null_count for column in table.columns):
        raise DataError("holds nulls", path=path)
    lists = whole["parts"]
    parts = lists.flatten()
    extension, offset, size = parts.flatten()
    starts = _starts(lists)
    optional = {c: whole[c].to_numpy() for c in ("score", "bin", "frame") if c in whole}
    if (sums := whole.get("crc32c")) is not None:
        if not np.array_equal(_starts(sums), starts):
            raise DataError("has not as many checksums as parts", path=path)
        optional["part_crc32c"] = sums.flatten().to_numpy()
    for column in (extension, offset, size):
        if column.null_count:
            raise DataError("holds nulls among the parts", path=path)
    return SampleIndex(
        files=files,
        file_bytes=file_bytes,
        ids=whole["id"].to_numpy(),
        keys=whole["key"],
        file=np.repeat(np.arange(len(batches), dtype=np.int32), [len(b) for b in batches]),
        offset=whole["offset"].to_numpy(),
        nbytes=whole["nbytes"].to_numpy(),
        extensions=tuple(extension.dictionary.to_pylist()),
        part_start=starts,
        part_ext=extension.indices.to_numpy(),
        part_offset=offset.to_numpy(),
        part_size=size.to_numpy(),
        **optional,
    )


def _starts(lists: Any) -> NDArray[np.int64]:
    """int64 [N + 1]: where each list begins among the values of all."""
    starts = lists.offsets.to_numpy().astype(np.int64) if len(lists) else np.zeros(1, np.int64)
    return np.asarray(starts - starts[0])


def _one(column: Any, kind: Any) -> Any:
    """A chunked column as one array: the mapped memory itself where there is one chunk."""
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], kind)


def _check_schema(reader: Any, path: str) -> tuple[tuple[str, ...], Any]:
    """The tars' names and sizes, after checking that the columns are ours."""
    metadata = {k.decode(): v for k, v in (reader.schema.metadata or {}).items()}
    if metadata.get("format") != FORMAT.encode():
        raise DataError("is an Arrow file, but not an index of pyimportance", path=path)
    if metadata.get("version") != str(VERSION).encode():
        got = metadata.get("version", b"none").decode(errors="replace")
        raise DataError(f"has index format version {got}; this release reads {VERSION}", path=path)
    names = reader.schema.names
    for name, kind in _COLUMNS.items():
        if names.count(name) != 1 and not (name in _OPTIONAL and name not in names):
            raise DataError(f"has {names.count(name)} columns named {name!r}; expected one", path=path)
        if name in names and reader.schema.field(name).type != kind:
            got = reader.schema.field(name).type
            raise DataError(f"column {name!r} is {got}; expected {kind}", path=path)
    try:
        files = [(name, size) for name, size in json.loads(metadata["files"])]
        if not all(type(name) is str and type(size) is int for name, size in files):
            raise ValueError("other types are there")
        file_bytes = np.array([size for _, size in files], np.int64)
    except (KeyError, ValueError, TypeError, OverflowError, RecursionError) as e:
        raise DataError(f"metadata 'files' is not [[path, bytes], ...] ({e})", path=path) from None
    if len(files) != reader.num_record_batches:
        raise DataError(f"has {reader.num_record_batches} batches for {len(files)} files", path=path)
    return tuple(name for name, _ in files), file_bytes
