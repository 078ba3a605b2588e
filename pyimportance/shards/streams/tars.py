"""Tars that are compressed as a whole, and any others that are to be copied once from start to end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial

from pyimportance.io.forward import COMPRESSIONS, Forward
from pyimportance.io.meter import Meter
from pyimportance.io.storage import open_file
from pyimportance.io.urls import public
from pyimportance.shards.streams.stream import Stream, Tar, name_of, state_of, stem

_PIECE = 4 << 20


def compression_of(path: str) -> str | None:
    """How a tar of this name is compressed; None: it is not."""
    root, suffix = os.path.splitext(name_of(path).lower())
    if suffix.startswith(".t") or root.endswith(".tar"):
        return COMPRESSIONS.get(suffix)
    return None


def stream_of(files: Sequence[str]) -> Stream:
    """Each of these tars as one unit. Their members are looked at where they are spooled."""
    return Stream(
        f"{public(files[0])!r}" + (f" and {len(files) - 1} more tars" if len(files) > 1 else ""),
        tuple(
            Tar(_stem(path), public(path), partial(_read, path), partial(state_of, path)) for path in files
        ),
    )


def _read(path: str, meter: Meter | None) -> Iterator[bytes]:
    with open_file(path, meter, "origin") as file:
        source = Forward(file, compression_of(path))
        while piece := source.read(_PIECE):
            yield piece


def _stem(path: str) -> str:
    name = stem(path)
    return name[:-4] if name.lower().endswith(".tar") else name
