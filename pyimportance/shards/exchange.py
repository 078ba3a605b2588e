"""Where write_shards reads: the source itself, or a spool of it that was written before."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from pyimportance.errors import ArgumentError
from pyimportance.io.meter import Meter
from pyimportance.io.storage import File
from pyimportance.io.urls import is_url
from pyimportance.shards import copy, job
from pyimportance.shards.combine import sums_of
from pyimportance.shards.estimate import Costs, estimate_work
from pyimportance.shards.index import Progress
from pyimportance.shards.index import index as make_index
from pyimportance.shards.sample_index import SampleIndex
from pyimportance.shards.spool import remove_spool, spool_stream
from pyimportance.shards.streams import tars
from pyimportance.shards.streams.recognise import recognise
from pyimportance.shards.streams.stream import Data, Stream
from pyimportance.shards.work import Work

Exchange: TypeAlias = Literal["auto", "direct", "spool"]
EXCHANGES: Final = ("auto", "direct", "spool")


@dataclass
class Origin:
    """A source whose samples are known.

    stream     what was spooled to make the index; None: the source is tars
    directory  of the spool, if there is to be one; removed at the end if it is ``temporary``
    """

    index: SampleIndex
    stream: Stream | None
    exchange: Exchange
    directory: str | None
    temporary: bool
    meter: Meter | None
    progress: Progress | None
    spooled: bool = False
    copies: SampleIndex | None = None  # of the tars, where they were spooled to be copied from

    @contextmanager
    def open(self, work: Work) -> Iterator[list[File]]:
        """The tars to copy from, of the index or as they were spooled; see `copy.open_sources`."""
        if self.stream is None and self._prefers_spool(work):
            stream = tars.stream_of(self.index.files)
            # A tar without its end is in the index because that was allowed.
            self.copies = spool_stream(
                stream,
                _named(self.directory),
                allow_missing_eof=True,
                meter=self.meter,
                progress=self.progress,
                temporary=self.temporary,
            )
            self.spooled = True
            with copy.open_sources(self.index, self.copies.files, "disk") as files:
                yield files
        else:
            with copy.open_sources(self.index, tier="disk" if self.spooled else "origin") as files:
                yield files

    def with_sums(self, work: Work) -> Work:
        """``work`` with what payloads summed to when they were spooled."""
        if self.copies is None:
            return work
        return replace(work, sums=sums_of(self.index, self.copies))

    def versions(self, files: Sequence[File]) -> job.Versions:
        """Of the source, not of its spool."""
        if self.stream is not None:
            return {self.stream.what: self.stream.version()}
        return job.versions_of(self.index, () if self.spooled else files)

    def remove(self) -> None:
        """Removes a spool that nobody asked for."""
        if self.temporary and self.directory is not None and os.path.isdir(self.directory):
            remove_spool(self.directory)

    def _prefers_spool(self, work: Work) -> bool:
        if self.exchange != "auto" or self.directory is None or not any(map(is_url, self.index.files)):
            return self.exchange == "spool"
        found = estimate_work(work, Costs.of(self.index.files))
        return found.cheaper == "spool" and found.spool.space <= _free(self.directory)


def origin_of(
    source: Data | SampleIndex,
    out: str,
    spool: str | os.PathLike[str] | None,
    exchange: Exchange,
    *,
    meter: Meter | None,
    progress: Progress | None,
) -> Origin:
    """Indexes a source, and spools it where it can only be read in order.

    Raises ArgumentError for an exchange that there is not, or that the source does not have; what `index`
    and `spool` raise.
    """
    check_exchange(exchange)
    directory = temporary_spool(out)
    if spool is not None:
        directory = os.path.abspath(os.fspath(spool))
    found = source if isinstance(source, SampleIndex) else recognise(source)
    stream = found if isinstance(found, Stream) else None
    if stream is not None and exchange == "direct":
        raise ArgumentError(f"exchange='direct': source is {stream.what}, which can only be read in order")
    if isinstance(found, Stream):
        whole = spool_stream(
            found, _named(directory), meter=meter, progress=progress, temporary=spool is None
        )
    else:
        whole = found if isinstance(found, SampleIndex) else make_index(found, progress=progress)
    return Origin(
        whole, stream, exchange, directory, spool is None, meter, progress, spooled=stream is not None
    )


def temporary_spool(out: str) -> str | None:
    """Where a spool goes that nobody named: beside the shards, of which there is no place in a store."""
    return None if is_url(out) else f"{os.path.abspath(out)}.spool"


def _free(directory: str) -> int:
    """Bytes that may be written where ``directory`` is, or is to be made."""
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def _named(directory: str | None) -> str:
    if directory is None:
        raise ArgumentError("spool is None, and no directory is beside a URL; name one for the source's copy")
    return directory


def check_exchange(exchange: str) -> None:
    """Raises ArgumentError for one that there is not."""
    if exchange not in EXCHANGES:
        raise ArgumentError(f"exchange={exchange!r}: allowed are {', '.join(map(repr, EXCHANGES))}")
