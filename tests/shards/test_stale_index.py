"""Tars that were written again after they were indexed, with the same size: nothing is taken for another."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import pyimportance
from pyimportance import (
    DataError,
    Partition,
    SampleIndex,
    Scores,
    ShardSet,
    partition,
    repartition,
    write_shards,
)
from pyimportance.io.lock import locked
from pyimportance.shards import copy, pool
from pyimportance.shards.journal import Journal
from pyimportance.shards.layout import Layout
from pyimportance.shards.plan import plan_group, select

Divide = Callable[..., Partition]
Members = list[tuple[str, bytes]]
DIALECTS = {"ustar": tarfile.USTAR_FORMAT, "pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT}
AGAIN = "The tar was changed since it was indexed: index it again"
DAMAGED = "The shard is damaged, or another file lies in its place: `verify` says all that is wrong"


def members(dialect: str) -> Members:
    """Six samples; their names differ in what a header has no room for, where the dialect has longer ones."""
    stem = "" if dialect == "ustar" else "long/" * 30
    return [
        (f"{stem}{key}.{extension}", data)
        for key in "abcdef"
        for extension, data in (("cls", key.encode()), ("img", key.encode() * 600), ("json", b""))
    ]


def swapped(old: Members) -> Members:
    return [*old[3:6], *old[:3], *old[6:]]


def parts_swapped(old: Members) -> Members:
    return [*old[:3], old[5], old[4], old[3], *old[6:]]


def renamed(old: Members) -> Members:
    return [(name[:-5] + "z" + name[-4:] if name.endswith("b.cls") else name, data) for name, data in old]


def extended(old: Members) -> Members:
    return [(name.replace(".img", ".png"), data) for name, data in old]


def longer(old: Members) -> Members:
    return [*old[:4], (old[4][0], old[4][1] + b"!"), *old[5:]]


def shorter(old: Members) -> Members:
    return [*old[:3], (old[3][0], b""), *old[4:]]


def fewer(old: Members) -> Members:
    return old[:9]  # tarfile fills up with zeros


def not_a_file(old: Members) -> Members:
    return [(name + "/" * (name.endswith("c.json")), data) for name, data in old]


CHANGES = (swapped, parts_swapped, renamed, extended, longer, shorter, fewer, not_a_file)


def write_again(path: Path, new: Members, dialect: str) -> None:
    """Writes the tar with as many bytes as it had."""
    size = path.stat().st_size
    with tarfile.open(path, "w", format=DIALECTS[dialect]) as tar:
        for name, data in new:
            info = tarfile.TarInfo(name.rstrip("/"))
            info.size = len(data)
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            tar.addfile(info, io.BytesIO(data))
    assert path.stat().st_size <= size
    os.truncate(path, size)


@pytest.fixture
def indexed(tmp_path: Path) -> Callable[[str], tuple[Path, SampleIndex]]:
    def make(dialect: str) -> tuple[Path, SampleIndex]:
        path = tmp_path / "data.tar"
        path.write_bytes(bytes(40960))
        write_again(path, members(dialect), dialect)
        pyimportance.index(path).save(tmp_path / "data.arrow")
        return path, SampleIndex.load(tmp_path / "data.arrow")

    return make


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_tar_that_was_written_again(
    change: Callable[[Members], Members], dialect: str, indexed: Any, tmp_path: Path, divide: Divide
) -> None:
    path, index = indexed(dialect)
    write_again(path, change(members(dialect)), dialect)
    headers = {
        f"{index.key(row)}.{index.extensions[index.part_ext[p]]}": int(index.part_offset[p]) - 512
        for row in range(6)
        for p in range(index.part_start[row], index.part_start[row + 1])
    }
    new = divide(pyimportance.index(path), 2)
    for keys in ("error", "prefix"):
        out = tmp_path / keys
        with pytest.raises(DataError, match=AGAIN) as caught:
            write_shards(index, divide(6, 2), out, keys=keys)  # type: ignore[arg-type]
        assert caught.value.path == str(path)
        assert caught.value.member is not None
        assert caught.value.offset == headers[caught.value.member]
        assert not list(out.rglob("*.tmp"))
        assert not list(out.glob("manifest*"))
        assert write_shards(path, new, tmp_path / f"again-{keys}", keys=keys).verify().ok  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "member", "found"),
    [
        (swapped, "a.cls", "of 1 bytes; found 'b.cls' of 1 bytes at 0."),
        (renamed, "b.cls", "of 1 bytes; found 'z.cls' of 1 bytes at 3072."),
        (longer, "b.img", "of 600 bytes; found 'b.img' of 601 bytes at 4096."),
        (fewer, "d.cls", "of 1 bytes; found the end of the archive."),
        (not_a_file, "c.json", "of 0 bytes; found 'c.json/' of 0 bytes at 8704."),
    ],
)
def test_what_the_error_says(change: Any, member: str, found: str, indexed: Any, tmp_path: Path) -> None:
    path, index = indexed("ustar")
    write_again(path, change(members("ustar")), "ustar")
    one = partition(Scores(np.arange(6, 0, -1, dtype=np.float32)), 1)
    with pytest.raises(DataError) as caught:
        write_shards(index, one, tmp_path / "out")
    offset = caught.value.offset
    said = f"{path}, member {member!r}, offset {offset}: the index has this member here, {found} {AGAIN}"
    assert str(caught.value) == said


def test_headers_that_are_damaged(indexed: Any, tmp_path: Path, divide: Divide) -> None:
    path, index = indexed("pax")
    data = path.read_bytes()
    for part in range(0, 18, 5):
        header = int(index.part_offset[part]) - 512
        path.write_bytes(data[:header] + b"?" + data[header + 1 :])
        with pytest.raises(DataError, match=rf"found at {header}: no tar header, or a damaged one.*{AGAIN}"):
            write_shards(index, divide(6, 2), tmp_path / f"out-{part}")


def test_other_payloads_under_the_same_headers_are_what_is_copied(
    indexed: Any, tmp_path: Path, divide: Divide, tree: Any
) -> None:
    path, index = indexed("pax")
    write_again(path, [(name, data[::-1].upper()) for name, data in members("pax")], "pax")
    write_shards(index, divide(6, 2), tmp_path / "out")
    write_shards(path, divide(6, 2), tmp_path / "fresh")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_an_extension_in_another_case_is_the_same(indexed: Any, tmp_path: Path, divide: Divide) -> None:
    path, index = indexed("gnu")
    write_again(path, [(name.replace(".img", ".IMG"), data) for name, data in members("gnu")], "gnu")
    assert write_shards(index, divide(6, 2), tmp_path / "out").verify().ok


class StopHereError(Exception):
    """An interruption at a known place."""


def test_a_run_that_is_taken_up_again(indexed: Any, tmp_path: Path, divide: Divide, tree: Any) -> None:
    path, index = indexed("pax")
    original, times = path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    whole, out = tmp_path / "whole", tmp_path / "out"
    write_shards(index, divide(6, 2), whole, shard_bytes=1)

    def stop(done: int, total: int) -> None:
        raise StopHereError

    with pytest.raises(StopHereError):
        write_shards(index, divide(6, 2), out, shard_bytes=1, progress=stop)
    kept = sorted(out.rglob("*.tar"))
    for shard in kept[2:]:
        shard.unlink()
    before = tree(out)
    write_again(path, swapped(swapped(members("pax"))[::-1]), "pax")
    os.utime(path, ns=times)  # or the job would say that its tar was changed
    with pytest.raises(DataError, match=AGAIN):
        write_shards(index, divide(6, 2), out, shard_bytes=1)
    after = tree(out)
    assert {name: after[name] for name in before if name != "job.json"} == {
        name: before[name] for name in before if name != "job.json"
    }
    assert not list(out.rglob("*.tmp"))
    assert not (out / "manifest.json").exists()
    path.write_bytes(original)
    os.utime(path, ns=times)
    write_shards(index, divide(6, 2), out, shard_bytes=1)
    assert tree(out) == tree(whole)


@pytest.mark.parametrize("size", [100, 3000, 5000, 300_000])
def test_members_between_the_parts_of_a_sample(
    size: int, tmp_path: Path, write_tar: Any, read_tar: Any, divide: Divide
) -> None:
    """Small ones are read with the headers; what is longer is skipped, header by header."""
    between = [("README", bytes(size)), ("notes/", b""), ("x" * size + "/__", b"?")][
        : 3 if size < 9000 else 2
    ]
    parts = [("a.x", b"1" * 700), ("a.y", b"2" * 10)]
    path = write_tar(tmp_path / "a.tar", [parts[0], *between, parts[1]], dialect=tarfile.PAX_FORMAT)
    index = pyimportance.index(path)
    shards = write_shards(index, divide(1, 1), tmp_path / "out")
    assert read_tar(shards.path_of(shards.shards[0].path)) == dict(parts)
    write_tar(path, [parts[0], *between, ("b.y", parts[1][1])], dialect=tarfile.PAX_FORMAT)
    with pytest.raises(DataError, match=rf"'a\.y', offset .*; found 'b\.y' of 10 bytes at .*{AGAIN}"):
        write_shards(index, divide(1, 1), tmp_path / "out2")


@pytest.mark.parametrize("length", [2000, 3583, 3584, 5000, 60_000])
def test_long_names(length: int, tmp_path: Path, write_tar: Any, read_tar: Any, divide: Divide) -> None:
    old = [("n" * length + f"{i}.x", b"%d" % i * 600) for i in range(3)]
    for dialect in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        path = write_tar(tmp_path / f"{dialect}.tar", old, dialect=dialect)
        index = pyimportance.index(path)
        shards = write_shards(index, divide(3, 1), tmp_path / f"out-{dialect}")
        assert read_tar(shards.path_of(shards.shards[0].path)) == dict(old)
        write_tar(path, [old[1], old[0], old[2]], dialect=dialect)
        with pytest.raises(DataError, match=AGAIN):
            write_shards(index, divide(3, 1), tmp_path / f"stale-{dialect}")


def test_payloads_of_many_windows(
    tmp_path: Path, write_tar: Any, divide: Divide, tree: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    mebibyte = 1 << 20
    sizes = [0, 3 * mebibyte, mebibyte - 512, mebibyte - 1024, mebibyte, 0, 5, 2 * mebibyte - 1536, 700]
    path = write_tar(tmp_path / "a.tar", [(f"{i}.x", rng.bytes(size)) for i, size in enumerate(sizes)])
    index, sets = pyimportance.index(path), []
    for window in (1, 16 * mebibyte):
        monkeypatch.setattr(pool, "LOCAL_WINDOW", window)
        shards = write_shards(index, divide(9, 2), tmp_path / f"out-{window}")
        repartition(shards, divide(9, 2, seed=2))
        sets.append(tree(tmp_path / f"out-{window}"))
    assert sets[0] == sets[1]
    assert ShardSet.open(shards.root).verify().ok


def test_an_index_that_leaves_no_room_for_headers(indexed: Any, tmp_path: Path, divide: Divide) -> None:
    _, index = indexed("ustar")
    for places in (index.part_offset - 512, index.part_offset - 511):
        with pytest.raises(DataError, match="the index has this member here"):
            write_shards(replace(index, part_offset=places), divide(6, 1), tmp_path / f"out-{places[0]}")


def test_an_index_of_shards_that_leaves_no_room_for_headers(tmp_path: Path, write_tar: Any) -> None:
    """Of our own shards headers are copied, as long as we write them: here longer than what is there."""
    index = pyimportance.index(write_tar(tmp_path / "a.tar", [("k.x", b"1" * 10)]))
    index = replace(index, keys=pa.array(["é" * 100], pa.large_string()))
    (plan,) = plan_group(select(index, np.arange(1), index.keys), 0, 0, 0, Layout(), bins=1)
    (tmp_path / "worker-000").mkdir()
    text = r"a\.tar, member 'é{100}\.x', offset 512: the index leaves 512 bytes .*, which are 1536"
    with (
        pytest.raises(DataError, match=text),
        locked(str(tmp_path / "job.json")) as notes,
        copy.open_sources(index) as files,
        pool.ShardPool(str(tmp_path), files, Journal(notes), canonical=True) as writing,
    ):
        writing.submit(plan, None).result()
    assert not list((tmp_path / "worker-000").iterdir())


@pytest.mark.parametrize("change", [swapped, extended, longer])
def test_repartition_from_a_shard_that_was_written_again(
    change: Any, tmp_path: Path, write_tar: Any, divide: Divide, tree: Any
) -> None:
    old = members("ustar")
    first = divide(6, 2)
    second = replace(first, order=np.concatenate([first.worker(1), first.worker(0)]))  # all change workers
    shards = write_shards(write_tar(tmp_path / "data.tar", old), first, tmp_path / "out")
    name = shards.shards[0].path
    own = change([old[3 * i + k] for i in first.worker(0).tolist() for k in range(3)])
    in_order = partition(Scores(-np.arange(3, dtype=np.float32)), 1)
    other = write_shards(write_tar(tmp_path / "own.tar", own), in_order, tmp_path / "other")
    assert other.shards[0].nbytes == shards.shards[0].nbytes
    shutil.copyfile(other.path_of(other.shards[0].path), shards.path_of(name))
    before = tree(Path(shards.root))
    with pytest.raises(DataError, match=rf"{name}, member .*: the index has this member here, .*{DAMAGED}"):
        repartition(shards, second)
    assert ShardSet.open(shards.root).generation == 0
    assert not list(Path(shards.root).rglob("*.tmp"))
    assert {path: digest for path, digest in tree(Path(shards.root)).items() if path in before} == before
    assert not shards.verify().ok
