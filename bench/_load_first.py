"""A set of shards with very many rows, and the first batch of it.

Its tars are one tar under as many names, and the indexes say that each holds other samples: opening, checking
and planning cost what they cost with real ones, and what is yielded is really read.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from _harness import check
from _load_data import BINS, B

from pyimportance import ImportanceDataset, Partition, SampleIndex, ShardSet
from pyimportance._C import crc32c
from pyimportance.shards.copy import describe, write_worker_index
from pyimportance.shards.layout import Layout
from pyimportance.shards.manifest import (
    POINTER,
    Manifest,
    ShardInfo,
    encode_pointer,
    index_name,
    manifest_name,
    shard_name,
)

BLOCK = 512


def payload(number: int) -> bytes:
    """What the sample of this number in its shard holds."""
    return b"%08d" % number * 16


def make_many(root: Path, shards: int, samples: int) -> ShardSet:
    """One worker's set of so many ``shards`` of so many ``samples`` each, a quarter of them in each bin."""
    names = [shard_name(0, 0, s * BINS // shards, s, BINS) for s in range(shards)]
    (root / names[0]).parent.mkdir(parents=True)
    with tarfile.open(root / names[0], "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(samples):
            for extension, data in (("cls", b"%d" % (number % 10)), ("x", payload(number))):
                member = tarfile.TarInfo(f"{number:08d}.{extension}")
                member.size, member.mode = len(data), 0o444
                tar.addfile(member, io.BytesIO(data))
    for name in names[1:]:
        os.link(root / names[0], root / name)
    contents = (root / names[0]).read_bytes()

    N, within = shards * samples, np.arange(shards * samples) % samples
    label = np.full(N, 1, np.int64)
    index = SampleIndex(
        files=tuple(names),
        file_bytes=np.full(shards, len(contents), np.int64),
        ids=np.arange(N, dtype=np.int64),
        keys=pa.LargeStringArray.from_buffers(
            N,
            pa.py_buffer(np.arange(N + 1, dtype=np.int64) * 8),
            pa.py_buffer(b"".join(b"%08d" % number for number in range(samples)) * shards),
        ),
        file=np.repeat(np.arange(shards, dtype=np.int32), samples),
        offset=within * (4 * BLOCK),
        nbytes=np.full(N, 4 * BLOCK, np.int64),
        extensions=("cls", "x"),
        part_start=np.arange(N + 1, dtype=np.int64) * 2,
        part_ext=np.tile(np.array([0, 1], np.int32), N),
        part_offset=(within[:, None] * (4 * BLOCK) + np.array([BLOCK, 3 * BLOCK])).reshape(-1),
        part_size=np.column_stack([label, np.full(N, len(payload(0)))]).reshape(-1),
        score=np.linspace(1, 0, N, dtype=np.float32),
        bin=np.repeat(np.arange(shards, dtype=np.int32) * BINS // shards, samples).astype(np.int32),
    )
    _write_manifest(root, index, contents)
    return ShardSet.open(root)


def _write_manifest(root: Path, index: SampleIndex, contents: bytes) -> None:
    shards, N = len(index.files), len(index)
    samples, sum_of = N // shards, crc32c(contents)
    infos = [
        ShardInfo(name, len(contents), samples, sum_of, 0, s * BINS // shards, samples, None, None)
        for s, name in enumerate(index.files)
    ]
    everything = Partition(
        workers=1,
        bins=BINS,
        order=index.ids,
        offsets=np.arange(BINS + 1, dtype=np.int64) * N // BINS,
        measure="loss_mean",
        descending=True,
    )
    digest = hashlib.sha256(b"a set that has no source").hexdigest()
    manifest = Manifest.of(
        everything,
        generation=0,
        parent=None,
        job=digest,
        source_files=("none.tar",),
        source_digest=digest,
        layout=Layout(len(contents)),
        indexes=(write_worker_index(str(root), index_name(0, 0), index),),
        shards=describe(index, infos),
    ).encode()
    (root / manifest_name(0)).write_bytes(manifest)
    (root / POINTER).write_bytes(encode_pointer(0, manifest))


def first_of_ours(root: str) -> list[Any]:
    """Opened and read anew."""
    samples = iter(ImportanceDataset(root, batch_size=B, rank=0, world_size=1))
    return list(islice(samples, B))


def first_of_webdataset(tars: list[str]) -> list[Any]:
    from webdataset import WebDataset

    return list(islice(WebDataset(tars, shardshuffle=False, empty_check=False), B))


def check_first(name: str, batch: list[Any]) -> None:
    """B samples of different ids or places, each with its payload."""
    seen = {(sample["__url__"], sample["__key__"]) for sample in batch}
    check(len(batch) == len(seen) == B, f"{name}: {len(seen)} samples in the first batch; right is {B}")
    for sample in batch:
        right = payload(int(sample["__key__"]))
        check(sample["x"] == right, f"{name}: sample {sample['__key__']} has other bytes than in the tar")
