"""Sources and shards in Azure's own emulator of its storage: read, written, and all that changes a set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest

from pyimportance import (
    DataError,
    ImportanceDataset,
    ShardSet,
    compact,
    index,
    prune,
    repartition,
    write_shards,
)
from pyimportance.io import remote, upload
from pyimportance.io.storage import open_file, read_whole
from pyimportance.shards.generations import write_delta
from tests.azurite import azurite
from tests.shards.conftest import check_jobs_at_the_same_time, divide, tree, write_tar
from tests.shards.stores import without_notes

pytestmark = pytest.mark.slow
URL = "az://bucket/a folder/ä"
OPTIONS: Any = {"shard_bytes": 40_000}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with azurite(tmp_path_factory.mktemp("azurite")) as environment:
        yield environment


@pytest.fixture
def container(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    remote._store.cache_clear()
    store = obstore.store.AzureStore("bucket")
    yield store
    if left := [found["path"] for found in obstore.list(store).collect()]:
        obstore.delete(store, left)
    remote._store.cache_clear()


def test_from_the_source_to_the_samples(container: Any, source: Path, tmp_path: Path) -> None:
    write_tar(source / "large.tar", [(f"{i}.bin", bytes([i]) * 3_000_000) for i in range(9)])
    for path in sorted(source.glob("*.tar")):
        obstore.put(container, f"data/{path.name}", path)
    found = index("az://bucket/data/*.tar")
    assert found.digest == index(source).digest
    local = write_shards(source, divide(75, 2, 2), tmp_path / "out")
    assert max(shard.nbytes for shard in local.shards) > 8 << 20  # in several parts
    there = write_shards(found, divide(75, 2, 2), URL)
    assert there.digest == local.digest
    for shard in there.shards:
        assert read_whole(there.path_of(shard.path)) == (tmp_path / "out" / shard.path).read_bytes()
        assert upload.notes_of(there.path_of(shard.path))["crc32c"] == f"{shard.crc32c:08x}"
    own, theirs = (ImportanceDataset(s, rank=0, world_size=2) for s in (local, ShardSet.open(URL)))
    assert [s["__key__"] for s in theirs] == [s["__key__"] for s in own]
    with open_file("az://bucket/data/data-000.tar") as file:
        obstore.put(container, "data/data-000.tar", b"new")
        with pytest.raises(DataError, match=r"data-000\.tar, offset 0: was changed while it was being read"):
            file.pread(0, 1)
    with pytest.raises(DataError, match=r"^az://bucket/none\.tar: does not exist"):
        open_file("az://bucket/none.tar")


def test_generations_are_those_of_a_folder(container: Any, source: Path, tmp_path: Path) -> None:
    plans = [divide(66, workers, 2, seed=workers) for workers in (3, 4)]
    made = []
    for out in (URL, tmp_path / "out"):
        first = write_shards(source, plans[0], out, **OPTIONS)
        second = repartition(first, plans[1])
        third = compact(second)
        write_delta(second, plans[0], 0)  # and is never finished
        made.append([second.digest, third.digest])
        assert prune(third, abandon=[3]).generations == (0, 1)
    assert made[0] == made[1]
    left = {name: size for name, size in upload.below(URL).items() if size}
    assert {*without_notes(dict.fromkeys(left, ""))} == {*without_notes(tree(tmp_path / "out"))}
    opened = ShardSet.open(URL)
    index_of, gone = (opened.path_of(opened.manifest.indexes[w].path) for w in (1, 2))
    upload.delete([index_of])
    upload.delete([index_of, gone, gone])  # one that is gone already keeps no other
    assert len(ShardSet.open(URL).repair(partition=plans[1]).repaired) == 2
    assert ShardSet.open(URL).verify().ok


def test_jobs_at_the_same_time(container: Any, source: Path) -> None:
    check_jobs_at_the_same_time(source, URL)
