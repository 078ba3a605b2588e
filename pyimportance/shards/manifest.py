"""What a generation consists of: its manifest, checked field by field when it is read."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from pyimportance.errors import DataError
from pyimportance.io import output, storage, urls
from pyimportance.io.meter import Meter
from pyimportance.io.paths import Folders
from pyimportance.io.seek_table import MAX_FRAME
from pyimportance.order.checks import MOST_GROUPS
from pyimportance.shards.fields import FORMAT, VERSION, VERSION_COMPRESSED, Fields
from pyimportance.shards.layout import MAX_LEVEL, ORDERS, Layout, Order, Zstd

if TYPE_CHECKING:
    from pyimportance.io.node_cache import NodeCache
    from pyimportance.order.values import Partition

POINTER: Final = "manifest.json"
"""The file that names the current generation; replaced last."""

_MOST_BYTES: Final = 1 << 30  # of millions of shards
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ShardInfo:
    """One tar: ``path`` relative to the root, its bytes, samples in it, CRC32C of the whole file.

    Of a compressed one these are of the file, and ``tar_bytes`` of the tar in it. ``live`` of its samples
    belong to this generation; the score range is theirs (None: no score is known; an infinite
    one counts as the largest that float32 has, as JSON has no infinity).
    ``bin`` is the bin it was written for.
    """

    path: str
    nbytes: int
    samples: int
    crc32c: int
    worker: int
    bin: int
    live: int
    score_min: float | None
    score_max: float | None
    tar_bytes: int | None = None

    @property
    def content_bytes(self) -> int:
        """Of the tar, whether it is compressed or not."""
        return self.nbytes if self.tar_bytes is None else self.tar_bytes


@dataclass(frozen=True)
class IndexInfo:
    """The index of a worker's live samples."""

    path: str
    nbytes: int
    samples: int
    crc32c: int


@dataclass(frozen=True)
class Manifest:
    """A generation.

    ``job`` is the digest of what it was made from (data, partition, options), ``id_bound`` the highest id of
    its live samples + 1. ``library`` is the version of zstd that compressed what the generation added.
    """

    generation: int
    parent: int | None
    job: str
    source_files: tuple[str, ...]
    source_digest: str
    measure: str
    descending: bool
    policy: str
    seed: int
    workers: int
    bins: int
    samples: int
    id_bound: int
    layout: Layout
    indexes: tuple[IndexInfo, ...]
    shards: tuple[ShardInfo, ...]
    library: str | None = None

    @staticmethod
    def of(
        partition: Partition,
        *,
        generation: int,
        parent: int | None,
        job: str,
        source_files: tuple[str, ...],
        source_digest: str,
        layout: Layout,
        indexes: tuple[IndexInfo, ...],
        shards: tuple[ShardInfo, ...],
    ) -> Manifest:
        """The manifest of what was written for ``partition``."""
        return Manifest(
            generation=generation,
            parent=parent,
            job=job,
            source_files=source_files,
            source_digest=source_digest,
            measure=partition.measure,
            descending=partition.descending,
            policy=partition.policy,
            seed=partition.seed,
            workers=partition.workers,
            bins=partition.bins,
            samples=partition.num_samples,
            id_bound=int(partition.order.max(initial=-1)) + 1,
            layout=layout,
            indexes=indexes,
            shards=shards,
            library=None if layout.compression is None else _library(),
        )

    def encode(self) -> bytes:
        """The bytes of the file. Equal manifests give equal bytes."""
        fields = asdict(self)
        fields |= self.layout.options()
        del fields["layout"]
        for info in (*fields["indexes"], *fields["shards"]):
            info["bytes"] = info.pop("nbytes")
        library, version = fields.pop("library"), VERSION
        if self.layout.compression is not None:
            fields["compression"]["library"], version = library, VERSION_COMPRESSED
        else:
            for info in fields["shards"]:
                del info["tar_bytes"]
        return _to_json({"format": FORMAT, "version": version, **fields})


def manifest_name(generation: int) -> str:
    return f"manifest-{generation:06d}.json"


def index_name(worker: int, generation: int) -> str:
    return f"{worker_directory(worker)}/index-{generation:06d}.arrow"


def shard_name(  # noqa: PLR0917
    worker: int, generation: int, bin_: int, number: int, bins: int, suffix: str = ".tar"
) -> str:
    """The name of a group's shard; in a worker's directory names are in the order of its ``bins`` bins."""
    digits = max(2, len(str(bins - 1)))
    return f"{shard_prefix(worker, generation)}bin{bin_:0{digits}d}-{number:06d}{suffix}"


def shard_prefix(worker: int, generation: int) -> str:
    """What the names of the shards begin with that were written for a generation."""
    return f"{worker_directory(worker)}/g{generation:06d}-"


def worker_directory(worker: int) -> str:
    """The same however many workers there are: the number may change with every generation."""
    return f"worker-{worker:03d}"


def path_in(root: str, name: str) -> str:
    """The absolute path or URL of a file of a set. Raises DataError if a link leads out of the root."""
    return paths_in(root, [name])[0]


def paths_in(root: str, names: Iterable[str]) -> list[str]:
    """`path_in` of each."""
    if urls.is_url(root):
        return [urls.join(root, name) for name in names]
    paths, real_root, folders = [], os.path.realpath(root), Folders()
    for name in names:
        path = os.path.join(root, name)
        real = folders.realpath(path)
        if os.path.commonpath([real_root, real]) != real_root:
            raise DataError(f"leads out of {root}, to {real}", path=path)
        paths.append(path)
    return paths


def encode_pointer(generation: int, manifest: bytes) -> bytes:
    name = manifest_name(generation)
    sha256 = hashlib.sha256(manifest).hexdigest()
    return _to_json(
        {"format": FORMAT, "version": VERSION, "generation": generation, "manifest": name, "sha256": sha256}
    )


def read_pointer(root: str, meter: Meter | None = None) -> tuple[int, str]:
    """(current generation, SHA-256 of its manifest). Raises DataError."""
    path = path_in(root, POINTER)
    fields = Fields(storage.read_whole(path, meter, "index", _MOST_BYTES), urls.public(path))
    generation = fields.integer("generation")
    if fields.text("manifest") != manifest_name(generation):
        fields.fail("manifest", f"must be {manifest_name(generation)!r}")
    return generation, fields.text("sha256", _SHA256)


def advance(root: str, generation: int, manifest: bytes, meter: Meter | None = None) -> None:
    """Makes a complete generation the current one, unless that is a later one. Raises OutputError.

    Who does it in a folder holds that.
    """
    pointer = encode_pointer(generation, manifest)
    output.update(path_in(root, POINTER), pointer, lambda: read_pointer(root, meter)[0] < generation)


def is_committed(root: str, generation: int) -> bool:
    """Whether a generation is there. One whose manifest has no byte was removed from a store."""
    path = path_in(root, manifest_name(generation))
    if not storage.exists(path):
        return False
    with storage.open_file(path) as file:
        return file.size > 0


def read_manifest(
    root: str, generation: int, meter: Meter | None = None, cache: NodeCache | None = None
) -> tuple[Manifest, str]:
    """(the manifest, the SHA-256 of its bytes), from the node's cache where it is behind a URL and there is
    one. Untrusted: raises DataError naming file and field.
    """
    path = path_in(root, manifest_name(generation))
    if cache is None or not urls.is_url(path):
        data = storage.read_whole(path, meter, "index", _MOST_BYTES)
    else:
        from pyimportance.io.through import read_through

        data = bytes(read_through(cache, path, meter=meter, tier="index", most=_MOST_BYTES))
    if not data:
        raise DataError("stands for a generation that was removed", path=urls.public(path))
    return _decode(Fields(data, urls.public(path)), generation), hashlib.sha256(data).hexdigest()


def _decode(f: Fields, generation: int) -> Manifest:
    if f.integer("generation") != generation:
        f.fail("generation", f"must be {generation}, as the file's name says")
    workers, bins = f.integer("workers", low=1), f.integer("bins", low=1)
    if workers * bins > MOST_GROUPS:
        f.fail("bins", f"must be at most {MOST_GROUPS} // 'workers' ({workers})")
    indexes = tuple(_decode_index(g) for g in f.items("indexes"))
    layout, library = _decode_layout(f)
    compressed = layout.compression is not None
    shards = tuple(_decode_shard(g, workers, bins, compressed) for g in f.items("shards"))
    if len(indexes) != workers:
        f.fail("indexes", f"must hold one entry per worker ({workers})")
    manifest = Manifest(
        generation=generation,
        parent=None if f.get("parent") is None else f.integer("parent"),
        job=f.text("job", _SHA256),
        source_files=tuple(f.strings("source_files")),
        source_digest=f.text("source_digest", _SHA256),
        measure=f.text("measure"),
        descending=f.flag("descending"),
        policy=f.text("policy"),
        seed=f.integer("seed", high=1 << 128),
        workers=workers,
        bins=bins,
        samples=f.integer("samples"),
        id_bound=f.integer("id_bound", high=1 << 63),
        layout=layout,
        indexes=indexes,
        shards=shards,
        library=library,
    )
    for name, total in (
        ("indexes", sum(i.samples for i in indexes)),
        ("shards", sum(s.live for s in shards)),
    ):
        if total != manifest.samples:
            f.fail(name, f"add up to {total} samples; 'samples' says {manifest.samples}")
    if not (manifest.samples <= manifest.id_bound and bool(manifest.samples) == bool(manifest.id_bound)):
        f.fail("id_bound", f"must be above the ids of {manifest.samples} samples, 0 where there is none")
    live = [0] * workers
    for shard in shards:
        live[shard.worker] += shard.live
    for w, index in enumerate(indexes):
        if live[w] != index.samples:
            f.fail("shards", f"of worker {w} hold {live[w]} live samples; its index {index.samples}")
    paths = [s.path for s in shards] + [i.path for i in indexes]
    if len(set(paths)) != len(paths):
        f.fail("shards", "name a file twice")
    return manifest


def _decode_layout(f: Fields) -> tuple[Layout, str | None]:
    """(the layout, the version of zstd)"""
    samples, order = None, "score"
    if "shard_samples" in f.fields:
        samples = f.integer("shard_samples", low=1)
    if "order" in f.fields and (order := f.text("order")) not in ORDERS:
        f.fail("order", f"must be one of {', '.join(ORDERS)}")
    compression = library = None
    if f.fields["version"] == VERSION_COMPRESSED:
        g = f.item("compression")
        if g.text("format") != "zstd":
            g.fail("format", "must be 'zstd'")
        level, frame_bytes = g.integer("level", 1, MAX_LEVEL), g.integer("frame_bytes", 1, MAX_FRAME)
        compression, library = Zstd(level, frame_bytes), g.text("library")
    return Layout(f.integer("shard_bytes", low=1), samples, cast(Order, order), compression), library


def _library() -> str:
    from pyimportance.io.compress import LIBRARY

    return LIBRARY


def _decode_index(f: Fields) -> IndexInfo:
    crc = f.integer("crc32c", high=0xFFFFFFFF)
    return IndexInfo(f.relative_path("path"), f.integer("bytes"), f.integer("samples"), crc)


def _decode_shard(f: Fields, workers: int, bins: int, compressed: bool) -> ShardInfo:
    shard = ShardInfo(
        path=f.relative_path("path"),
        nbytes=f.integer("bytes"),
        samples=f.integer("samples"),
        crc32c=f.integer("crc32c", high=0xFFFFFFFF),
        worker=f.integer("worker", high=workers - 1),
        bin=f.integer("bin", high=bins - 1),
        live=f.integer("live"),
        score_min=f.number("score_min"),
        score_max=f.number("score_max"),
        tar_bytes=f.integer("tar_bytes") if compressed else None,
    )
    if shard.live > shard.samples:
        f.fail("live", f"must be at most 'samples' ({shard.samples})")
    return shard


def _to_json(fields: dict[str, Any]) -> bytes:
    return (json.dumps(fields, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
