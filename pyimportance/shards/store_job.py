"""A job that writes to a store: as job.py has it for a directory, without locks and new names.

``job.json`` says whose the folder is; only one job can create it. Every shard is an object that appears
whole, its CRC32C in its metadata. Twins of a job write the same bytes: that they do at once does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace

from pyimportance.errors import ArgumentError, OutputError
from pyimportance.io import upload, urls
from pyimportance.io.output import write_last
from pyimportance.io.storage import read_whole
from pyimportance.shards import job as jobs
from pyimportance.shards.journal import CRC32C, encode, parse
from pyimportance.shards.manifest import POINTER, manifest_name, worker_directory


class StoreJournal:
    """What is finished, as the store itself tells it."""

    def __init__(self, root: str, there: Mapping[str, int]) -> None:
        self._root, self._there = root, there

    def add(self, path: str, nbytes: int, crc32c: int, *, durable: bool = True) -> None:
        """Nothing: an object that is there is finished."""

    def finished(self, path: str) -> tuple[int, int] | None:
        """See `Journal.finished`."""
        if path not in self._there:
            return None
        with suppress(ValueError):
            return self._there[path], int(upload.notes_of(urls.join(self._root, path)).get(CRC32C, ""), 16)
        return None

    def settle(self, paths: Iterable[str]) -> None:
        """Nothing: there are no notes in an order."""


def root_of(url: str) -> str:
    """The URL of a folder to write to. Raises ArgumentError where none can be."""
    parsed = urls.parse(url)
    if parsed.is_http:
        raise ArgumentError(f"out={urls.public(url)!r}: web servers take no shards; s3, gs and az do")
    if not parsed.host:
        raise ArgumentError(f"out={url!r}: names no bucket")
    return str(replace(parsed, path=parsed.path.rstrip("/")))


@contextmanager
def claim(
    out: str, job: str, versions: jobs.Versions, workers: int, resume: bool
) -> Iterator[StoreJournal | None]:
    """See `job.claim`. What another job began stays, however little it is."""
    there, path = upload.below(out), urls.join(out, jobs.JOB)
    if jobs.JOB in there:
        jobs.check_head(out, parse(read_whole(path))[0], job, versions, finished=POINTER in there)
        if not resume:
            raise OutputError(f"{out}: holds shards already, and resume is False")
    elif there:
        raise OutputError(f"{out}: holds something else ({min(there)!r}); give an empty or new folder")
    else:
        write_last(path, encode({"job": job, "changed": dict(versions)}))
    if POINTER in there:
        jobs.check_finished(out, job)
    elif others := [name for name in there if not _is_ours(name, workers)]:
        raise OutputError(
            f"{urls.join(out, min(others))}: is no part of this job; give an empty or new folder"
        )
    yield None if POINTER in there else StoreJournal(out, there)


def _is_ours(name: str, workers: int) -> bool:
    folder, _, inside = name.rpartition("/")
    if not folder:
        return inside in (jobs.JOB, manifest_name(0))
    return folder in map(worker_directory, range(workers)) and jobs.INSIDE.fullmatch(inside) is not None
