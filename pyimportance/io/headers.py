"""Bytes that were read of a tar, against the index by which they were read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyimportance import _C
from pyimportance.errors import DataError
from pyimportance.io.storage import File

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pyimportance.shards.sample_index import SampleIndex


def check_size(index: SampleIndex, number: int, file: File) -> None:
    """Raises DataError if ``file``, the ``number``-th tar of ``index``, has another size than there."""
    expected = int(index.file_bytes[number])
    if file.size != expected:
        raise DataError(f"has {file.size} bytes; it had {expected} when it was indexed", path=file.path)


def check_headers(
    index: SampleIndex, rows: NDArray[np.int64], file: File, data: bytes, start: int, *, ours: bool
) -> None:
    """Compares the headers of the samples at ``rows`` in ``data``, what ``file`` holds from ``start`` on.

    Headers before ``start`` are not looked at. ours: the tar is a shard, which nobody may write again.
    Raises DataError naming file, member, offset and what was found, unless names and sizes are the index's.
    """
    _C.tar_check(
        (file.handle, file.size, file.path),
        ours,
        data,
        start,
        rows,
        *index.key_buffers,
        index.extensions,
        index.offset,
        index.part_start,
        index.part_ext,
        index.part_size,
        index.part_offset,
    )
