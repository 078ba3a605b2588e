"""What may stand where webdataset takes URLs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pyimportance.errors import ArgumentError, DataError
from pyimportance.io import urls
from pyimportance.io.meter import Meter
from pyimportance.io.node_cache import NodeCache
from pyimportance.io.storage import exists
from pyimportance.load import opening
from pyimportance.load.tars import Tars
from pyimportance.load.webdataset.renaming import renamed
from pyimportance.load.webdataset.stages import Handler, reraise
from pyimportance.shards.combine import concatenate
from pyimportance.shards.index import index, scan_each
from pyimportance.shards.manifest import POINTER
from pyimportance.shards.sample_index import SampleIndex
from pyimportance.shards.shard_set import ShardSet
from pyimportance.shards.sources import expand


def opened(
    source: Any,
    meter: Meter,
    cache: NodeCache | None,
    rename_files: Callable[[str], str] | None = None,
    handler: Handler = reraise,
) -> ShardSet | Tars:
    """A ShardSet, the path of one, an index, or whatever `index` takes, which is then indexed; of tars the
    samples that ``rename_files`` makes of them, and only those about which ``handler`` is not asked, or says
    to go on.

    Raises ArgumentError for what only webdataset reads, and as `index` and `ShardSet.open` do.
    """
    found = _found(source, meter, cache, handler)
    if rename_files is None:
        return found
    if isinstance(found, ShardSet):
        raise ArgumentError(
            "rename_files: a shard set has scores of the samples that it has, under their keys; rename parts "
            "by .rename_keys(), or give rename_files where tars are read as they are"
        )
    return renamed(found.samples, rename_files)


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
    elif not isinstance(source, Iterable):
        raise ArgumentError(f"urls={source!r}: must be tars, a shard set, or the path of one")
    tars = [os.fspath(url) if isinstance(url, str | os.PathLike) else _not_a_path(url) for url in source]
    for url in tars:
        for part in url.split("::"):
            if part.startswith("pipe:"):
                raise ArgumentError(
                    f"urls: {part!r} would run a shell; fetch the tars to files, and name these here"
                )
    try:
        return Tars(index(tars, meter=meter, cache=cache))
    except DataError as error:
        if handler is reraise:
            raise
        return Tars(_indexed(expand(tars), meter, cache, handler, error))


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


def _not_a_path(url: Any) -> str:
    raise ArgumentError(f"urls: {url!r} in the list is not the path or URL of a tar")


def _may_be_a_set(path: str) -> bool:
    """Whether this may be the folder of one; servers are not asked about what is a pattern or a tar."""
    return not urls.is_url(path) or not re.search(r"[{*?\[]|::|\.(tar|tgz)\b", path)
