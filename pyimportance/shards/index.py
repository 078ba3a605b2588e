"""index: tar files -> SampleIndex, by one pass over their headers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pyimportance import _C
from pyimportance.checks import check_flag, check_integer
from pyimportance.errors import ArgumentError, DataError
from pyimportance.io.frames import Framed, content_of
from pyimportance.io.meter import Meter
from pyimportance.io.storage import File, open_file, open_files
from pyimportance.io.urls import is_url, public
from pyimportance.shards import keys
from pyimportance.shards.combine import concatenate, keep
from pyimportance.shards.sample_index import SampleIndex
from pyimportance.shards.streams.recognise import recognise
from pyimportance.shards.streams.stream import Data, Stream
from pyimportance.shards.streams.tars import stream_of

if TYPE_CHECKING:
    from pyimportance.io.node_cache import NodeCache

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (bytes done, bytes in all), now and then and at the end."""

_THREADS = 4  # files at a time: enough to hide the latency of a disk
_REMOTE_THREADS = 8  # that of a network, of each of which some ranges are under way
_TOGETHER = 16  # local files that one call reads, so that threads seldom wait for each other


def index(
    source: Data,
    *,
    spool: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    allow_missing_eof: bool = False,
    meter: Meter | None = None,
    progress: Progress | None = None,
    cache: NodeCache | None = None,
    checksums: bool = False,
) -> SampleIndex:
    """Finds every sample of a source: key, tar, place, parts. Payloads are not decoded.

    source             WebDataset tars: a path, directory, URL, pattern, brace expression, or a list of them
                       (see `expand`). With ``spool`` also compressed tars, folders of files, Parquet files,
                       datasets of Hugging Face, MDS directories and iterables of samples as dicts (see
                       `streams`)
    spool              a directory for a copy of the source in plain tars, which is what is indexed (see
                       `spool`); tars are copied as well
    limit              take the first so many samples; what follows is not looked at
    allow_missing_eof  take tars without end-of-archive blocks too (a tar cut between members looks like one)
    meter              counts what was read, as "index"; for a spool as "origin"
    progress           called with (bytes of tars done, bytes of tars in all)
    cache              of this node: what is read of tars behind URLs is fetched by one of its processes, and
                       found there by the others, as long as the server says that they are the same
    checksums          payloads are read as well, and their CRC32C is taken up: whoever copies samples by the
                       index compares, later also from shards written by it. (Those of a spool always are)

    The sample with id i is the i-th of the source, tars in given order, members in file order.
    Raises ArgumentError where the source names nothing, or is read in order and there is no ``spool``;
    DataError with file, member and offset for a tar that is damaged, truncated or compressed, and for samples
    that a reader would not see whole: parts that are not adjacent, a repeated extension, a link or sparse
    file, a name that leads out of the folder it is unpacked into (``..``, a slash at its start). That a key
    occurs in two tars is no error here; see ``keys`` of `write_shards`.
    """
    limit = None if limit is None else check_integer("limit", limit, 1)
    how = _How(check_flag("allow_missing_eof", allow_missing_eof), check_flag("checksums", checksums))
    files = recognise(source)
    if spool is not None:
        from pyimportance.shards.spool import spool_stream

        stream = files if isinstance(files, Stream) else stream_of(files)
        whole = spool_stream(
            stream, spool, allow_missing_eof=allow_missing_eof, meter=meter, progress=progress
        )
        return whole if limit is None else keep(whole, whole.ids < limit)
    if isinstance(files, Stream):
        raise ArgumentError(
            f"source is {files.what}, which is read from its start to its end; give spool=DIR, a directory "
            "for a copy of it in plain tars"
        )
    if limit is None:
        parts = _scan_all(files, how, meter, progress, cache)
    else:
        parts = list(_scan_first(files, how, meter, limit, cache))
    whole = concatenate(parts, numbered=True)
    if whole.num_samples == 0:
        raise DataError(
            "holds no samples (members named KEY.EXTENSION)", path=", ".join(map(public, files[:3]))
        )
    return whole


@dataclass(frozen=True)
class _How:
    """How tars are read, see `index`."""

    allow_missing_eof: bool = False
    checksums: bool = False


def _scan_all(
    files: list[str],
    how: _How,
    meter: Meter | None,
    progress: Progress | None,
    cache: NodeCache | None,
) -> list[SampleIndex]:
    parts: list[SampleIndex] = []
    total = done = 0
    urls = [f for f in files if is_url(f)]
    with (
        _opened(urls, meter, cache) as opened,
        ThreadPoolExecutor(_REMOTE_THREADS if urls else _THREADS) as pool,
    ):
        remote = dict(zip(urls, opened, strict=True))
        if progress is not None:
            local = (f for f in files if f not in remote and os.path.exists(f))
            total = sum(file.size for file in opened) + sum(map(os.path.getsize, local))
        together = 1 if urls else min(_TOGETHER, -(-len(files) // _THREADS))

        def scan(start: int) -> SampleIndex:
            with ExitStack() as stack:
                some = [
                    (path, remote.get(path) or stack.enter_context(_open(path, meter)))
                    for path in files[start : start + together]
                ]
                return _scan(some, how)

        try:
            for part in pool.map(scan, range(0, len(files), together)):
                parts.append(part)
                done += int(part.file_bytes.sum())
                if progress is not None:
                    progress(done, total)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return parts


def _opened(
    urls: list[str], meter: Meter | None, cache: NodeCache | None
) -> AbstractContextManager[Sequence[File]]:
    if cache is None:
        return open_files(urls, meter, "index")
    from pyimportance.io.through import opened_through

    return opened_through(cache, urls, meter, "index")


def _scan_first(
    files: list[str], how: _How, meter: Meter | None, limit: int, cache: NodeCache | None
) -> Iterator[SampleIndex]:
    for file in files:
        part = _scan_one(file, how, meter, limit, cache)
        yield part
        limit -= part.num_samples
        if limit <= 0:
            return


def _scan_one(file: str, how: _How, meter: Meter | None, limit: int, cache: NodeCache | None) -> SampleIndex:
    if is_url(file):
        with _opened([file], meter, cache) as (opened,):
            return _scan([(file, opened)], how, limit)
    with _open(file, meter) as opened:
        return _scan([(file, opened)], how, limit)


def scan_each(
    files: Sequence[str], meter: Meter | None = None, cache: NodeCache | None = None
) -> Iterator[SampleIndex | DataError]:
    """Of each tar its samples, ids from 0, or what is wrong with it."""

    def scan(file: str) -> SampleIndex | DataError:
        try:
            return _scan_one(file, _How(), meter, -1, cache)
        except DataError as error:
            return error

    with ThreadPoolExecutor(_REMOTE_THREADS if any(map(is_url, files)) else _THREADS) as pool:
        yield from pool.map(scan, files)


def scan_file(path: str, meter: Meter | None = None, *, checksums: bool = False) -> SampleIndex:
    """The samples of one tar, ids from 0."""
    with _open(path, meter) as file:
        return _scan([(path, file)], _How(checksums=checksums))


def scan_copy(path: str, allow_missing_eof: bool) -> tuple[int, SampleIndex]:
    """(CRC32C of a local tar, its samples with checksums, ids from 0), by reading it once."""
    with _open(path, None) as file:
        ((crc32c, _, _, found, wrong),) = _C.tar_sum_and_scan(
            [(file.handle, file.size, path)], allow_missing_eof, checksums=True
        )
        if wrong is not None:
            raise DataError(wrong[0], path=path, member=wrong[1], offset=wrong[2])
        try:
            return crc32c, index_of([(path, file)], found)
        except ArgumentError as e:
            raise DataError(str(e), path=path) from None


def _open(path: str, meter: Meter | None) -> File:
    try:
        path.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode(errors="backslashreplace")
        raise DataError("its name is not UTF-8", path=shown) from None
    return content_of(open_file(path, meter, "index"))


def _scan(files: Sequence[tuple[str, File]], how: _How, limit: int = -1) -> SampleIndex:
    """The samples of tars, (what the index calls it, the file) each; ids from 0."""
    opened = [(file.handle, file.size, file.path) for _, file in files]
    found, samples = _C.tar_scan(opened, how.allow_missing_eof, limit, how.checksums)
    files[0][1].charge(found["bytes_read"], found["requests"])
    try:
        return index_of(files, found, samples)
    except ArgumentError as e:
        for each in files if len(files) > 1 else ():  # whichever it is
            _scan([each], how, limit)
        raise DataError(str(e), path=files[0][1].path) from None


def index_of(
    files: Sequence[tuple[str, File]], found: Any, samples: NDArray[np.int64] | None = None
) -> SampleIndex:
    """What native code found in tars, so many ``samples`` in each (None: there is one tar).

    Raises ArgumentError where no index could say it.
    """
    N = len(found["offset"])
    # Readers fold the case of extensions as Python does; beyond ASCII that is left to Python.
    folded = [e.lower() for e in found["extensions"]]
    extensions = list(dict.fromkeys(folded))
    code = np.array([extensions.index(e) for e in folded], np.int32)
    part_ext = found["part_ext"] if extensions == found["extensions"] else code[found["part_ext"]]
    _, first = files[0]
    return SampleIndex(
        files=tuple(path for path, _ in files),
        file_bytes=np.array([file.size for _, file in files], np.int64),
        ids=np.arange(N, dtype=np.int64),
        keys=keys.from_buffers(found["key_offsets"], found["key_text"]),
        file=np.repeat(np.arange(len(files), dtype=np.int32), N if samples is None else samples),
        offset=found["offset"],
        nbytes=found["nbytes"],
        extensions=tuple(extensions),
        part_start=found["part_start"],
        part_ext=part_ext,
        part_offset=found["part_offset"],
        part_size=found["part_size"],
        part_crc32c=found["part_crc32c"],
        frame=first.frame_of(found["offset"]) if isinstance(first, Framed) else None,
    )
