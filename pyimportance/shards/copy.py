"""What writing shards has in common: the tars it reads, and what says where samples came to lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Final

import numpy as np

from pyimportance import _C
from pyimportance.io import urls
from pyimportance.io.frames import content_of
from pyimportance.io.headers import check_size
from pyimportance.io.output import write_bytes
from pyimportance.io.storage import File, open_files
from pyimportance.shards.index_file import encode
from pyimportance.shards.journal import CRC32C
from pyimportance.shards.manifest import IndexInfo, ShardInfo
from pyimportance.shards.sample_index import SampleIndex

_LARGEST: Final = float(np.finfo(np.float32).max)


@contextmanager
def open_sources(
    index: SampleIndex, paths: Sequence[str] | None = None, tier: str = "origin"
) -> Iterator[list[File]]:
    """The tars of an index, open for copying: ``paths`` in their place, where copies lie.

    Raises DataError if one is missing or has another size than when it was indexed, ArgumentError if they are
    more than this process may have open.
    """
    with open_files(paths or index.files, tier=tier) as files, ExitStack() as stack:
        tars = [stack.enter_context(content_of(file)) for file in files]
        for number, tar in enumerate(tars):
            check_size(index, number, tar)
        yield tars


def describe(index: SampleIndex, shards: Sequence[ShardInfo]) -> tuple[ShardInfo, ...]:
    """``shards`` (one per file of ``index``) with live samples and score range as the index has them."""
    bounds = np.searchsorted(index.file, np.arange(len(shards) + 1)).tolist()
    described = []
    for shard, start, end in zip(shards, bounds[:-1], bounds[1:], strict=True):
        low = high = None
        if index.score is not None:
            known = index.score[start:end][~np.isnan(index.score[start:end])]
            if known.size:
                low, high = np.clip([known.min(), known.max()], -_LARGEST, _LARGEST).tolist()
        described.append(replace(shard, live=end - start, score_min=low, score_max=high))
    return tuple(described)


def write_worker_index(root: str, name: str, index: SampleIndex) -> IndexInfo:
    """Writes a worker's index atomically, and says what the manifest must."""
    data = encode(index)
    crc32c = _C.crc32c(data)
    write_bytes(urls.join(root, name), data, notes_of(crc32c))
    return IndexInfo(name, len(data), index.num_samples, crc32c)


def notes_of(crc32c: int) -> dict[str, str]:
    """What goes with an object of ours in a store; `StoreJournal` reads it."""
    return {CRC32C: f"{crc32c:08x}"}
