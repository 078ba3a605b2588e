"""spool: what can only be read in order -> plain tars in a directory, and their index.

The source is read once, a few of its units at a time, each from its start to its end. The directory is
itself a source: its tars, sorted by name, are the samples in order.

    spool/000000-train-00.tar               a tar as it was, decompressed
    spool/000001-train-01-000000.tar        samples as canonical tars, cut at shard_bytes
    spool/index.arrow                       the index; written last
    spool/job.json                          what it is a spool of, and what of it is finished

While a spool is written each unit has an index of its own (000000-train-00.arrow) once its tars are whole:
what has one is not read again.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from typing import Any

from pyimportance.checks import check_flag, check_integer
from pyimportance.errors import ArgumentError, OutputError
from pyimportance.io import atomic
from pyimportance.io.lock import locked
from pyimportance.io.meter import Meter
from pyimportance.shards import job
from pyimportance.shards.index import Progress
from pyimportance.shards.journal import Journal
from pyimportance.shards.sample_index import SampleIndex
from pyimportance.shards.spool_units import INDEX, Counter, Run, is_whole, read, remove
from pyimportance.shards.streams import tars
from pyimportance.shards.streams.recognise import recognise
from pyimportance.shards.streams.stream import Data, State, Stream, version_of


def spool(
    source: Data,
    directory: str | os.PathLike[str],
    *,
    shard_bytes: int = 256 << 20,
    allow_missing_eof: bool = False,
    meter: Meter | None = None,
    progress: Progress | None = None,
) -> SampleIndex:
    """Copies a source to plain tars in ``directory``, and indexes them: compressed tars, folders of files,
    Parquet, Hugging Face's datasets, MDS directories, iterables of samples, and tars as well (see `streams`).

    directory          new or empty, or with a spool of the same source: if finished, that is what is returned
    shard_bytes        size at which a tar of samples is full; tars of a source stay as they are
    allow_missing_eof  as in `index`
    meter              counts what is read of the source, as "origin"
    progress           called with (bytes of the source read, bytes of it in all; 0: unknown)

    Files appear whole or not at all, the index last; interrupted and started again it does not read again
    what is finished, and ends with the same bytes. A second process that is given the same waits for the
    first. A spool is taken for another source's where names, sizes or times of files differ, a dataset's
    fingerprint, or the first sample of an iterable: other data behind the same first sample cannot be told.
    A source that changes while it is read is a DataError.
    Memory: the index; for each of at most 4 units that are read at a time 16 MiB or two of the largest
    sample, and the reader's own (of zstd at most 256 MiB, of Parquet some 4 times a row group).
    Raises ArgumentError for what is no source, DataError naming file and place for one that is damaged,
    OutputError (no space; ``directory`` holds something else).
    """
    found = recognise(source)
    stream = found if isinstance(found, Stream) else tars.stream_of(found)
    return spool_stream(
        stream,
        directory,
        shard_bytes=shard_bytes,
        allow_missing_eof=allow_missing_eof,
        meter=meter,
        progress=progress,
    )


def spool_stream(
    stream: Stream,
    directory: str | os.PathLike[str],
    *,
    shard_bytes: int = 256 << 20,
    allow_missing_eof: bool = False,
    meter: Meter | None = None,
    progress: Progress | None = None,
    temporary: bool = False,
) -> SampleIndex:
    """`spool`, for a source that was recognised already. If ``temporary``, it replaces one of
    another source.
    """
    shard_bytes = check_integer("shard_bytes", shard_bytes, 1)
    check_flag("allow_missing_eof", allow_missing_eof)
    root = os.path.abspath(os.fspath(directory))
    if stream.folder is not None and _lies_in(root, stream.folder):
        raise ArgumentError(f"spool={root!r}: lies in {stream.what}, of which it would become a part")
    job.check_directory(root)
    states = stream.states()
    options = {"shard_bytes": shard_bytes, "allow_missing_eof": allow_missing_eof}
    digest = _digest(stream, states, options)
    atomic.make_directory(root)
    with locked(os.path.join(root, job.JOB), wait=True) as file:
        journal = Journal(file)
        _enter(journal, root, digest, stream.what, temporary)
        if not is_whole(journal, root, INDEX):
            run = Run(root, journal, Counter(meter, progress, states), shard_bytes, allow_missing_eof)
            run.all_units(stream, states)
        remove(root, lambda name: name.endswith(".arrow") and name != INDEX)
        journal.settle([INDEX])
        return read(root, journal, INDEX)


def survey(stream: Stream, *, progress: Progress | None = None) -> SampleIndex:
    """The index that a spool of the source would have, of tars that are gone.

    They are made in a temporary directory (as TMPDIR says), and each is removed once it is indexed: at most 4
    are there at a time, of 256 MiB or as large as a tar of the source is without its compression. Raises what
    `spool` does.
    """
    states = stream.states()
    with tempfile.TemporaryDirectory(prefix="pyimportance-") as root, locked(f"{root}/{job.JOB}") as file:
        journal = Journal(file)
        journal.begin({"job": "survey"})
        run = Run(root, journal, Counter(None, progress, states), 256 << 20, False, keep=False)
        return run.all_units(stream, states)


def _lies_in(path: str, folder: str) -> bool:
    real, real_folder = os.path.realpath(path), os.path.realpath(folder)
    return os.path.commonpath([real, real_folder]) == real_folder


def _digest(stream: Stream, states: list[State], options: dict[str, Any]) -> str:
    fields = ["spool 2", version_of(stream, states), options]
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def remove_spool(directory: str) -> None:
    """Removes a spool, and the directory if nothing else is there."""
    with locked(os.path.join(directory, job.JOB)):
        remove(directory, lambda name: True)
        os.unlink(os.path.join(directory, job.JOB))
    with suppress(OSError):
        os.rmdir(directory)


def _enter(journal: Journal, root: str, digest: str, what: str, temporary: bool) -> None:
    """Makes ``root`` this job's own; what was half-written vanishes."""
    if journal.head is not None and journal.head["job"] == digest:
        remove(root, lambda name: atomic.temporary_of(name) is not None)
        return
    if journal.head is not None and journal.has_finished and not temporary:
        raise OutputError(
            f"{root}: holds a spool of {journal.head.get('source', 'something else')} in another state, or "
            f"by other options, than {what} is now; give an empty or new directory"
        )
    if journal.head is not None:
        remove(root, lambda name: True)  # as of a job that ended before its first unit
    if others := sorted(set(os.listdir(root)) - {job.JOB}):
        raise OutputError(f"{root}: holds something else ({others[0]!r}); give an empty or new directory")
    journal.begin({"job": digest, "source": what})
