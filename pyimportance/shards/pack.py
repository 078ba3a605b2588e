"""Samples in memory -> canonical tars, as the copier writes them from other tars."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import count

import numpy as np
import pyarrow as pa

from pyimportance import _C
from pyimportance.errors import ArgumentError, DataError
from pyimportance.io import atomic
from pyimportance.shards import keys as key_buffers
from pyimportance.shards.layout import END_BYTES
from pyimportance.shards.sample_index import BLOCK, check_extension
from pyimportance.shards.streams.stream import Sample

_BATCH = 4 << 20  # payload bytes
_SAMPLES = 1024


def write_tars(
    samples: Iterable[Sample], path_of: Callable[[int], str], tar_bytes: int, where: str
) -> Iterator[tuple[str, int]]:
    """Writes tars of at most ``tar_bytes`` (more only where one sample is larger), parts sorted by extension.

    Yields the path of each, ``path_of(0)`` and so on, and its CRC32C, once it is whole. Memory: 4 MiB of
    samples, or the largest one, twice. Raises DataError (``where`` is the source) for a key that a reader
    would not find again, or that an earlier sample of the same tar has; OutputError.
    """
    encoded = _encoded(samples, where)
    sample = next(encoded, None)
    for number in count():
        if sample is None:
            return
        with atomic.writing(path := path_of(number)) as out:
            nbytes, crc32c, known = 0, 0, set[str]()
            while sample is not None and (not known or nbytes + len(sample[1]) + END_BYTES <= tar_bytes):
                key, data = sample
                if key in known:
                    raise DataError("two samples have this key", path=where, member=key)
                known.add(key)
                out.write(data)
                nbytes, crc32c = nbytes + len(data), _C.crc32c(data, crc32c)
                sample = next(encoded, None)
            out.write(end := bytes(END_BYTES))
        yield path, _C.crc32c(end, crc32c)


def _encoded(samples: Iterable[Sample], where: str) -> Iterator[tuple[str, bytes]]:
    """(key, the bytes of the tar) of each sample."""
    batch: list[Sample] = []
    nbytes = 0
    for sample in samples:
        batch.append(sample)
        nbytes += sum(map(len, sample[1].values()))
        if nbytes >= _BATCH or len(batch) >= _SAMPLES:
            yield from _encode(batch, where)
            batch, nbytes = [], 0
    yield from _encode(batch, where)


def _encode(samples: list[Sample], where: str) -> Iterator[tuple[str, bytes]]:
    extensions = sorted({e for _, parts in samples for e in parts})
    code = {e: i for i, e in enumerate(extensions)}
    ordered = [sorted(parts.items()) for _, parts in samples]
    start = np.cumsum([0, *map(len, ordered)], dtype=np.int64)
    try:
        for extension in extensions:
            check_extension(extension)
        names = pa.array([key for key, _ in samples], pa.large_string())
        headers, sizes = _C.tar_headers(
            *key_buffers.to_buffers(names),
            extensions,
            start,
            np.array([code[e] for parts in ordered for e, _ in parts], np.int32),
            np.array([len(data) for parts in ordered for _, data in parts], np.int64),
        )
    except (ArgumentError, UnicodeEncodeError) as e:
        raise DataError(str(e), path=where) from None
    at, part = 0, 0
    for (key, _), parts in zip(samples, ordered, strict=True):
        pieces = []
        for _, data in parts:
            end = at + int(sizes[part])
            pieces += [headers[at:end], data, bytes(-len(data) % BLOCK)]
            at, part = end, part + 1
        yield key, b"".join(pieces)
