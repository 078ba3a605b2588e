"""Shards written to a store: the bytes that a directory gets, whole objects, the manifest last and once."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import obstore
import pytest

from pyimportance import ArgumentError, DataError, OutputError, ShardSet, write_shards
from pyimportance.io import remote
from pyimportance.io.meter import Meter
from tests.shards.conftest import divide, tree, write_tar
from tests.shards.stores import URL, objects, written

OPTIONS: Any = {"shard_bytes": 40_000}


@pytest.mark.parametrize("more", [{}, {"keys": "prefix"}, {"compression": "zstd"}], ids=str)
def test_a_store_gets_what_a_directory_gets(
    store: Any, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: Any
) -> None:
    plan = divide(66, 3, 2)
    names = written(monkeypatch)
    shards = write_shards(source, plan, URL + "/", **OPTIONS, **more)
    write_shards(source, plan, tmp_path / "out", **OPTIONS, **more)
    ours, local = objects(store), tree(tmp_path / "out")
    assert ours.pop("job.json")
    assert local.pop("job.json")
    assert ours == local
    assert shards.digest == ShardSet.open(tmp_path / "out").digest
    assert (names[0], names[-2:]) == ("job.json!", ["manifest-000000.json", "manifest.json!"])
    assert len(names) == len(set(names)) == len(ours) + 1
    for shard in shards.shards:
        found = obstore.get(store, f"deep/out/{shard.path}", options={"head": True})
        assert found.attributes == {"crc32c": f"{shard.crc32c:08x}"}


def test_done_is_done(store: Any, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_shards(source, divide(66, 2), URL)
    names = written(monkeypatch)
    assert write_shards(source, divide(66, 2), URL).digest == first.digest
    with pytest.raises(OutputError, match="s3://bucket/deep/out: holds shards already, and resume is False"):
        write_shards(source, divide(66, 2), URL, resume=False)
    with pytest.raises(OutputError, match="holds the shards of another job"):
        write_shards(source, divide(66, 2, seed=1), URL)
    assert names == []


@pytest.mark.parametrize("compression", [None, "zstd"])
@pytest.mark.parametrize("after", range(0, 26, 3))
def test_an_interrupted_run_is_continued(
    store: Any, source: Path, monkeypatch: pytest.MonkeyPatch, after: int, compression: Any
) -> None:
    plan = divide(66, 3, 2)
    count = 0

    def dies(name: str) -> None:
        nonlocal count
        count += 1
        if count > after:
            raise obstore.exceptions.GenericError("Error performing PUT http://h/?secret=1 - it is gone")

    with monkeypatch.context() as patch:
        names = written(patch, dies)
        with pytest.raises(
            OutputError, match=r"^s3://bucket/deep/out/.*: cannot be written \(.* - it is gone\)$"
        ):
            write_shards(source, plan, URL, compression=compression, **OPTIONS)
        assert "manifest.json!" not in names
        assert len(names) <= after
    with pytest.raises(DataError, match="does not exist"):
        ShardSet.open(URL)
    again = written(monkeypatch)
    shards = write_shards(source, plan, URL, compression=compression, **OPTIONS)
    done = {name for name in names if name.endswith((".tar", "!"))}
    assert not done & set(again)
    before = objects(store)
    for name in before:
        obstore.delete(store, f"deep/out/{name}")
    assert write_shards(source, plan, URL, compression=compression, **OPTIONS).digest == shards.digest
    assert objects(store) == before


def test_only_what_is_whole_is_kept(store: Any, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = divide(66, 3, 2)
    shards = write_shards(source, plan, URL, **OPTIONS)
    before = objects(store)
    names = [f"deep/out/{shard.path}" for shard in shards.shards[:3]]
    data = [bytes(obstore.get(store, name).bytes()) for name in names]
    obstore.put(store, names[0], data[0])  # whose sum nobody noted
    obstore.put(store, names[1], data[1][:-512], attributes={"crc32c": "00000000"})
    obstore.put(store, names[2], data[2], attributes={"crc32c": "no number"})
    obstore.delete(store, "deep/out/manifest.json")
    again = written(monkeypatch)
    assert write_shards(source, plan, URL, **OPTIONS).digest == shards.digest
    assert objects(store) == before
    assert {name for name in again if name.endswith(".tar")} == {s.path for s in shards.shards[:3]}


def test_what_is_not_of_this_job_is_left_alone(store: Any, source: Path) -> None:
    plan = divide(66, 2)
    obstore.put(store, "deep/out/file", b"")
    with pytest.raises(OutputError, match=r"/deep/out: holds something else \('file'\)"):
        write_shards(source, plan, URL)
    obstore.delete(store, "deep/out/file")
    obstore.put(store, "deep/outer/file", b"")
    write_shards(source, plan, URL)
    obstore.delete(store, "deep/out/manifest.json")
    with pytest.raises(OutputError, match="holds unfinished shards of another job"):
        write_shards(source, divide(66, 3), URL)
    for name in (
        "file",
        "worker-002/index-000000.arrow",
        "worker-000/a.tar",
        "worker-000/deep/index-000000.arrow",
    ):
        obstore.put(store, f"deep/out/{name}", b"")
        with pytest.raises(OutputError, match=f"/deep/out/{name}: is no part of this job"):
            write_shards(source, plan, URL)
        obstore.delete(store, f"deep/out/{name}")
    (source / "data-001.tar").touch()
    with pytest.raises(OutputError, match=r"made from an earlier state of data-001\.tar"):
        write_shards(source, plan, URL)
    obstore.put(store, "deep/out/job.json", b"{")
    with pytest.raises(OutputError, match=r"deep/out: job\.json is damaged"):
        write_shards(source, plan, URL)


def test_a_race_for_the_folder_and_for_the_manifest(
    store: Any, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first(path: str, data: bytes) -> Callable[[str], None]:
        def there(name: str) -> None:
            if name.endswith(path):
                monkeypatch.undo()
                monkeypatch.setattr(remote, "_store", lambda *url: store)
                obstore.put(store, name, data)

        return there

    written(monkeypatch, first("/job.json", b"another's"))
    with pytest.raises(OutputError, match=r"out/job\.json: another process has written it meanwhile"):
        write_shards(source, divide(66, 2), URL)
    obstore.delete(store, "deep/out/job.json")
    written(monkeypatch, first("/manifest.json", b"another's"))
    with pytest.raises(OutputError, match=r"out/manifest\.json: another process has written it meanwhile"):
        write_shards(source, divide(66, 2), URL)
    obstore.delete(store, "deep/out/manifest.json")
    whole = write_shards(source, divide(66, 2), URL)
    pointer = bytes(obstore.get(store, "deep/out/manifest.json").bytes())
    obstore.delete(store, "deep/out/manifest.json")
    written(monkeypatch, first("/manifest.json", pointer))  # a twin's, or of a request whose answer was lost
    assert write_shards(source, divide(66, 2), URL).digest == whole.digest


def test_what_takes_no_shards(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(
        ArgumentError, match="out='http://host/out': web servers take no shards; s3, gs and az do"
    ):
        write_shards(source, divide(66, 2), "http://me:secret@host/out?secret")
    with pytest.raises(ArgumentError, match="out='s3://': names no bucket"):
        write_shards(source, divide(66, 2), "s3://")
    assert sorted(tmp_path.iterdir()) == before


def test_twins_write_the_same(store: Any, source: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        made = pool.map(lambda i: write_shards(source, divide(66, 3, 2), URL, **OPTIONS).digest, range(3))
        digests = set(made)
    shards = ShardSet.open(URL)
    assert digests == {shards.digest}
    assert len(objects(store)) == len(shards.shards) + 3 + 3


def test_no_room_for_temporary_files(store: Any, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**more: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    problem = (
        r"/g000000-bin00-000000\.tar: its copy among the temporary files cannot be written \(No space left"
    )
    with pytest.raises(OutputError, match=problem):
        write_shards(source, divide(66, 2), URL)
    assert list(objects(store)) == ["job.json"]


@pytest.mark.parametrize("format", ["dali", "wids", "webshart", "energon"])
def test_exports_stand_beside_the_tars(store: Any, tmp_path: Path, format: Any) -> None:
    source = tmp_path / "plain.tar"
    write_tar(source, [(f"{i:03d}.{extension}", b"%d" % i * i) for i in range(66) for extension in "ab"])
    local = write_shards(source, divide(66, 2, 2), tmp_path / "out", **OPTIONS)
    there = write_shards(source, divide(66, 2, 2), URL, **OPTIONS)
    ours, theirs = Meter(), Meter()
    paths, urls = local.export(format, meter=ours), there.export(format, meter=theirs)
    assert [url.removeprefix(f"{URL}/") for url in urls] == [
        os.path.relpath(path, local.root) for path in paths
    ]
    here, all_there = tree(tmp_path / "out"), objects(store)
    for changes in (here, all_there):
        assert changes.pop("job.json")
    assert all_there == here
    assert theirs.bytes("disk") == ours.bytes("disk")
    assert there.verify().ok
