"""Whether an index lists what lies in a tar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pyimportance.io.frames import Framed
from pyimportance.io.storage import File
from pyimportance.shards.combine import parts_of, sums_of
from pyimportance.shards.sample_index import SampleIndex


def is_listed(index: SampleIndex, number: int, tar: File, columns: Any) -> bool:
    """Whether the index lists for its ``number``-th tar just what native code found in it."""
    start, end = np.searchsorted(index.file, [number, number + 1]).tolist()
    first, last = int(index.part_start[start]), int(index.part_start[end])
    starts, text = index.key_buffers
    listed = {
        "offset": index.offset[start:end],
        "nbytes": index.nbytes[start:end],
        "part_start": index.part_start[start : end + 1] - first,
        "part_offset": index.part_offset[first:last],
        "part_size": index.part_size[first:last],
        "key_offsets": starts[start : end + 1] - starts[start],
        "key_text": text[starts[start] : starts[end]],
    }
    if index.part_crc32c is not None and columns["part_crc32c"] is not None:
        listed["part_crc32c"] = index.part_crc32c[first:last]
    if not all(np.array_equal(values, columns[name]) for name, values in listed.items()):
        return False
    if index.frame is not None and isinstance(tar, Framed):
        frames = tar.frame_of(columns["offset"])
        if not np.array_equal(index.frame[start:end], frames):
            return False
    names = [extension.lower() for extension in columns["extensions"]]
    return np.array_equal(_recoded(index.extensions, index.part_ext[first:last], names), columns["part_ext"])


def rows_not_there(index: SampleIndex, found: SampleIndex) -> list[int]:
    """The rows of ``index``, of one tar, that are not in it as ``found`` has its samples."""
    own = np.flatnonzero(np.isin(index.offset, found.offset))
    rows = np.searchsorted(found.offset, index.offset[own])
    same = found.nbytes[rows] == index.nbytes[own]
    same &= np.asarray(pc.equal(found.keys.take(pa.array(rows)), index.keys.take(pa.array(own))))
    same &= np.diff(found.part_start)[rows] == np.diff(index.part_start)[own]
    own, rows = own[same], rows[same]
    sound = np.zeros(index.num_samples, bool)
    sound[own] = _same_parts(index, own, found, rows)
    rows_wrong: list[int] = np.flatnonzero(~sound).tolist()
    return rows_wrong


def payloads_not_listed(
    index: SampleIndex, found: SampleIndex, but: Sequence[int]
) -> list[tuple[int, int, int]]:
    """(row, part, what it sums to) of each payload of ``index``, of one tar, that sums to something else in
    ``found``; ``but`` those of rows that are not there.
    """
    if index.part_crc32c is None or found.part_crc32c is None or found.num_samples == 0:
        return []
    row = np.repeat(np.arange(index.num_samples), np.diff(index.part_start))
    sums = sums_of(index, found)
    parts = np.flatnonzero((sums != index.part_crc32c) & ~np.isin(row, but))
    return list(zip(row[parts].tolist(), parts.tolist(), sums[parts].tolist(), strict=True))


def _recoded(extensions: Sequence[str], codes: NDArray[np.int32], others: Sequence[str]) -> NDArray[np.int32]:
    """``codes`` into ``extensions`` as those into ``others``; -1 where it has none such."""
    code = {extension: i for i, extension in enumerate(others)}
    return np.array([code.get(extension, -1) for extension in extensions], np.int32)[codes]


def _same_parts(
    a: SampleIndex, a_rows: NDArray[np.int64], b: SampleIndex, b_rows: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """bool [n]: whether samples with as many parts have the same ones (both list them in file order)."""
    start, p = parts_of(a, a_rows)
    _, q = parts_of(b, b_rows)
    equal = (_recoded(a.extensions, a.part_ext[p], b.extensions) == b.part_ext[q]) & (
        a.part_size[p] == b.part_size[q]
    )
    equal &= a.part_offset[p] == b.part_offset[q]
    if a.frame is not None and b.frame is not None:
        equal &= np.repeat(a.frame[a_rows] == b.frame[b_rows], np.diff(start))
    wrong = np.concatenate([np.zeros(1, np.int64), np.cumsum(~equal)])
    same: NDArray[np.bool_] = wrong[start[1:]] == wrong[start[:-1]]
    return same
