"""Sources in a real S3 server: listed, indexed, re-sharded to the same bytes as from files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest

from pyimportance import DataError, OutputError, index, write_shards
from pyimportance.io import remote, upload
from pyimportance.io.meter import Meter
from pyimportance.io.storage import open_file, read_whole
from tests.seaweed import seaweed
from tests.shards.conftest import divide, write_tar

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with seaweed(tmp_path_factory.mktemp("seaweed")) as environment:
        yield environment


@pytest.fixture
def bucket(environment: dict[str, str], source: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The store, with the source below ``data``."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    remote._store.cache_clear()
    store = obstore.store.S3Store("bucket")
    for path in sorted(source.glob("*.tar")):
        obstore.put(store, f"data/{path.name}", path)
    yield store
    remote._store.cache_clear()


@pytest.mark.parametrize(
    "name", ["s3://bucket/data/", "s3://bucket/data/*-{000..003}.tar", "s3://bucket/d*/*"]
)
def test_shards_are_those_of_the_files(
    bucket: Any, source: Path, tmp_path: Path, tree: Any, name: str
) -> None:
    found = index(name)
    assert found.digest == index(source).digest
    plan, meters = divide(66, 3, 2), [Meter() for _ in range(3)]
    write_shards(name, plan, tmp_path / "out", shard_bytes=40_000, meters=meters, exchange="direct")
    write_shards(source, plan, tmp_path / "local", shard_bytes=40_000)
    ours, local = tree(tmp_path / "out"), tree(tmp_path / "local")
    assert ours.pop("job.json")
    assert local.pop("job.json")
    assert ours == local
    assert sum(m.bytes("origin") for m in meters) >= found.nbytes.sum()


def test_a_set_is_written_and_read(
    bucket: Any, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "_PART", 5 << 20)  # the least that S3 takes
    write_tar(source / "large.tar", [(f"{i}.bin", bytes([i]) * 3_000_000) for i in range(9)])
    plan = divide(75, 2, 2)
    local = write_shards(source, plan, tmp_path / "out")
    assert max(s.nbytes for s in local.shards) > 5 << 20  # in several parts
    written = write_shards(source, plan, "s3://bucket/set")
    assert (written.root, written.digest) == ("s3://bucket/set", local.digest)
    assert [written.index(w).num_samples for w in range(2)] == [local.index(w).num_samples for w in range(2)]
    for shard in written.shards:
        assert read_whole(written.path_of(shard.path)) == (tmp_path / "out" / shard.path).read_bytes()
    gone = f"set/{written.shards[0].path}"
    for name in (gone, "set/manifest.json"):
        obstore.delete(bucket, name)
    before = {found["path"]: found["last_modified"] for found in obstore.list(bucket, "set").collect()}
    time.sleep(1.1)  # times are seconds
    assert write_shards(source, plan, "s3://bucket/set").digest == local.digest
    after = {found["path"]: found["last_modified"] for found in obstore.list(bucket, "set").collect()}
    assert {n for n, when in after.items() if before.get(n) != when and n.endswith(".tar")} == {gone}
    with pytest.raises(OutputError, match="holds the shards of another job"):
        write_shards(source, divide(75, 3), "s3://bucket/set")


def test_who_may_not_write(bucket: Any, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    remote._store.cache_clear()
    with pytest.raises(DataError, match=r"^s3://bucket/new/manifest\.json: access is denied \(the server"):
        write_shards(source, divide(66, 2), "s3://bucket/new")


def test_errors_and_changes(bucket: Any) -> None:
    with pytest.raises(DataError, match=r"^s3://bucket/none\.tar: does not exist"):
        open_file("s3://bucket/none.tar")
    obstore.put(bucket, "changes", b"old")
    with open_file("s3://bucket/changes") as file:
        obstore.put(bucket, "changes", b"new")
        with pytest.raises(
            DataError, match=r"^s3://bucket/changes, offset 0: was changed while it was being read"
        ):
            file.pread(0, 1)
