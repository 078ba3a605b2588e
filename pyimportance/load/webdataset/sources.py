"""What may stand where webdataset takes URLs, and its arguments that are answered otherwise here."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pyimportance.checks import check_flag
from pyimportance.errors import ArgumentError
from pyimportance.io import urls
from pyimportance.io.meter import Meter
from pyimportance.io.node_cache import NodeCache
from pyimportance.io.storage import exists
from pyimportance.load import opening
from pyimportance.load.tars import Tars
from pyimportance.load.webdataset.stages import reraise
from pyimportance.shards.index import index
from pyimportance.shards.manifest import POINTER
from pyimportance.shards.sample_index import SampleIndex
from pyimportance.shards.shard_set import ShardSet

# What a value of an argument of webdataset's means here that need not be said, as it is so anyway.
_SPLITTERS = ("single_node_only", "split_by_node", "split_by_worker")

_HANDLERS = {"reraise_exception": "raise", "ignore_and_continue": "skip", "warn_and_continue": "skip"}

_INSTEAD = {
    "url_to_name": "nothing is cached under other names",
    "rename_files": "use .rename_keys() or .rename() on the samples",
}


def opened(source: Any, meter: Meter, cache: NodeCache | None) -> ShardSet | Tars:
    """A ShardSet, the path of one, an index, or whatever `index` takes, which is then indexed.

    Raises ArgumentError for what only webdataset reads, and as `index` and `ShardSet.open` do.
    """
    if isinstance(source, ShardSet):
        return opening.opened(source, meter, cache)
    if isinstance(source, SampleIndex):
        return Tars(source)
    if isinstance(source, Mapping):
        raise ArgumentError("urls: a specification of several data sets is not read; give the tars of one")
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
    return Tars(index(tars, meter=meter, cache=cache))


def _not_a_path(url: Any) -> str:
    raise ArgumentError(f"urls: {url!r} in the list is not the path or URL of a tar")


def _may_be_a_set(path: str) -> bool:
    """Whether this may be the folder of one; servers are not asked about what is a pattern or a tar."""
    return not urls.is_url(path) or not re.search(r"[{*?\[]|::|\.(tar|tgz)\b", path)


def _check_splitter(name: str, value: Any) -> None:
    """Samples are dealt to ranks and loader processes here; webdataset's own functions mean no more."""
    if getattr(value, "__name__", None) not in _SPLITTERS:
        raise ArgumentError(
            f"{name}={value!r}: samples are dealt to ranks and loader processes here, all equally many; to "
            "have every rank read everything: rank=0, world_size=1"
        )


def check_like(mode: Any, **arguments: Any) -> None:
    """Those that are there for webdataset's sake, as everything is so anyway."""
    if mode not in (None, "resampled"):
        raise ArgumentError(f"mode={mode!r}: must be None or 'resampled'")
    for name, value in arguments.items():
        if name in ("nodesplitter", "workersplitter"):
            if value is not None:
                _check_splitter(name, value)
        else:
            check_flag(name, value)


def on_error(handler: Any) -> str:
    """What `ImportanceDataset` takes for it. A function of one's own could end one rank's epoch alone."""
    name = "reraise_exception" if handler is reraise else getattr(handler, "__name__", None)
    if name not in _HANDLERS:
        raise ArgumentError(
            f"handler={handler!r}: must be {' or '.join(_HANDLERS)}, as no rank may stop alone; those of the "
            "methods, .map() and .decode(), may be any"
        )
    return _HANDLERS[name]


def check_others(arguments: Mapping[str, Any]) -> None:
    """Raises ArgumentError for an argument that is not taken, and says what to do instead."""
    for name, value in arguments.items():
        if name not in _INSTEAD:
            raise ArgumentError(f"{name}={value!r}: WebDataset takes no such argument")
        if value is not None:
            raise ArgumentError(f"{name}={value!r}: not taken; {_INSTEAD[name]}")
