"""What may stand where webdataset takes URLs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from pyimportance.errors import ArgumentError, DataError
from pyimportance.io import urls
from pyimportance.io.meter import Meter
from pyimportance.io.node_cache import NodeCache
from pyimportance.io.storage import exists
from pyimportance.load import opening
from pyimportance.load.tars import Select, Tars, selected
from pyimportance.load.webdataset.renaming import renamed
from pyimportance.load.webdataset.stages import Handler, reraise
from pyimportance.shards.combine import concatenate, keep, of_file
from pyimportance.shards.index import index, scan_each
from pyimportance.shards.manifest import POINTER
from pyimportance.shards.sample_index import SampleIndex
from pyimportance.shards.shard_set import ShardSet
from pyimportance.shards.sources import expand
from pyimportance.shards.streams.recognise import of_files
from pyimportance.shards.streams.stream import Stream


def opened(
    source: Any,
    meter: Meter,
    cache: NodeCache | None,
    *,
    rename_files: Callable[[str], str] | None = None,
    select_files: Select | None = None,
    handler: Handler = reraise,
) -> ShardSet | Tars:
    """A ShardSet, the path of one, an index, or whatever `index` takes, which is then indexed; of tars the
    samples that ``rename_files`` makes of them, of which ``select_files`` leaves something; those that cannot
    be indexed are left out where ``handler`` says to go on.

    Raises ArgumentError for what only webdataset reads, and as `index` and `ShardSet.open` do.
    """
    found = _found(source, meter, cache, handler)
    if rename_files is None and (select_files is None or isinstance(found, ShardSet)):
        return found
    if isinstance(found, ShardSet):
        raise ArgumentError(
            "rename_files: a shard set has scores of the samples that it has, under their keys; rename parts "
            "by .rename_keys(), or give rename_files where tars are read as they are"
        )
    tars = found if rename_files is None else renamed(found.samples, rename_files)
    return tars if select_files is None else _with_something(tars, select_files)


def _with_something(tars: Tars, select: Select) -> Tars:
    """The samples of which ``select`` leaves a part at least; they keep their ids."""
    index = tars.samples
    left = np.logical_or.reduceat(selected(index, select), index.part_start[:-1])
    if left.all():
        return tars
    if not left.any():
        raise ArgumentError("select_files: leaves nothing of any sample")
    parts = np.repeat(left, np.diff(index.part_start))
    return Tars(
        keep(index, left),
        None if tars.names is None else tars.names.filter(pa.array(parts)),
        None if tars.part_begin is None else tars.part_begin[parts],
    )


def _found(source: Any, meter: Meter, cache: NodeCache | None, handler: Handler) -> ShardSet | Tars:
    if isinstance(source, ShardSet):
        return opening.opened(source, meter, cache)
    if isinstance(source, SampleIndex):
        return Tars(source)
    if isinstance(source, Mapping):
        raise ArgumentError(
            "urls: a specification of several data sets is not read; give the tars of all as one list"
        )
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        if _may_be_a_set(path) and exists(urls.join(path, POINTER)):
            return opening.opened(path, meter, cache)
        if path.endswith((".yaml", ".yml", ".json")):
            raise ArgumentError(f"urls: {path!r} is not read; give the tars, or the folder of a shard set")
        source = [path]
    elif not isinstance(source, Iterable) or hasattr(source, "read"):
        raise ArgumentError(f"urls={source!r}: must be paths or URLs of tars, a shard set, or its path")
    specs = [_spec(url) for url in source]
    named = expand(specs, again=True)
    once = list(dict.fromkeys(named))
    tars = of_files(once)
    if isinstance(tars, Stream):
        raise ArgumentError(
            f"urls: {tars.what}, which is read from its start to its end; of a copy in plain tars: "
            "WebDataset(index(urls, spool=DIR))"
        )
    try:
        samples = index(specs if len(once) == len(named) else once, meter=meter, cache=cache)
    except DataError as error:
        if handler is reraise:
            raise
        samples = _indexed(tars, meter, cache, handler, error)
    return Tars(samples if len(once) == len(named) else _again(samples, named))


def _spec(url: Any) -> str:
    if not isinstance(url, str | os.PathLike):
        raise ArgumentError(f"urls: {url!r} in the list is not the path or URL of a tar")
    parts = os.fspath(url).split("::")
    for part in parts:
        if part.startswith("pipe:"):
            raise ArgumentError(
                f"urls: {part!r} would run a shell; fetch the tars to files, and name these here"
            )
    return "::".join(re.sub(r"^file:(//(localhost)?(?=/)|(?!//))", "", part) for part in parts)


def _again(index: SampleIndex, named: list[str]) -> SampleIndex:
    """The samples of tars as often as these are named, each time under other ids."""
    number = {file: n for n, file in enumerate(index.files)}
    return concatenate([of_file(index, number[file]) for file in named if file in number], numbered=True)


def _indexed(
    tars: list[str], meter: Meter, cache: NodeCache | None, handler: Handler, first: DataError
) -> SampleIndex:
    """The samples of the tars that can be indexed: tars that cannot are left out whole, in their order, where
    ``handler`` says to go on, and those behind the first where it does not. Raises ``first`` where none is
    left."""
    parts = list[SampleIndex]()
    for found in scan_each(tars, meter, cache):
        if isinstance(found, SampleIndex):
            parts.append(found)
        elif not handler(found):
            break
    if not sum(map(len, parts)):
        raise first
    return concatenate(parts, numbered=True)


def _may_be_a_set(path: str) -> bool:
    """Whether this may be the folder of one; servers are not asked about what is a pattern or a tar."""
    return not urls.is_url(path) or not re.search(r"[{*?\[]|::|\.(tar|tgz)\b", path)
