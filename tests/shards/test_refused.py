"""Runs that were refused leave nothing in the way of the next one, and nothing of anybody's is removed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import pyimportance
from pyimportance import (
    ArgumentError,
    DataError,
    OutputError,
    Partition,
    SampleIndex,
    ShardSet,
    repartition,
    write_shards,
)
from pyimportance.io import storage
from pyimportance.shards import copy

Divide = Callable[..., Partition]
MEMBERS = [(f"{i:03d}.cls", b"%d" % (i % 3)) for i in range(20)]


def in_another_order(tar: Path, write_tar: Any, _: pytest.MonkeyPatch) -> None:
    write_tar(tar, MEMBERS[::-1])


def of_another_size(tar: Path, write_tar: Any, _: pytest.MonkeyPatch) -> None:
    write_tar(tar, [*MEMBERS[:-1], ("019.cls", b"1" * 20_000)])


def gone(tar: Path, _: Any, __: pytest.MonkeyPatch) -> None:
    tar.unlink()


def cut_meanwhile(tar: Path, _: Any, patch: pytest.MonkeyPatch) -> None:
    opened = copy.open_sources

    @contextmanager
    def cut(index: SampleIndex, *_: Any, **__: Any) -> Iterator[Any]:
        with opened(index) as files:
            os.truncate(tar, 100)
            yield files

    patch.setattr(copy, "open_sources", cut)


def too_many(_: Path, __: Any, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(storage, "make_room", lambda files: files - 1)


@pytest.mark.parametrize("as_before", [False, True])
@pytest.mark.parametrize(
    ("spoil", "error", "text", "before_the_claim"),
    [
        (in_another_order, DataError, "index it again", False),
        (of_another_size, DataError, "it had 30720 when it was indexed", True),
        (gone, DataError, "does not exist", True),
        (cut_meanwhile, DataError, "the file ends here", False),
        (too_many, ArgumentError, "files must be open at once", True),
    ],
)
def test_a_source_is_refused_and_after_indexing_again_it_is_not(
    *,
    spoil: Callable[..., None],
    error: type[Exception],
    text: str,
    before_the_claim: bool,
    as_before: bool,
    tmp_path: Path,
    write_tar: Any,
    divide: Divide,
    tree: Any,
) -> None:
    tar, out, parts = tmp_path / "a.tar", tmp_path / "out", divide(20, 3)
    index = pyimportance.index(write_tar(tar, MEMBERS))
    with pytest.MonkeyPatch.context() as patch:
        spoil(tar, write_tar, patch)
        with pytest.raises(error, match=text):
            write_shards(index, parts, out)
    assert out.exists() != before_the_claim
    write_tar(tar, MEMBERS if as_before else MEMBERS[1:] + MEMBERS[:1])
    os.utime(tar, ns=(0, 1))  # another state of it, also where the bytes are the same
    index = pyimportance.index(tar)
    assert write_shards(index, parts, out).verify().ok
    write_shards(index, parts, tmp_path / "fresh")
    assert tree(out) == tree(tmp_path / "fresh")


def test_what_is_finished_needs_no_source(source: Path, tmp_path: Path, divide: Divide) -> None:
    index = pyimportance.index(source)
    shards = write_shards(index, divide(66, 2), tmp_path / "out")
    shutil.rmtree(source)
    assert write_shards(index, divide(66, 2), tmp_path / "out").digest == shards.digest
    with pytest.raises(OutputError, match=r"holds the shards of another job"):
        write_shards(index, divide(66, 3), tmp_path / "out")


def test_what_is_in_the_way_is_told_before_the_source_is_read(tmp_path: Path, divide: Divide) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(OutputError, match="holds something else"):
        write_shards(tmp_path / "no.tar", divide(20, 2), tmp_path / "out")


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """What another job left that was killed over its first shards."""
    out = tmp_path / "out"
    for worker in (0, 7):
        (out / f"worker-{worker:03d}").mkdir(parents=True)
    (out / "worker-000" / "g000000-bin00-000000.tar.0123abcd.tmp").write_bytes(b"half")
    (out / "job.json").write_text(json.dumps({"format": "pyimportance-job", "job": "f" * 64}) + "\n")
    return out


@pytest.mark.parametrize("resume", [True, False])
def test_what_a_job_left_that_finished_nothing_is_no_work(
    *, resume: bool, left: Path, source: Path, tmp_path: Path, divide: Divide, tree: Any
) -> None:
    write_shards(source, divide(66, 2), left, resume=resume)
    write_shards(source, divide(66, 2), tmp_path / "fresh")
    assert tree(left) == tree(tmp_path / "fresh")
    assert not (left / "worker-007").exists()


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "worker-000/g000000-bin00-000000.tar",  # it has its name: perhaps it is only not noted yet
        "worker-000/index-000000.arrow",
        "worker-000/notes.0123abcd.tmp",
        "worker-007/notes.txt",
        "worker-007/folder/notes.txt",
        "manifest-000000.json",
        "folder/notes.txt",
    ],
)
def test_beside_anything_else_all_stays(
    *, name: str, left: Path, source: Path, tmp_path: Path, divide: Divide, tree: Any
) -> None:
    (left / name).parent.mkdir(exist_ok=True)
    (left / name).write_text("mine")
    before = tree(left)
    with pytest.raises(OutputError, match="unfinished shards of another job"):
        write_shards(source, divide(66, 2), left)
    assert tree(left) == before
    assert (left / "worker-007").is_dir()


@pytest.mark.parametrize(
    ("spoil", "error", "text"),
    [
        (lambda path, _: path.unlink(), DataError, "does not exist"),
        (lambda path, _: os.truncate(path, 1024), DataError, "when it was indexed"),
        (lambda path, _: path.write_bytes(bytes(path.stat().st_size)), DataError, "is damaged"),
        (lambda _, patch: too_many(_, None, patch), ArgumentError, "files must be open at once"),
    ],
)
@pytest.mark.parametrize("another", [False, True])
def test_repartition_is_refused_and_then_it_is_not(
    *,
    spoil: Callable[..., None],
    error: type[Exception],
    text: str,
    another: bool,
    source: Path,
    tmp_path: Path,
    divide: Divide,
    tree: Any,
) -> None:
    first = divide(66, 2)
    shards = write_shards(source, first, tmp_path / "out", shard_bytes=60_000)
    shutil.copytree(tmp_path / "out", tmp_path / "fresh")
    path = Path(shards.path_of(shards.shards[-1].path))
    data = path.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        spoil(path, patch)
        with pytest.raises(error, match=text):
            repartition(shards, divide(66, 2, seed=1))
    assert ShardSet.open(tmp_path / "out").generation == 0
    path.write_bytes(data)
    second = divide(66, 2, seed=2 if another else 1)
    assert repartition(shards, second).verify().ok
    repartition(ShardSet.open(tmp_path / "fresh"), second)
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"compression": "gzip"}, "compression='gzip': allowed are None and 'zstd'"),
        ({"level": 3}, "level=3: goes with compression='zstd'"),
        ({"frame_bytes": 3}, "frame_bytes=3: goes with compression='zstd'"),
        ({"compression": "zstd", "level": 0}, "level=0: must be at least 1"),
        ({"compression": "zstd", "level": 23}, "level=23: must be at most 22"),
        (
            {"compression": "zstd", "frame_bytes": 2**30 + 1},
            "frame_bytes=1073741825: must be at most 1073741824",
        ),
    ],
)
def test_options_of_compression(
    source: Path, divide: Divide, tmp_path: Path, options: Any, problem: str
) -> None:
    with pytest.raises(ArgumentError) as raised:
        write_shards(source, divide(66, 2), tmp_path / "x", **options)
    assert str(raised.value) == problem
    assert not (tmp_path / "x").exists()
