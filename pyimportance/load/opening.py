"""What a data set reads, opened: in a folder, or behind a URL with or without a cache on this node.

Behind a URL, shards are read by ranges: of all bytes only those of the samples and parts that are wanted.
With a folder for a cache (io/node_cache.py) each range is fetched once for all processes of the node, and is
read from there by native threads, as local shards are; so is each index. The cache knows them by the sizes
and CRC32Cs in the manifest, so that nobody asks the server about what is there. Of manifests, and of
tars that no manifest knows, every process asks whether they are those that are there (their size and ETag).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pyimportance.errors import ArgumentError, DataError, PyimportanceError
from pyimportance.io.arriving import Origin
from pyimportance.io.meter import Meter
from pyimportance.io.node_cache import NodeCache
from pyimportance.io.urls import is_url
from pyimportance.load.share import Share
from pyimportance.load.shared import Assignment
from pyimportance.load.tars import Tars
from pyimportance.shards.shard_set import ShardSet


def opened(shards: Any, meter: Meter, cache: NodeCache | None) -> ShardSet:
    """A ShardSet, or the one at a path or URL; its manifest and indexes come through the cache as well."""
    if isinstance(shards, ShardSet):
        return shards if cache is None or not is_url(shards.root) else replace(shards, cache=cache)
    if not isinstance(shards, str | os.PathLike):
        raise ArgumentError(f"shards={shards!r}: must be a ShardSet, or the path of one")
    return ShardSet.open(shards, meter=meter, cache=cache)


def opened_again(told: Assignment, meter: Meter, cache: NodeCache | None) -> ShardSet:
    """What the training process reads, in a loader process."""
    shards = ShardSet.open(told.root, generation=told.generation, meter=meter, cache=cache)
    if shards.digest != told.digest:
        raise DataError(
            f"generation {told.generation} has digest {shards.digest}; "
            f"the training process reads {told.digest}",
            path=told.root,
        )
    return shards


def cache_of(folder: str | os.PathLike[str] | None, nbytes: int | None) -> NodeCache | None:
    if folder is None and nbytes is not None:
        raise ArgumentError(f"cache_bytes={nbytes!r}: bounds a cache; give cache_dir as well")
    return None if folder is None else NodeCache(folder, nbytes)


def origin_of(source: ShardSet | Tars, cache: NodeCache | None, share: Share) -> Origin | None:
    """How what ``share`` needs is fetched; None where all files are local."""
    if isinstance(source, Tars):
        return Origin(cache) if any(map(is_url, source.samples.files)) else None
    if not is_url(source.root):
        return None
    workers = share.workers
    return Origin(
        cache,
        {source.path_of(s.path): (s.nbytes, s.crc32c) for s in source.shards if s.worker in workers},
    )


def raising(error: PyimportanceError) -> Iterator[dict[str, Any]]:
    """An iteration that raises: DataLoader passes on what `next` raises, not what `iter` does."""
    raise error
    yield {}
