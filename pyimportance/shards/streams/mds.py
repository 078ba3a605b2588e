"""Directories in mosaicml-streaming's format: an index.json and shards of samples, compressed or not.

A shard is uint32 n, uint32 [n + 1] where each sample starts and the last ends, JSON that repeats the index,
and the samples: uint32 sizes of the columns whose size is not fixed, then the columns. All numbers are
little-endian. Keys are those of a column ``__key__`` of text, else the shard and the row, as in
``shard.00003/00000017``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pyimportance.errors import DataError
from pyimportance.io.forward import Forward
from pyimportance.io.meter import Meter
from pyimportance.io.storage import open_file, read_whole
from pyimportance.shards.streams.fields import KEY, extended
from pyimportance.shards.streams.mds_values import Value, value_of
from pyimportance.shards.streams.stream import Sample, Samples, Stream, state_of

INDEX = "index.json"
_COMPRESSIONS = {"gz": "gzip", "bz2": "bzip2", "zstd": "zstd"}
_LIMIT = 1 << 32  # positions in a shard are 32-bit
_HASHES = {name for name in hashlib.algorithms_guaranteed if not name.startswith("shake")}


@dataclass(frozen=True)
class _Shard:
    """An entry of the index, with the file of it that is there."""

    path: str
    name: str
    compression: str | None
    nbytes: int
    hashes: dict[str, str]  # of the file that is there
    samples: int
    columns: tuple[tuple[str, int | None, Value], ...]  # name, size if fixed, what it holds


def is_one(directory: str) -> bool:
    return os.path.isfile(os.path.join(directory, INDEX))


def stream_of(directory: str) -> Stream:
    """A unit per shard. Raises DataError for an index that is none, or names what is not there."""
    path = os.path.join(directory, INDEX)
    try:
        fields = json.loads(read_whole(path, None, "index"))
        entries = fields["shards"]
        if fields["version"] != 2 or not isinstance(entries, list):
            raise ValueError(f"version {fields['version']!r}, where 2 is read")
        shards = [_shard(directory, number, entry) for number, entry in enumerate(entries)]
    except DataError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        problem = f"field {e} is missing" if isinstance(e, KeyError) else e
        raise DataError(f"is no index of mosaicml-streaming's ({problem})", path=path) from None
    if not shards:
        raise DataError("names no shards", path=path)
    units = (Samples(s.name, s.path, partial(_read, s), partial(state_of, path, s.path)) for s in shards)
    return Stream(f"the MDS directory {directory!r}", tuple(units))


def _shard(directory: str, number: int, entry: Any) -> _Shard:
    if entry["format"] != "mds" or entry["version"] != 2:
        raise ValueError(f"shard {number} is {entry['format']!r} {entry['version']!r}, where 'mds' 2 is read")
    columns = []
    for name, encoding, size in zip(
        entry["column_names"], entry["column_encodings"], entry["column_sizes"], strict=True
    ):
        columns.append((str(name), size and _count(size), _value(number, name, encoding)))
    raw, packed = entry["raw_data"], entry.get("zip_data")
    compression: str | None = None
    found = raw
    if packed and not os.path.exists(_path(directory, raw)):
        found = packed
        kind = str(entry["compression"]).partition(":")[0]
        if kind not in _COMPRESSIONS:
            raise ValueError(f"shard {number} is compressed by {kind!r}; read are {', '.join(_COMPRESSIONS)}")
        compression = _COMPRESSIONS[kind]
    return _Shard(
        path=_path(directory, found),
        name=os.path.basename(raw["basename"]).removesuffix(".mds"),
        compression=compression,
        nbytes=_count(raw["bytes"]),
        hashes={str(k): str(v) for k, v in (found.get("hashes") or {}).items()},
        samples=_count(entry["samples"]),
        columns=tuple(columns),
    )


def _value(shard: int, column: str, encoding: str) -> Value:
    try:
        return value_of(encoding)
    except ValueError as e:
        raise ValueError(f"shard {shard}, column {column!r} is {encoding!r}: {e}") from None


def _path(directory: str, info: Any) -> str:
    name = str(info["basename"])
    if os.path.isabs(name) or ".." in name.split("/") or "\0" in name:
        raise ValueError(f"basename {name!r} leads out of the directory")
    return os.path.join(directory, name)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _LIMIT:
        raise ValueError(f"{value!r} is no count or size")
    return value


def _read(shard: _Shard, meter: Meter | None) -> Iterator[Sample]:
    with open_file(shard.path, meter, "origin") as file:
        sums = {name: hashlib.new(name, usedforsecurity=False) for name in _HASHES & shard.hashes.keys()}
        source = Forward(file, shard.compression, [state.update for state in sums.values()])
        count = int(_numbers(source, 1, "its count of samples")[0])
        if count != shard.samples:
            raise DataError(f"has {count} samples; its index says {shard.samples}", path=shard.path)
        if (start := 4 * (count + 2)) > shard.nbytes:
            raise DataError(f"has {count} samples; its index says {shard.nbytes} bytes", path=shard.path)
        ends = _numbers(source, count + 1, "the positions of samples")
        if ends[0] < start or (np.diff(ends) < 0).any() or ends[-1] != shard.nbytes:
            raise DataError(
                f"positions of samples are damaged: they must rise from {start} to {shard.nbytes}",
                path=shard.path,
            )
        source.read_all_of(int(ends[0]) - start, "its header")
        for row, nbytes in enumerate(np.diff(ends).tolist()):
            data = source.read_all_of(nbytes, f"sample {row}")
            try:
                yield _sample(shard, row, data)
            except DataError as e:
                raise DataError(f"sample {row}: {e.problem}", path=shard.path) from None
        if source.read(1):
            raise DataError(f"goes on after {shard.nbytes} bytes, where its index ends it", path=shard.path)
        for name, state in sums.items():
            if state.hexdigest() != (expected := shard.hashes[name]):
                raise DataError(f"has {name} {state.hexdigest()}; its index says {expected}", path=shard.path)


def _sample(shard: _Shard, row: int, data: bytes) -> Sample:
    varying = sum(not size for _, size, _ in shard.columns)
    if len(data) < 4 * varying:
        raise DataError(f"has {len(data)} bytes, fewer than the sizes of its columns")
    sizes = iter(np.frombuffer(data, "<u4", varying).tolist())
    key, parts, at = f"{shard.name}/{row:08d}", {}, 4 * varying
    for name, fixed, (kind, convert) in shard.columns:
        size = fixed or next(sizes)
        value = data[at : at + size]
        at += size
        if len(value) < size:
            raise DataError(f"column {name!r} ends after {len(value)} of {size} bytes")
        if name == KEY:
            key = value.decode(errors="replace")
            continue
        extension = extended(name, kind) if kind else name.lower()
        if extension in parts:
            raise DataError(f"column {name!r}: another one has the extension {extension!r} already")
        try:
            parts[extension] = convert(value)
        except DataError as e:
            raise DataError(f"column {name!r} {e.problem}") from None
    if at != len(data):
        raise DataError(f"has {len(data)} bytes; its columns have {at}")
    return key, parts


def _numbers(source: Forward, count: int, what: str) -> Any:
    return np.frombuffer(source.read_all_of(4 * count, what), "<u4").astype(np.int64)
