"""Small sources made on the spot: every size around a block, long and foreign names, several dialects."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
from webdataset import tariterators

from pyimportance import Partition, SampleIndex, Scores, ShardSet, partition, repartition, write_shards
from pyimportance.io import remote
from tests.shards.stores import OPTIONS, URL

Members = Iterable[tuple[str, bytes]]
SIZES = (0, 1, 511, 512, 513, 1024, 5000, 40_000)


def write_tar(path: Path, members: Members, *, dialect: int = tarfile.USTAR_FORMAT) -> Path:
    with tarfile.open(path, "w", format=dialect) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def read_tar(path: str | Path) -> dict[str, bytes]:
    """Name -> payload, as Python's own reader sees it."""
    with tarfile.open(path) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isreg()}  # type: ignore[union-attr]


def read_wds(path: str | Path) -> list[dict[str, Any]]:
    """The samples of a tar as webdataset groups them. (Its WebDataset class leaves its files open.)"""
    with open(path, "rb") as stream:
        members = tariterators.tar_file_expander([{"url": str(path), "stream": stream}])
        samples = list(tariterators.group_by_keys(members))
    return [{k: v for k, v in s.items() if k != "__url__"} for s in samples]


@pytest.fixture(name="write_tar")
def write_tar_fixture() -> Callable[..., Path]:
    return write_tar


@pytest.fixture(name="read_tar")
def read_tar_fixture() -> Callable[[str | Path], dict[str, bytes]]:
    return read_tar


@pytest.fixture(name="read_wds")
def read_wds_fixture() -> Callable[[str | Path], list[dict[str, Any]]]:
    return read_wds


def make_members(shard: int, samples: int, seed: int = 0) -> list[tuple[str, bytes]]:
    """Parts in an order that is not sorted, of sizes around a block; every fifth sample has one part only."""
    rng = np.random.default_rng([seed, shard])
    members = []
    for i in range(samples):
        key = f"{shard:03d}-{i:05d}"
        if i % 7 == 3:
            key = f"dir.with.dots/{'d' * 120}/{key}"  # longer than a name field, ustar's prefix holds it
        if i % 7 == 5:
            key = f"{'x' * 300}/ä-{key}"  # only a pax header holds it
        size = SIZES[int(rng.integers(len(SIZES)))]
        members.append((f"{key}.txt", rng.bytes(size)))
        if i % 5:
            members.append((f"{key}.JPG", rng.bytes(int(rng.integers(2000)))))
            members.append((f"{key}.seg.png", rng.bytes(int(rng.integers(600)))))
    return members


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory of four tars in three dialects: 25, 1, 0 and 40 samples."""
    folder = tmp_path / "source"
    folder.mkdir()
    dialects = (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT)
    for shard, (samples, dialect) in enumerate(zip((25, 1, 0, 40), dialects, strict=True)):
        write_tar(folder / f"data-{shard:03d}.tar", make_members(shard, samples), dialect=dialect)
    return folder


def divide(index: SampleIndex | int, workers: int, bins: int = 1, seed: int = 0, **more: Any) -> Partition:
    N = index if isinstance(index, int) else index.num_samples
    values = np.random.default_rng(seed).permutation(N).astype(np.float32)
    return partition(Scores(values=values, measure="test"), workers, bins=bins, **more)


@pytest.fixture(name="divide")
def divide_fixture() -> Callable[..., Partition]:
    """A partition by random scores."""
    return divide


def tree(root: Path) -> dict[str, str]:
    """Every file below ``root`` with its size and a digest of its bytes: a difference prints on a line."""
    found = {}
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        data = path.read_bytes()
        found[str(path.relative_to(root))] = f"{len(data)} bytes, {hashlib.sha256(data).hexdigest()[:16]}"
    return found


@pytest.fixture(name="tree")
def tree_fixture() -> Callable[[Path], dict[str, str]]:
    return tree


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A store in memory, behind every URL."""
    store = obstore.store.MemoryStore()
    monkeypatch.setattr(remote, "_store", lambda *url: store)
    return store


@pytest.fixture
def shards(store: Any, source: Path) -> ShardSet:
    """In `store`; modules whose shards lie elsewhere have a fixture of their own."""
    return write_shards(source, divide(66, 3, 2), URL, **OPTIONS)


@pytest.fixture
def small(store: Any, source: Path) -> ShardSet:
    """As `shards`, of few objects."""
    return write_shards(source, divide(66, 2), URL)


def check_jobs_at_the_same_time(source: Path, url: str) -> None:
    """Four repartition one set, two and two by the same plan: these agree, and each plan has a generation."""
    shards = write_shards(source, divide(66, 3, 2), url, **OPTIONS)
    plans = [divide(66, 3, 2, seed=1 + i // 2) for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda plan: repartition(shards, plan), plans))
    assert [new.digest for new in made[::2]] == [new.digest for new in made[1::2]]
    assert sorted(new.generation for new in made[::2]) == [1, 2]
    assert all(new.verify().ok for new in made)
    assert ShardSet.open(url).generation == 2
