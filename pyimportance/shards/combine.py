"""SampleIndex -> SampleIndex: one after another, a part of one, none of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyimportance.shards.sample_index import SampleIndex

if TYPE_CHECKING:
    from pyimportance.order.values import Partition
    from pyimportance.shards.plan import Selection


def concatenate(indexes: Sequence[SampleIndex], *, numbered: bool = False) -> SampleIndex:
    """All samples of ``indexes``, files numbered on; extensions sorted.

    score, bin and frame are kept where every index has them, checksums where all samples have. If
    ``numbered``, ids are 0, 1, 2 ..
    """
    indexes = indexes or [empty()]
    extensions = sorted({e for i in indexes for e in i.extensions})
    code = {e: np.int32(c) for c, e in enumerate(extensions)}
    file_base = np.cumsum([0] + [len(i.files) for i in indexes])
    part_base = np.cumsum([0] + [len(i.part_ext) for i in indexes])
    recoded = [np.array([code[e] for e in i.extensions], np.int32)[i.part_ext] for i in indexes]
    starts = [i.part_start[:-1] + base for i, base in zip(indexes, part_base, strict=False)]
    scores = [i.score for i in indexes if i.score is not None]
    bins = [i.bin for i in indexes if i.bin is not None]
    frames = [i.frame for i in indexes if i.frame is not None]
    sums = [i.part_crc32c for i in indexes if i.part_crc32c is not None]
    summed = sum(map(len, sums)) == part_base[-1] and bool(sums)
    return SampleIndex(
        files=tuple(f for i in indexes for f in i.files),
        file_bytes=np.concatenate([i.file_bytes for i in indexes]),
        ids=np.arange(sum(map(len, indexes))) if numbered else np.concatenate([i.ids for i in indexes]),
        keys=pa.concat_arrays([i.keys for i in indexes]),
        file=np.concatenate(
            [i.file + np.int32(b) for i, b in zip(indexes, file_base, strict=False)], dtype=np.int32
        ),
        offset=np.concatenate([i.offset for i in indexes]),
        nbytes=np.concatenate([i.nbytes for i in indexes]),
        extensions=tuple(extensions),
        part_start=np.concatenate([*starts, part_base[-1:]], dtype=np.int64),
        part_ext=np.concatenate(recoded, dtype=np.int32),
        part_offset=np.concatenate([i.part_offset for i in indexes]),
        part_size=np.concatenate([i.part_size for i in indexes]),
        part_crc32c=np.concatenate(sums) if summed else None,
        score=np.concatenate(scores) if len(scores) == len(indexes) else None,
        bin=np.concatenate(bins) if len(bins) == len(indexes) else None,
        frame=np.concatenate(frames) if len(frames) == len(indexes) else None,
    )


def keep(index: SampleIndex, wanted: NDArray[np.bool_]) -> SampleIndex:
    """The samples where ``wanted`` (bool [N]) is true, in their order.

    Files and extensions that none of them has are left out: the same samples, whatever they are a part of.
    """
    rows = np.flatnonzero(wanted)
    used, file = np.unique(index.file[rows], return_inverse=True)
    part_start, parts = parts_of(index, rows)
    has = np.bincount(index.part_ext[parts], minlength=len(index.extensions)) > 0
    extension = np.cumsum(has, dtype=np.int32) - np.int32(1)  # what is left is counted anew
    return replace(
        index,
        files=tuple(index.files[f] for f in used),
        file_bytes=index.file_bytes[used],
        ids=index.ids[rows],
        keys=index.keys.take(pa.array(rows)),
        file=file.astype(np.int32),
        offset=index.offset[rows],
        nbytes=index.nbytes[rows],
        extensions=tuple(e for e, kept in zip(index.extensions, has, strict=True) if kept),
        part_start=part_start,
        part_ext=extension[index.part_ext[parts]],
        part_offset=index.part_offset[parts],
        part_size=index.part_size[parts],
        part_crc32c=None if index.part_crc32c is None else index.part_crc32c[parts],
        score=None if index.score is None else index.score[rows],
        bin=None if index.bin is None else index.bin[rows],
        frame=None if index.frame is None else index.frame[rows],
    )


def of_file(index: SampleIndex, number: int) -> SampleIndex:
    """The samples in the ``number``-th file, which is all that is left of the files."""
    start, end = np.searchsorted(index.file, [number, number + 1]).tolist()
    first, last = int(index.part_start[start]), int(index.part_start[end])
    return replace(
        index,
        files=index.files[number : number + 1],
        file_bytes=index.file_bytes[number : number + 1],
        ids=index.ids[start:end],
        keys=index.keys.slice(start, end - start),
        file=np.zeros(end - start, np.int32),
        offset=index.offset[start:end],
        nbytes=index.nbytes[start:end],
        part_start=index.part_start[start : end + 1] - first,
        part_ext=index.part_ext[first:last],
        part_offset=index.part_offset[first:last],
        part_size=index.part_size[first:last],
        part_crc32c=None if index.part_crc32c is None else index.part_crc32c[first:last],
        score=None if index.score is None else index.score[start:end],
        bin=None if index.bin is None else index.bin[start:end],
        frame=None if index.frame is None else index.frame[start:end],
    )


def empty() -> SampleIndex:
    """No samples, in no files."""
    none = np.zeros(0, np.int64)
    return SampleIndex(
        files=(),
        file_bytes=none,
        ids=none,
        keys=pa.array([], pa.large_string()),
        file=none.astype(np.int32),
        offset=none,
        nbytes=none,
        extensions=(),
        part_start=np.zeros(1, np.int64),
        part_ext=none.astype(np.int32),
        part_offset=none,
        part_size=none,
    )


def with_scores(index: SampleIndex, partition: Partition, worker: int) -> SampleIndex:
    """``index``, all of whose samples are ``worker``'s, with the scores and bins ``partition`` gives them."""
    cuts = partition.offsets[worker * partition.bins : (worker + 1) * partition.bins + 1]
    start, end = int(cuts[0]), int(cuts[-1])
    own = partition.order[start:end]
    by_id = np.argsort(own)
    place = by_id[np.searchsorted(own, index.ids, sorter=by_id)]
    bin_of_place = np.repeat(np.arange(partition.bins, dtype=np.int32), np.diff(cuts))
    return replace(
        index,
        score=None if partition.values is None else partition.values[start:end][place],
        bin=bin_of_place[place],
    )


def parts_of(
    index: SampleIndex | Selection, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(part_start int64 [n + 1] of these rows, int64 [P] which parts of the index those are)"""
    counts = np.diff(index.part_start)[rows]
    start = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(counts, out=start[1:])
    parts = np.arange(start[-1]) + np.repeat(index.part_start[rows] - start[:-1], counts)
    return start, parts


def sums_of(index: SampleIndex, copies: SampleIndex) -> NDArray[np.uint32]:
    """uint32 [P]: what the payloads of ``index`` sum to, as ``copies``, of the same files, has it.

    0 for parts that are not there: whoever reads them finds other headers.
    """
    assert copies.part_crc32c is not None
    base = np.concatenate([np.zeros(1, np.int64), np.cumsum(copies.file_bytes)])

    def places(of: SampleIndex) -> NDArray[np.int64]:
        return np.repeat(base[of.file], np.diff(of.part_start)) + of.part_offset

    known, wanted = places(copies), places(index)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[at] == wanted, copies.part_crc32c[at], np.uint32(0))
