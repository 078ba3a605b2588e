"""What changes hands: those who hold samples tell those who take them where they lie.

So nobody reads an index but its own worker's: of the others it is told the rows that matter to it.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

from pyimportance.errors import DataError
from pyimportance.shards.combine import keep
from pyimportance.shards.index_file import decode, encode
from pyimportance.shards.sample_index import SampleIndex
from pyimportance.shards.shard_set import ShardSet

if TYPE_CHECKING:
    from pyimportance.order.values import Partition


def leaving(index: SampleIndex, partition: Partition, worker: int) -> SampleIndex:
    """The samples of ``worker``'s ``index`` that ``partition`` gives to others."""
    owner = partition.worker_of(index.ids)
    return keep(index, (owner >= 0) & (owner != worker))


def pack(shards: ShardSet, offer: SampleIndex) -> bytes:
    """Rows of ``shards``' indexes as bytes to be sent; none where there are no samples."""
    if offer.num_samples == 0:
        return b""
    # Compressed: few rows of many tars are mostly Arrow's metadata, and numbers of eight bytes mostly zeros.
    return zlib.compress(encode(replace(offer, files=relative(shards, offer), score=None, bin=None)), 1)


def unpack(shards: ShardSet, data: bytes, sender: str) -> SampleIndex:
    """What `pack` made for ``shards``, checked like an index that is read.

    Raises DataError, naming the ``sender``, for anything else.
    """
    try:
        offer = decode(zlib.decompress(data), sender)
    except zlib.error as e:
        raise DataError(f"is no sound offer ({e})", path=sender) from None
    nbytes = {s.path: s.content_bytes for s in shards.shards}
    for name, size in zip(offer.files, offer.file_bytes.tolist(), strict=True):
        if nbytes.get(name) != size:
            raise DataError(f"offers samples of {name!r}, which is no shard of these", path=sender)
    return replace(offer, files=tuple(shards.path_of(name) for name in offer.files))


def relative(shards: ShardSet, index: SampleIndex) -> tuple[str, ...]:
    """The files of an index as the manifest names them."""
    return tuple(os.path.relpath(file, shards.root) for file in index.files)
