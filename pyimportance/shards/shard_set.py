"""ShardSet: one generation of shards, opened. Everything read from disk here is untrusted."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from pyimportance.checks import check_integer
from pyimportance.errors import ArgumentError, DataError
from pyimportance.io import urls
from pyimportance.io.meter import Meter
from pyimportance.shards.manifest import (
    POINTER,
    IndexInfo,
    Manifest,
    ShardInfo,
    manifest_name,
    path_in,
    paths_in,
    read_manifest,
    read_pointer,
)
from pyimportance.shards.sample_index import SampleIndex

if TYPE_CHECKING:
    from pyimportance.io.node_cache import NodeCache
    from pyimportance.order.values import Partition
    from pyimportance.shards.export import Format
    from pyimportance.shards.repair import RepairReport
    from pyimportance.shards.verify import VerifyReport


@dataclass(frozen=True, eq=False)
class ShardSet:
    """Get one from `ShardSet.open`, `write_shards` or `repartition`.

    root    absolute path of the directory, or its URL
    digest  SHA-256 (hex) of the generation's manifest: equal digests, equal shards
    meter   counts what is read of its indexes where a call names no other
    cache   where its manifest and indexes are kept for all processes of this node, if it is behind a URL
    """

    tier: ClassVar[str] = "disk"
    root: str
    manifest: Manifest
    digest: str
    meter: Meter | None = field(default=None, repr=False)
    cache: NodeCache | None = field(default=None, repr=False)
    _in_use: WeakValueDictionary[int, SampleIndex] = field(
        default_factory=WeakValueDictionary, init=False, repr=False
    )

    @staticmethod
    def open(
        path: str | os.PathLike[str],
        *,
        generation: int | None = None,
        meter: Meter | None = None,
        cache: NodeCache | None = None,
    ) -> ShardSet:
        """Opens the current generation in a directory or behind a URL, or the one asked for.

        Reads manifests only (tier "index"); which is the current one, always from its origin. A set on a web
        server can be read, loaded and verified; one in a store (s3, gs, az) be changed, too.
        Raises DataError naming file and field where one is not sound, and where there is no finished set.
        """
        root, is_remote = os.fspath(path), urls.is_url(path)
        if not is_remote:
            root = os.path.abspath(root)
            if not os.path.isdir(root):
                raise DataError("is no directory of shards", path=root)
            if not os.path.exists(os.path.join(root, POINTER)):
                raise DataError(
                    f"holds no {POINTER}: no shards, or their writing was not finished", path=root
                )
        current, sha256 = read_pointer(root, meter)
        wanted = current if generation is None else check_integer("generation", generation, 0)
        if wanted != current and not is_remote and not os.path.exists(path_in(root, manifest_name(wanted))):
            raise DataError(f"holds no generation {wanted}; the current one is {current}", path=root)
        manifest, digest = read_manifest(root, wanted, meter, cache)
        if wanted == current and digest != sha256:
            raise DataError(
                f"has SHA-256 {digest}; manifest.json says {sha256}",
                path=urls.public(path_in(root, manifest_name(wanted))),
            )
        return ShardSet(root, manifest, digest, meter, cache)

    @property
    def generation(self) -> int:
        return self.manifest.generation

    @property
    def workers(self) -> int:
        return self.manifest.workers

    @property
    def bins(self) -> int:
        return self.manifest.bins

    @property
    def num_samples(self) -> int:
        """Live samples: those that belong to this generation."""
        return self.manifest.samples

    @property
    def samples_per_worker(self) -> tuple[int, ...]:
        return tuple(info.samples for info in self.manifest.indexes)

    @property
    def id_bound(self) -> int:
        """The highest live id + 1: more than ``num_samples`` where samples were pruned, 0 without samples."""
        return self.manifest.id_bound

    @property
    def measure(self) -> str:
        return self.manifest.measure

    @property
    def descending(self) -> bool:
        """Whether a high score is the more important."""
        return self.manifest.descending

    @property
    def policy(self) -> str:
        return self.manifest.policy

    @property
    def shards(self) -> tuple[ShardInfo, ...]:
        return self.manifest.shards

    @property
    def is_compact(self) -> bool:
        """Whether its tars hold its live samples and no others, so that they can be read without an index.

        A repartition leaves what moved away in the old tars; `compact` writes them anew.
        """
        return all(s.live == s.samples for s in self.shards)

    def __repr__(self) -> str:
        return (
            f"ShardSet({urls.public(self.root)!r}, generation {self.generation}: {self.num_samples} samples, "
            f"{self.workers} workers x {self.bins} bins, {len(self.shards)} shards, "
            f"by {self.measure}, {self.policy})"
        )

    def path_of(self, name: str) -> str:
        """The absolute path or URL of a file of the set. Raises DataError if a link leads out of the root."""
        return path_in(self.root, name)

    def index(self, worker: int, meter: Meter | None = None) -> SampleIndex:
        """A worker's live samples, shard by shard; ids are those of the source, files absolute paths.

        An index that was read before, and is still in use somewhere in this process, is not read again.
        Raises ArgumentError for a worker that does not exist, DataError where the index does not fit the
        manifest.
        """
        if not 0 <= worker < self.workers:
            raise ArgumentError(f"worker is {worker}; this set has workers 0 to {self.workers - 1}")
        if (known := self._in_use.get(worker)) is not None:
            return known
        info = self.manifest.indexes[worker]
        path = urls.public(self.path_of(info.path))
        index = self._read_index(info, meter if meter is not None else self.meter)
        expected = [(s.path, s.content_bytes, s.live) for s in self.shards if s.worker == worker]
        live = np.diff(np.searchsorted(index.file, np.arange(len(index.files) + 1, dtype=np.int32))).tolist()
        if list(zip(index.files, index.file_bytes.tolist(), live, strict=True)) != expected:
            raise DataError("lists other shards than the manifest", path=path)
        bins = index.bin
        if bins is None or bins.min(initial=0) < 0 or bins.max(initial=0) >= self.bins:
            raise DataError(f"column 'bin' is missing or leaves 0 to {self.bins - 1}", path=path)
        if index.ids.max(initial=-1) >= self.id_bound:
            raise DataError(
                f"lists sample {index.ids.max()}; the manifest's 'id_bound' is {self.id_bound}", path=path
            )
        index = index.renamed(tuple(paths_in(self.root, index.files)))
        self._in_use[worker] = index
        return index

    def _read_index(self, info: IndexInfo, meter: Meter | None) -> SampleIndex:
        from pyimportance.shards.index_file import checked, read_index

        url = self.path_of(info.path)
        if self.cache is None or not urls.is_url(url):
            return read_index(url, meter, crc32c=info.crc32c)
        from pyimportance.io.through import read_through

        known = info.nbytes, info.crc32c
        data = read_through(self.cache, url, known, meter=meter, tier="index")
        return checked(data, urls.public(url), info.crc32c)

    def worker_of(self, ids: NDArray[np.int64]) -> NDArray[np.int32]:
        """The worker that holds each id; -1 where nobody does."""
        ids = np.asarray(ids, np.int64)
        if self.num_samples == 0:
            return np.full(ids.shape, -1, np.int32)
        ordered, holder = self._holders
        place = np.minimum(np.searchsorted(ordered, ids), len(ordered) - 1)
        return np.where(ordered[place] == ids, holder[place], np.int32(-1)).astype(np.int32)

    @cached_property
    def _holders(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """(every live id, ascending; the worker that holds it)"""
        ids = [self.index(w).ids for w in range(self.workers)]
        every = np.concatenate(ids)
        order = np.argsort(every, kind="stable")
        holder = np.repeat(np.arange(self.workers, dtype=np.int32), [len(i) for i in ids])
        ordered = every[order]
        if (twice := np.flatnonzero(np.diff(ordered) == 0)).size:
            at = order[twice[0] : twice[0] + 2]
            raise DataError(
                f"holds sample {int(ordered[twice[0]])} twice, for workers "
                f"{holder[at[0]]} and {holder[at[1]]}",
                path=urls.public(self.root),
            )
        if (bound := int(ordered.max(initial=-1)) + 1) != self.id_bound:
            raise DataError(
                f"field 'id_bound': is {self.id_bound}, and one more than the highest id is {bound}",
                path=urls.public(path_in(self.root, manifest_name(self.generation))),
            )
        return ordered, holder[order]

    def __reduce__(self) -> tuple[type[ShardSet], tuple[object, ...]]:
        # Where it comes to, nothing is in use.
        return ShardSet, (self.root, self.manifest, self.digest, self.meter, self.cache)

    def verify(
        self,
        *,
        threads: int | None = None,
        meter: Meter | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> VerifyReport:
        """Reads every byte, and compares it with the manifest and the indexes; see `verify.verify`."""
        from pyimportance.shards.verify import verify

        return verify(self, threads=threads, meter=meter, progress=progress)

    def repair(
        self,
        *,
        partition: Partition | None = None,
        source: SampleIndex | None = None,
        meter: Meter | None = None,
    ) -> RepairReport:
        """Makes indexes that are missing or damaged anew, where that can be exact; see `repair.repair`."""
        from pyimportance.shards.repair import repair

        return repair(self, partition=partition, source=source, meter=meter)

    def export(
        self,
        format: Format,
        *,
        threads: int | None = None,
        meter: Meter | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> tuple[str, ...]:
        """Writes what "dali", "wids", "webshart" or "energon" read beside the tars; see `export.export`."""
        from pyimportance.shards.export import export

        return export(self, format, threads=threads, meter=meter, progress=progress)
