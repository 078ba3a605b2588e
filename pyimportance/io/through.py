"""What is read whole, or looked through, of objects behind URLs: manifests, indexes, headers of tars.

Through the cache of the node, so that of all its processes one fetches it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from pyimportance.io.arriving import PIECE, Arriving, Origin
from pyimportance.io.downloads import AT_ONCE, Downloads
from pyimportance.io.meter import Meter
from pyimportance.io.node_cache import NodeCache
from pyimportance.io.storage import size_of


def read_through(
    cache: NodeCache,
    url: str,
    known: tuple[int, int] | None = None,
    *,
    meter: Meter | None,
    tier: str,
    most: int | None = None,
) -> bytearray:
    """All bytes of an object that is read as a whole, through the cache of this node. They count as ``tier``
    where they are fetched as where they are found.

    known: its bytes and CRC32C, where a manifest has them. Raises as `Arriving` does, and DataError where it
    has more bytes than ``most``.
    """
    with opened_through(cache, [url], meter, tier, {} if known is None else {url: known}) as (file,):
        data = bytearray(size_of(file, most))
        for begin in range(0, file.size, PIECE * AT_ONCE):
            end = min(file.size, begin + PIECE * AT_ONCE)
            data[begin:end] = file.pread(begin, end - begin)
    return data


@contextmanager
def opened_through(
    cache: NodeCache,
    urls: Sequence[str],
    meter: Meter | None,
    tier: str,
    objects: Mapping[str, tuple[int, int]] | None = None,
) -> Iterator[list[Arriving]]:
    """Objects, open to be read through the cache of this node, all of which counts as ``tier``.

    objects: what is known of them, see `Origin`. Raises as `Arriving` does.
    """
    origin, counted = Origin(cache, objects or {}), Meter() if meter is None else meter
    downloads, openings = Downloads(), Downloads()
    try:
        begun = [openings.submit(partial(Arriving, url, origin, downloads, counted)) for url in urls]
        files = [opening.result() for opening in begun]
        for file in files:
            file.count = lambda _, nbytes, requests=1: counted.add(tier, nbytes, requests)
        yield files
    finally:
        openings.close()
        downloads.close()
