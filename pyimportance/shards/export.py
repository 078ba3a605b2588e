"""export: what other tools want to find beside tars, made from the indexes of a compact generation.

DALI      a.idx beside a.tar       fn.readers.webdataset(paths=, index_paths=)
wids      wids-GGGGGG.json         wids.ShardListDataset(path): sizes and MD5 of every tar
webshart  a.json beside a.tar      webshart.discover_dataset(source=worker directory)
energon   a.tar.idx beside a.tar   with .nv-meta/.info.json in the root; `energon prepare` adds its own
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np

from pyimportance.checks import check_integer
from pyimportance.errors import ArgumentError, DataError
from pyimportance.io import atomic, output, urls
from pyimportance.io.forward import Forward
from pyimportance.io.meter import Meter
from pyimportance.io.storage import open_file
from pyimportance.shards.combine import of_file
from pyimportance.shards.index import Progress
from pyimportance.shards.manifest import ShardInfo
from pyimportance.shards.sample_index import SampleIndex
from pyimportance.shards.shard_set import ShardSet

Format = Literal["dali", "wids", "webshart", "energon"]
_NAME_FIELD: Final = 100  # bytes of a name that a ustar header holds without a prefix
_OCTAL_LIMIT: Final = 1 << 33  # a larger size needs a pax header
_CHUNK: Final = 1 << 20


def export(
    shards: ShardSet,
    format: Format,
    *,
    threads: int | None = None,
    meter: Meter | None = None,
    progress: Progress | None = None,
) -> tuple[str, ...]:
    """Writes the index files of another tool for the tars of a compact generation; returns their paths.

    They stand beside the tars, in a folder or in a store (s3, gs, az).

    format    "dali", "wids", "webshart" or "energon"
    threads   shards at a time; None: as many as there are CPUs, at most 8
    meter     counts indexes, as "index"; "wids" reads every tar for its MD5, as "disk"
    progress  called with (bytes of the tars done, of all of them)

    Everything stands in the indexes, and no payload is read but for "wids". Equal shards give equal files. A
    file of an earlier export is replaced, each at once.
    wids' ``cache_dir=`` calls tars by their last names, which workers share: leave it to its default.
    Raises ArgumentError for another format, for shards that are compressed or not compact, and for a name
    that the tool would misread: with a blank in it or without an extension (DALI), longer than 100 bytes or
    not ASCII, or of 8 GiB or more (wids). DataError, OutputError.
    """
    if format not in _TOOLS:
        raise ArgumentError(f"format={format!r}: allowed are {', '.join(map(repr, _TOOLS))}")
    if urls.is_url(shards.root):
        urls.check_takes_files(shards.root, "export")
    if shards.manifest.layout.compression is not None:
        raise ArgumentError(
            f"{shards.root}: its shards are compressed, and an index of {format} is of places in plain tars; "
            "write them without compression"
        )
    if not shards.is_compact:
        raise ArgumentError(
            f"generation {shards.generation} of {shards.root} is not compact: its tars still hold samples "
            "that moved away, and other tools would read them; `compact` writes them anew"
        )
    threads = min(8, os.cpu_count() or 1) if threads is None else check_integer("threads", threads, 1)
    tool = _TOOLS[format]
    total, made = sum(s.nbytes for s in shards.shards), list[_Exported]()
    with ThreadPoolExecutor(threads) as pool:
        for worker in range(shards.workers):
            index = shards.index(worker, meter)
            own = [s for s in shards.shards if s.worker == worker]
            for exported in pool.map(partial(_of_shard, tool, index, own, meter), range(len(own))):
                made.append(exported)
                if progress is not None:
                    progress(sum(e.info.nbytes for e in made), total)
    paths = [e.path for e in made if e.path is not None]
    return tuple(paths if tool.of_all is None else [*paths, tool.of_all(shards, made)])


@dataclass(frozen=True)
class _Tar:
    """A shard with its samples; ``names`` of all parts, in file order."""

    info: ShardInfo
    path: str
    samples: SampleIndex
    names: tuple[str, ...]

    @property
    def stem(self) -> str:
        return self.path.removesuffix(".tar")

    def refuse(self, row: int, problem: str) -> None:
        raise ArgumentError(f"{self.path}: member {self.names[row]!r} {problem}")


@dataclass(frozen=True)
class _Exported:
    info: ShardInfo
    path: str | None
    md5: str = ""


def _of_shard(
    tool: _Tool, index: SampleIndex, own: list[ShardInfo], meter: Meter | None, number: int
) -> _Exported:
    samples = of_file(index, number)
    keys = np.repeat(np.array(samples.keys.to_pylist(), object), np.diff(samples.part_start))
    extensions = np.array(samples.extensions, object)[samples.part_ext]
    names = tuple((keys + "." + extensions).tolist())
    return tool.of_tar(_Tar(own[number], index.files[number], samples, names), meter)


def _dali(tar: _Tar, meter: Meter | None) -> _Exported:
    """``v1.2 SAMPLES``, then a line per sample: EXTENSION OFFSET SIZE NAME of every part."""
    s = tar.samples
    parts = []
    for row, (name, ext, offset, size) in enumerate(
        zip(tar.names, s.part_ext.tolist(), s.part_offset.tolist(), s.part_size.tolist(), strict=True)
    ):
        if " " in name or not s.extensions[ext]:
            tar.refuse(row, "has a blank in its name, or no extension; an index of DALI cannot say that")
        parts.append(f"{s.extensions[ext]} {offset} {size} {name}")
    lines = [" ".join(parts[start:end]) for start, end in pairwise(s.part_start.tolist())]
    text = "\n".join([f"v1.2 {s.num_samples}", *lines, ""])
    return _write(tar, f"{tar.stem}.idx", text.encode())


def _webshart(tar: _Tar, meter: Meter | None) -> _Exported:
    """``{"filesize": of the tar, "files": {NAME: {"offset": of the payload, "length"}}}``"""
    places = zip(tar.samples.part_offset.tolist(), tar.samples.part_size.tolist(), strict=True)
    files = {n: {"offset": o, "length": size} for n, (o, size) in zip(tar.names, places, strict=True)}
    return _write(tar, f"{tar.stem}.json", _to_json({"filesize": tar.info.nbytes, "files": files}))


def _energon(tar: _Tar, meter: Meter | None) -> _Exported:
    """uint64 [samples + 1] as this machine has them: where each sample begins, and where the last ends."""
    s = tar.samples
    places = np.append(s.offset, (s.offset + s.nbytes)[-1:]).astype(np.uint64)
    return _write(tar, f"{tar.path}.idx", places.tobytes())


def _energon_info(shards: ShardSet, made: list[_Exported]) -> str:
    """Samples of every tar. No version of energon's: it was not energon that prepared them."""
    folder = urls.join(shards.root, ".nv-meta")
    if not urls.is_url(folder):
        if os.path.islink(folder):
            raise DataError("is a link; exports are written below the root only", path=folder)
        atomic.make_directory(folder)
    path = urls.join(folder, ".info.json")
    counts = {e.info.path: e.info.samples for e in made}
    output.write_bytes(path, _to_json({"energon_version": None, "shard_counts": counts}))
    return path


def _wids(tar: _Tar, meter: Meter | None) -> _Exported:
    """The MD5 of a tar; its reader parses headers for itself, but only the simplest."""
    for row, (name, size) in enumerate(zip(tar.names, tar.samples.part_size.tolist(), strict=True)):
        if len(name) > _NAME_FIELD or not name.isascii() or size >= _OCTAL_LIMIT:
            tar.refuse(row, "has a name of more than 100 bytes or not ASCII, or 8 GiB; wids would misread it")
    state = hashlib.md5(usedforsecurity=False)
    with open_file(tar.path, meter, "disk") as file:
        if file.size != tar.info.nbytes:
            raise DataError(f"has {file.size} bytes; the manifest says {tar.info.nbytes}", path=tar.path)
        whole = Forward(file)
        while data := whole.read(_CHUNK):
            state.update(data)
    return _Exported(tar.info, None, state.hexdigest())


def _wids_index(shards: ShardSet, made: list[_Exported]) -> str:
    """All tars in one file; its reader takes their paths as relative to it."""
    tars = [
        {"url": e.info.path, "nsamples": e.info.samples, "md5sum": e.md5, "filesize": e.info.nbytes}
        for e in made
    ]
    path = urls.join(shards.root, f"wids-{shards.generation:06d}.json")
    name = f"{os.path.basename(shards.root)}-{shards.generation:06d}"
    head = {"__kind__": "wids-shard-index-v1", "wids_version": 1, "name": name}
    output.write_bytes(path, _to_json({**head, "shardlist": tars}))
    return path


def _write(tar: _Tar, path: str, data: bytes) -> _Exported:
    output.write_bytes(path, data)
    return _Exported(tar.info, path)


def _to_json(fields: dict[str, Any]) -> bytes:
    return (json.dumps(fields, indent=1) + "\n").encode()


@dataclass(frozen=True)
class _Tool:
    of_tar: Callable[[_Tar, Meter | None], _Exported]
    of_all: Callable[[ShardSet, list[_Exported]], str] | None = None


_TOOLS: Final = {
    "dali": _Tool(_dali),
    "wids": _Tool(_wids, _wids_index),
    "webshart": _Tool(_webshart),
    "energon": _Tool(_energon, _energon_info),
}
