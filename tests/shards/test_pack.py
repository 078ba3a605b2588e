"""Tars of samples in memory: the bytes that the copier would write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pyimportance import Partition, index, write_shards
from pyimportance.shards.pack import write_tars


def test_they_are_what_the_copier_writes(source: Path, tmp_path: Path, read_wds: Any) -> None:
    samples = [s for i in (0, 1, 3) for s in read_wds(source / f"data-{i:03d}.tar")]
    parts = Partition(1, 1, np.arange(len(samples)), np.array([0, len(samples)]))
    for shard_bytes in (10_000, 200_000, 1 << 30):
        shards = write_shards(source, parts, tmp_path / f"copied-{shard_bytes}", shard_bytes=shard_bytes)
        folder = tmp_path / f"packed-{shard_bytes}"
        folder.mkdir()
        plain = ((s["__key__"], {k: v for k, v in s.items() if k != "__key__"}) for s in samples)
        wanted = [str(folder / f"{n:03d}.tar") for n in range(len(shards.shards))]
        written = list(write_tars(plain, wanted.__getitem__, shard_bytes, "here"))
        paths = [path for path, _ in written]
        assert paths == wanted
        assert [crc32c for _, crc32c in written] == [shard.crc32c for shard in shards.shards]
        for path, shard in zip(paths, shards.shards, strict=True):
            assert Path(path).read_bytes() == Path(shards.path_of(shard.path)).read_bytes()
        assert index(folder).num_samples == len(samples)


def test_nothing_is_no_tar(tmp_path: Path) -> None:
    assert list(write_tars([], lambda n: str(tmp_path / f"{n}.tar"), 1000, "here")) == []
    assert not list(tmp_path.iterdir())
