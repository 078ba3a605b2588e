"""webdataset's arguments that are there for its sake, or are answered otherwise here."""

from __future__ import annotations

import os
from typing import Any

from pyimportance.checks import check_flag, check_integer
from pyimportance.errors import ArgumentError

_SPLITTERS = ("single_node_only", "split_by_node", "split_by_worker")


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


def check_functions(**functions: Any) -> None:
    """Each None, or something to call."""
    for name, value in functions.items():
        if value is not None and not callable(value):
            raise ArgumentError(f"{name}={value!r}: must be a function of a name")


def cache_options(cache_dir: str | os.PathLike[str] | None, cache_size: int) -> dict[str, Any]:
    """What `ImportanceDataset` takes for them. cache_size: -1 is without a bound, 0 without a cache. Those
    that are not given are what WDS_CACHE and WDS_CACHE_SIZE say, where the environment has them."""
    size = check_integer("cache_size", cache_size, -1)
    if cache_dir is None and (named := os.environ.get("WDS_CACHE")):
        cache_dir = os.path.expanduser(named)
    if size == -1 and (stated := os.environ.get("WDS_CACHE_SIZE")):
        try:
            size = max(-1, int(float(stated)))
        except (ValueError, OverflowError):
            raise ArgumentError(f"WDS_CACHE_SIZE={stated!r}: must be a number of bytes") from None
    if cache_dir is None or size == 0:
        return {}
    return {"cache_dir": cache_dir, "cache_bytes": None if size == -1 else size}
