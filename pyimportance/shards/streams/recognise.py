"""Whatever a user names as a source -> the tars that it is, or a Stream."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterable, Mapping
from typing import Any

from pyimportance.errors import ArgumentError
from pyimportance.io.urls import public
from pyimportance.shards.sources import expand
from pyimportance.shards.streams import folder, huggingface, mappings, mds, parquet, tars
from pyimportance.shards.streams.stream import Data, Stream, guarded, name_of


def recognise(source: Data) -> Stream | list[str]:
    """A Stream where the source can only be read in order, else its tars.

    By what it is, and files by their names: a directory with ``*.tar`` is those tars; one with an
    ``index.json`` is mosaicml-streaming's; one with ``*.parquet``, or compressed tars, is those; any other
    is a folder of files. Raises ArgumentError for what is none of all this.
    """
    if huggingface.is_one(source):
        return huggingface.stream_of(source)
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        return _directory(path) if os.path.isdir(path) else of_files(expand(path))
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        raise ArgumentError(
            f"source is a {type(source).__name__}; it must be paths, or an iterable of samples as dicts"
        )
    first, items = _first(source)
    if first is None or isinstance(first, (str, os.PathLike)):
        return of_files(expand(items))
    if isinstance(first, Mapping):
        return mappings.stream_of(items, first)
    raise ArgumentError(f"source holds a {type(first).__name__}; it must hold paths, or samples as dicts")


def _directory(path: str) -> Stream | list[str]:
    def those(pattern: str) -> list[str]:
        return sorted(glob.glob(os.path.join(glob.escape(path), pattern)))

    if those("*.tar"):
        return expand(path)
    if mds.is_one(path):
        return mds.stream_of(path)
    if named := those("*.parquet"):
        return parquet.stream_of(named)
    if named := [p for p in those("*") if tars.compression_of(p) and os.path.isfile(p)]:
        return tars.stream_of(named)
    return folder.stream_of(path)


def of_files(files: list[str]) -> Stream | list[str]:
    """What files that were named one by one are."""
    tables = [path for path in files if name_of(path).lower().endswith(".parquet")]
    if tables:
        if len(tables) < len(files):
            other = next(path for path in files if path not in set(tables))
            both = f"{public(tables[0])!r}, {public(other)!r}"
            raise ArgumentError(f"source names Parquet files and others ({both}); give one kind")
        return parquet.stream_of(files)
    return tars.stream_of(files) if any(map(tars.compression_of, files)) else files


def _first(source: Iterable[Any]) -> tuple[Any, Iterable[Any]]:
    """(the first item or None, all of them), asking ``source`` once."""
    iterator = guarded(source, "item")
    first = next(iterator, None)
    return first, [] if first is None else itertools.chain([first], iterator)
