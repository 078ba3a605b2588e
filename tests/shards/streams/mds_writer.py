"""Writes directories in mosaicml-streaming's format, by its documentation and nothing of ours."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

SCALARS = {
    "int": "<q", "int8": "<b", "int16": "<h", "int32": "<i", "int64": "<q", "uint8": "<B", "uint16": "<H",
    "uint32": "<I", "uint64": "<Q", "float16": "<e", "float32": "<f", "float64": "<d",
}  # fmt: skip
PACK: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "zstd": ("zstd", zstandard.compress),
    "gz": ("gz", gzip.compress),
    "bz2": ("bz2", bz2.compress),
}


def encode(encoding: str, value: Any) -> bytes:
    if encoding in SCALARS:
        return struct.pack(SCALARS[encoding], value)
    if encoding.startswith("ndarray"):
        _, *fixed = encoding.split(":")
        head = b""
        if not fixed:
            codes = {"uint8": 8, "int16": 17, "float32": 34, "int64": 65}
            head += bytes([codes[value.dtype.name]])
        if len(fixed) < 2:
            head += bytes([value.ndim << 2 | 1]) + np.array(value.shape, "<u2").tobytes()
        return head + bytes(value.tobytes())
    if encoding == "json":
        return json.dumps(value).encode()
    return value if isinstance(value, bytes) else str(value).encode()


def write(
    root: Path,
    columns: dict[str, str],
    samples: Sequence[dict[str, Any]],
    *,
    per_shard: int,
    compression: str | None = None,
    hashes: Sequence[str] = (),
) -> Path:
    root.mkdir(parents=True)
    names = sorted(columns)
    encodings = [columns[n] for n in names]
    sizes = [struct.calcsize(SCALARS[e]) if e in SCALARS else None for e in encodings]
    shards = []
    for number, first in enumerate(range(0, len(samples), per_shard)):
        rows = []
        for sample in samples[first : first + per_shard]:
            values = [encode(e, sample[n]) for n, e in zip(names, encodings, strict=True)]
            head = [len(v) for v, s in zip(values, sizes, strict=True) if s is None]
            rows.append(np.array(head, "<u4").tobytes() + b"".join(values))
        config = json.dumps({"format": "mds", "column_names": names, "column_encodings": encodings}).encode()
        ends = 4 * (len(rows) + 2) + len(config) + np.cumsum([0, *map(len, rows)])
        data = struct.pack("<I", len(rows)) + ends.astype("<u4").tobytes() + config + b"".join(rows)
        name = f"shard.{number:05d}.mds"

        def info(name: str, data: bytes) -> dict[str, Any]:
            sums = {h: hashlib.new(h, data).hexdigest() for h in hashes}
            return {"basename": name, "bytes": len(data), "hashes": sums}

        entry = {
            "version": 2, "format": "mds", "column_names": names, "column_encodings": encodings,
            "column_sizes": sizes, "compression": compression, "hashes": list(hashes), "samples": len(rows),
            "size_limit": 1 << 26, "raw_data": info(name, data), "zip_data": None,
        }  # fmt: skip
        if compression is not None:
            suffix, pack = PACK[compression.partition(":")[0]]
            data = pack(data)
            name = f"{name}.{suffix}"
            entry["zip_data"] = info(name, data)
        (root / name).write_bytes(data)
        shards.append(entry)
    (root / "index.json").write_text(json.dumps({"version": 2, "shards": shards}, sort_keys=True))
    return root
