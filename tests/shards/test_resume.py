"""Interruptions, a full disk, and output directories that hold something."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pyimportance
from pyimportance import _C, OutputError, Partition, ShardSet, compact, repartition, write_shards
from pyimportance.io.lock import locked
from pyimportance.io.meter import Meter
from pyimportance.shards import pool
from pyimportance.shards.generations import write_delta

Divide = Callable[..., Partition]

WRITE = """
import sys
from pyimportance import Partition, write_shards
source, parts, out = sys.argv[1:]
write_shards(source, Partition.load(parts), out, shard_bytes=20_000)
"""

# Forks a process per point, which is killed there. "before manifest.json 2": its second rename is not done.
KILLED = """
import os, signal, sys
from collections import Counter
import pyarrow.parquet  # and what else takes time, once for all
from pyimportance import Partition, compact, repartition, write_shards
source, first, second, folder, *points = sys.argv[1:]
rename, renamed = os.replace, Counter()
os.fsync = os.fstat  # nobody pulls the plug

def replace(old, new):
    name = os.path.relpath(new, out)
    renamed[name] += 1
    for moment, step in (("before", lambda: rename(old, new)), ("after", lambda: None)):
        if point == f"{moment} {name} {renamed[name]}":
            os.kill(os.getpid(), signal.SIGKILL)
        step()

for number, point in enumerate(points):
    child = os.fork()
    if child == 0:
        out, os.replace = f"{folder}/out-{number}", replace
        shards = write_shards(source, Partition.load(first), out, shard_bytes=150_000)
        compact(repartition(shards, Partition.load(second)))
        os._exit(0)
    ended = os.waitpid(child, 0)[1]
    assert ended == signal.SIGKILL, (point, ended)
"""


def test_killed_at_any_step_it_completes_with_the_same_bytes(
    source: Path, tmp_path: Path, divide: Divide, tree: Any
) -> None:
    first, second = divide(66, 2), divide(66, 2, seed=1)
    paths = [tmp_path / name for name in ("first.parquet", "second.parquet")]
    for parts, path in zip((first, second), paths, strict=True):
        parts.save(path)

    def make(out: Path) -> None:
        compact(repartition(write_shards(source, first, out, shard_bytes=150_000), second))

    make(tmp_path / "whole")
    whole = tree(tmp_path / "whole")
    renamed = [f"{name} 1" for name in whole if not Path(name).name.startswith(("job", "claim"))]
    renamed += ["manifest.json 2", "manifest.json 3"]
    assert len(renamed) > 20
    points = [f"{moment} {name}" for name in renamed for moment in ("before", "after")]
    command = [sys.executable, "-c", KILLED, str(source), *map(str, paths), str(tmp_path), *points]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == 0, killed.stderr
    for number, point in enumerate(points):
        out = tmp_path / f"out-{number}"
        assert bool(list(out.rglob("*.tmp"))) >= point.startswith("before"), point
        if (out / "manifest.json").exists():  # what a reader would take for complete is complete
            assert ShardSet.open(out).verify().ok, point
        make(out)
        assert tree(out) == whole, point


class StopHereError(Exception):
    """An interruption at a known place."""


def test_finished_shards_are_kept(source: Path, tmp_path: Path, divide: Divide, tree: Any) -> None:
    index = pyimportance.index(source)
    parts = divide(index, 2)
    write_shards(index, parts, tmp_path / "whole", shard_bytes=30_000)
    count = 0

    def stop(done: int, total: int) -> None:
        nonlocal count
        count += 1
        if count == 4:
            raise StopHereError

    out = tmp_path / "out"
    with pytest.raises(StopHereError):
        write_shards(index, parts, out, shard_bytes=30_000, progress=stop)
    kept = {p: p.stat().st_ino for p in out.rglob("*.tar")}
    assert len(kept) >= 4  # those that were being written meanwhile are finished too
    assert not (out / "manifest.json").exists()
    half = next(iter(kept))
    os.truncate(half, 1000)  # not what a rename leaves, but no reason to keep it
    meters = [Meter(), Meter()]
    write_shards(index, parts, out, shard_bytes=30_000, meters=meters)
    assert tree(out) == tree(tmp_path / "whole")
    assert {p for p, inode in kept.items() if p.stat().st_ino == inode} >= kept.keys() - {half}
    reused = sum(p.stat().st_size for p in kept if p != half)
    assert sum(m.bytes("disk") for m in meters) == reused
    assert 0 < sum(m.bytes("origin") for m in meters) < index.nbytes.sum()


@pytest.mark.parametrize("error", [StopHereError(), KeyboardInterrupt()])
def test_what_native_threads_have_finished_is_kept(  # noqa: PLR0917
    error: BaseException, source: Path, tmp_path: Path, divide: Divide, tree: Any, monkeypatch: Any
) -> None:
    """Though nobody has asked for it, whatever ends the run."""
    index, parts, out = pyimportance.index(source), divide(66, 1), tmp_path / "out"
    whole = write_shards(index, parts, tmp_path / "whole", shard_bytes=30_000)
    submit, finished = pool.ShardPool.submit, 10

    def failing(own: pool.ShardPool, *arguments: Any) -> Any:
        if len(own._begun) < finished:
            return submit(own, *arguments)
        while not all(own._copier.ended(begun.task) for begun in own._begun):
            time.sleep(0.001)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(pool.ShardPool, "submit", failing)
        patch.setattr(pool.ShardPool, "take_up", lambda own: None)
        with pytest.raises(type(error)):
            write_shards(index, parts, out, shard_bytes=30_000)
    kept = {path: path.stat().st_ino for path in out.rglob("*.tar")}
    first = [s.path for s in whole.shards[:finished]]
    assert sorted(str(path.relative_to(out)) for path in kept) == first
    noted = [json.loads(line)["path"] for line in (out / "job.json").read_text().splitlines()[1:]]
    assert noted == first
    assert not list(out.rglob("*.tmp"))
    write_shards(index, parts, out, shard_bytes=30_000)
    assert tree(out) == tree(tmp_path / "whole")
    assert {path: path.stat().st_ino for path in kept} == kept


def test_all_is_closed_whatever_is_raised_meanwhile(
    source: Path, tmp_path: Path, divide: Divide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by who interrupts twice."""
    index, close, closed = pyimportance.index(source), pool.Begun.close, []

    def interrupted(begun: pool.Begun) -> None:
        close(begun)
        closed.append(begun.done())
        raise KeyboardInterrupt

    submit = pool.ShardPool.submit

    def failing(own: pool.ShardPool, *arguments: Any) -> Any:
        if len(own._begun) == 5:
            raise StopHereError
        return submit(own, *arguments)

    monkeypatch.setattr(pool.ShardPool, "submit", failing)
    monkeypatch.setattr(pool.ShardPool, "take_up", lambda own: None)
    monkeypatch.setattr(pool.Begun, "close", interrupted)
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        write_shards(index, divide(66, 1), tmp_path / "out", shard_bytes=10_000)
    assert closed == [True] * 5
    assert not list(tmp_path.rglob("*.tmp"))
    assert set(threading.enumerate()) == before


def test_what_is_finished_is_noted_while_another_shard_takes_long(
    source: Path, tmp_path: Path, divide: Divide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that who kills this process takes little of it."""

    class FirstTakesLong(_C.TarCopier):
        def ended(self, number: int) -> bool:
            while number > 0 and not super().ended(number):
                time.sleep(0.001)
            return number > 0

    result, noted = pool.Begun.result, []

    def looking(begun: pool.Begun) -> Any:
        if not noted:
            lines = (tmp_path / "out" / "job.json").read_text().splitlines()[1:]
            noted.extend(json.loads(line)["path"] for line in lines)
        return result(begun)

    monkeypatch.setattr(_C, "TarCopier", FirstTakesLong)
    monkeypatch.setattr(pool.Begun, "result", looking)
    shards = write_shards(source, divide(66, 1), tmp_path / "out", shard_bytes=30_000)
    assert noted == [s.path for s in shards.shards[1:-1]]  # the last one is just begun


def test_an_error_is_raised_as_often_as_it_is_asked_for(
    source: Path, tmp_path: Path, divide: Divide, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, raised = pool.Begun.result, []

    def twice(begun: pool.Begun) -> Any:
        for _ in range(2):
            with pytest.raises(OutputError, match="cannot be written") as caught:
                result(begun)
            raised.append(caught.value)
        raise caught.value

    def full(old: str, new: str) -> None:
        if new.endswith(".tar"):
            raise OSError(28, "No space left on device")
        rename(old, new)

    rename = os.replace
    monkeypatch.setattr(os, "replace", full)
    monkeypatch.setattr(pool.Begun, "result", twice)
    with pytest.raises(
        OutputError, match=r"-000000\.tar: cannot be written \(No space"
    ):  # the first in order
        write_shards(source, divide(66, 1), tmp_path / "out", shard_bytes=30_000)
    assert raised[0] is raised[1]
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_finished_set_is_returned_as_it_is(source: Path, tmp_path: Path, divide: Divide, tree: Any) -> None:
    parts = divide(pyimportance.index(source), 2)
    first = write_shards(source, parts, tmp_path / "out")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")}
    again = write_shards(source, parts, tmp_path / "out")
    assert again.digest == first.digest
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")} == before
    with pytest.raises(OutputError, match="holds shards already, and resume is False"):
        write_shards(source, parts, tmp_path / "out", resume=False)


def put_file(out: Path) -> None:
    (out / "notes.txt").write_text("mine")


def put_file_below(out: Path) -> None:
    put_job(out)
    (out / "worker-000").mkdir()
    (out / "worker-000" / "photo.jpg").write_text("mine")


def put_worker(out: Path) -> None:
    put_job(out)
    (out / "worker-007").mkdir()


def put_link(out: Path) -> None:
    put_job(out)
    (out / "worker-000").symlink_to("/")


def put_other_job(out: Path) -> None:
    lines = {"format": "pyimportance-job", "job": "f" * 64}, {"path": "worker-000/a", "bytes": 1, "crc32c": 1}
    (out / "job.json").write_text("".join(json.dumps(line) + "\n" for line in lines))


def put_damage(out: Path) -> None:
    (out / "job.json").write_text('{"format": "pyimp')
    (out / "worker-000").mkdir()


def put_job(out: Path) -> None:
    (out / "job.json").write_bytes((out.parent / "whole" / "job.json").read_bytes())


@pytest.mark.parametrize(
    ("put", "text"),
    [
        (put_file, r"out: holds something else \('notes\.txt'\); give an empty or new directory"),
        (put_file_below, r"worker-000/photo\.jpg: is no part of this job"),
        (put_worker, "worker-007: is no part of this job"),
        (put_link, "worker-000: is no part of this job"),
        (put_other_job, r"out: holds unfinished shards of another job \(other data, partition or options\)"),
        (put_damage, r"job\.json is damaged, and other files are there \('worker-000'\)"),
    ],
)
def test_an_output_directory_that_holds_something_else(
    put: Callable[[Path], None], text: str, source: Path, tmp_path: Path, divide: Divide
) -> None:
    parts = divide(pyimportance.index(source), 2)
    write_shards(source, parts, tmp_path / "whole")
    out = tmp_path / "out"
    out.mkdir()
    put(out)
    before = {p: p.lstat().st_mtime_ns for p in out.rglob("*")}
    with pytest.raises(OutputError, match=text):
        write_shards(source, parts, out)
    assert {p: p.lstat().st_mtime_ns for p in out.rglob("*")} == before


def test_a_torn_job_file_alone_is_written_again(source: Path, tmp_path: Path, divide: Divide) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "job.json").write_text('{"format": "pyimp')
    assert write_shards(source, divide(pyimportance.index(source), 2), tmp_path / "out").verify().ok


def test_two_writers_at_once(source: Path, tmp_path: Path, divide: Divide) -> None:
    parts = divide(pyimportance.index(source), 2)
    shards = write_shards(source, parts, tmp_path / "out")
    with (
        locked(str(tmp_path / "out" / "job.json")),
        pytest.raises(OutputError, match=r"job\.json: another process is writing here"),
    ):
        write_shards(source, parts, tmp_path / "out")
    write_delta(shards, divide(66, 2, seed=1), 0)
    with (
        locked(str(tmp_path / "out" / "worker-001" / "job-000001.json")),
        pytest.raises(OutputError, match=r"worker-001/job-000001\.json: another process is writing here"),
    ):
        repartition(shards, divide(66, 2, seed=1))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a MiB, where this process may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if mounted.returncode != 0:
        pytest.skip(f"this process may not mount a small file system: {mounted.stderr.strip()}")
    yield folder
    # Lazily: an exception that pytest keeps may keep a file open.
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(source: Path, small_disk: Path, tmp_path: Path, divide: Divide, tree: Any) -> None:
    parts = divide(pyimportance.index(source), 2)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(200 << 10))
    out = small_disk / "out"
    with pytest.raises(OutputError, match=r"\.(tar|arrow): cannot be written \(No space left on device\)"):
        write_shards(source, parts, out, shard_bytes=100_000)
    assert not (out / "manifest.json").exists()
    assert not list(out.rglob("*.tmp"))
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    write_shards(source, parts, out, shard_bytes=100_000)
    write_shards(source, parts, tmp_path / "whole", shard_bytes=100_000)
    assert tree(out) == tree(tmp_path / "whole")


def test_a_limit_on_the_size_of_files(source: Path, tmp_path: Path, divide: Divide) -> None:
    divide(pyimportance.index(source), 2).save(tmp_path / "parts.parquet")
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))" + WRITE
    arguments = [str(source), str(tmp_path / "parts.parquet"), str(tmp_path / "out")]
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert "OutputError" in result.stderr
    assert ".tar: cannot be written (File too large)" in result.stderr
    assert not list((tmp_path / "out").rglob("*.tmp"))
