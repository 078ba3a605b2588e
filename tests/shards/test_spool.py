"""The directory of a spool: interruptions, changed sources, what else may lie there."""

from __future__ import annotations

import gzip
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyimportance import ArgumentError, DataError, OutputError, index, write_shards
from pyimportance.io.lock import locked
from pyimportance.io.meter import Meter
from pyimportance.shards.journal import parse
from pyimportance.shards.spool import spool, spool_stream
from pyimportance.shards.streams.recognise import recognise
from pyimportance.shards.streams.stream import Samples, State, Stream

# Forks a process per point, which is killed at its n-th rename, before or after it.
KILLED = """
import itertools, os, signal, sys
import pyarrow.parquet  # and what else takes time, once for all
from pyimportance.shards.spool import spool
source, folder, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
rename = os.replace
os.fsync = os.fstat  # nobody pulls the plug

def replace(old, new):
    mine = next(renamed)
    if mine == number // 2 and not number % 2:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(old, new)
    if mine == number // 2 and number % 2:
        os.kill(os.getpid(), signal.SIGKILL)

for number in range(2, 2 * count + 2):
    child = os.fork()
    if child == 0:
        os.replace, renamed = replace, itertools.count(1)
        spool(source, f"{folder}/{number}", shard_bytes=30_000)
        os._exit(0)
    ended = os.waitpid(child, 0)[1]
    assert ended == signal.SIGKILL, (number, ended)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes, one of which makes several tars."""
    root = tmp_path / "folder"
    for name, files in (("cat", 3), ("dog", 60), ("emu", 1)):
        (root / name).mkdir(parents=True)
        for i in range(files):
            (root / name / f"{i:02d}.bin").write_bytes(os.urandom(500 * (i % 5)))
    return root


def test_killed_at_any_step_it_completes_with_the_same_bytes(folder: Path, tmp_path: Path, tree: Any) -> None:
    spool(folder, tmp_path / "whole", shard_bytes=30_000)
    whole = tree(tmp_path / "whole")
    tars = [name for name in whole if name.endswith(".tar")]
    count = len(tars) + 4  # an index of each class, and of all
    assert count > 8
    command = [sys.executable, "-c", KILLED, str(folder), str(tmp_path), str(count)]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == 0, killed.stderr
    for number in range(2, 2 * count + 2):
        out = tmp_path / str(number)
        noted = parse((out / "job.json").read_bytes())[1]
        meter = Meter()
        again = spool(folder, out, shard_bytes=30_000, meter=meter)
        assert tree(out) == whole, number
        assert again.num_samples == 64
        unread = [f for n, f in enumerate(sorted(folder.iterdir())) if f"{n:06d}-{f.name}.arrow" not in noted]
        assert meter.bytes("origin") == sum(p.stat().st_size for f in unread for p in f.iterdir()), number


def test_finished_it_is_not_read_again(folder: Path, tmp_path: Path, tree: Any) -> None:
    first = spool(folder, tmp_path / "spool")
    before, meter = tree(tmp_path / "spool"), Meter()
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "spool").iterdir()}
    again = spool(folder, tmp_path / "spool", meter=meter)
    assert again.digest == first.digest
    assert meter.bytes("origin") == 0
    assert tree(tmp_path / "spool") == before
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "spool").iterdir()} == times


def test_it_may_be_moved(folder: Path, tmp_path: Path) -> None:
    first = spool(folder, tmp_path / "spool")
    (tmp_path / "spool").rename(tmp_path / "moved")
    again = spool(folder, tmp_path / "moved")
    assert again.digest == first.digest
    assert all(Path(f).parent == tmp_path / "moved" for f in again.files)


def test_a_changed_source_is_another_one(folder: Path, tmp_path: Path) -> None:
    spool(folder, tmp_path / "spool")
    (folder / "cat/00.bin").write_bytes(b"other")
    with pytest.raises(OutputError) as caught:
        spool(folder, tmp_path / "spool")
    what = f"the folder {str(folder)!r}"
    assert str(caught.value) == (
        f"{tmp_path}/spool: holds a spool of {what} in another state, or by other options, than {what} is "
        "now; give an empty or new directory"
    )
    with pytest.raises(OutputError, match="in another state, or by other options"):
        spool(folder, tmp_path / "spool", shard_bytes=5000)


def test_iterables_are_told_apart_by_their_first_sample(tmp_path: Path) -> None:
    def samples(first: bytes) -> Iterator[dict[str, Any]]:
        yield {"__key__": "0", "bin": first}
        yield {"__key__": "1", "bin": b""}

    one = spool(samples(b"one"), tmp_path / "spool")
    assert spool(samples(b"one"), tmp_path / "spool").digest == one.digest
    with pytest.raises(OutputError, match="holds a spool of an iterable of samples in another state"):
        spool(samples(b"two"), tmp_path / "spool")


def test_a_source_that_changes_while_it_is_read(folder: Path, tmp_path: Path) -> None:
    def touch(done: int, total: int) -> None:
        changed = folder / "dog/55.bin"  # an empty one
        if done and not changed.stat().st_size:  # classes are read together: at the end dog may be complete
            changed.write_bytes(b"changed now")

    with pytest.raises(DataError, match="folder/dog: was changed while it was read"):
        spool(folder, tmp_path / "spool", progress=touch)
    assert not (tmp_path / "spool/index.arrow").exists()


def test_what_a_failed_run_left_does_not_stay(tmp_path: Path, tree: Any) -> None:
    def samples(count: int, fail: bool) -> Iterator[dict[str, Any]]:
        for i in range(count):
            yield {"__key__": f"{i:05d}", "bin": bytes(1000)}
        if fail:
            raise RuntimeError("stop")

    with pytest.raises(DataError, match="stop"):
        spool(samples(3000, True), tmp_path / "spool", shard_bytes=100_000)
    assert len(list((tmp_path / "spool").glob("*.tar"))) > 10
    spool(samples(20, False), tmp_path / "spool", shard_bytes=100_000)
    spool(samples(20, False), tmp_path / "whole", shard_bytes=100_000)
    assert tree(tmp_path / "spool") == tree(tmp_path / "whole")


def test_a_unit_that_fails_ends_the_others(tmp_path: Path) -> None:
    def fails(meter: Meter | None) -> Iterator[tuple[str, dict[str, bytes]]]:
        yield "0", {"bin": b""}
        raise DataError("broken", path="first")

    def goes_on(meter: Meter | None) -> Iterator[tuple[str, dict[str, bytes]]]:
        for i in itertools.count():
            yield str(i), {"bin": bytes(1000)}

    units = (
        Samples("a", "first", fails, lambda: State(1)),
        Samples("b", "second", goes_on, lambda: State(2)),
    )
    with pytest.raises(DataError, match="first: broken"):
        spool_stream(Stream("two", units), tmp_path / "spool", shard_bytes=1 << 20)
    assert not list((tmp_path / "spool").glob("*.tmp"))


def test_a_temporary_one_makes_room(folder: Path, tmp_path: Path, tree: Any) -> None:
    stream = recognise(folder)
    assert isinstance(stream, Stream)
    spool_stream(stream, tmp_path / "spool", temporary=True)
    (folder / "cat/00.bin").write_bytes(b"other")
    spool_stream(stream, tmp_path / "spool", temporary=True)
    spool(folder, tmp_path / "whole")
    assert tree(tmp_path / "spool") == tree(tmp_path / "whole")


def test_a_second_process_waits(folder: Path, tmp_path: Path) -> None:
    spool(folder, tmp_path / "spool")
    found: list[int] = []
    waiting = threading.Thread(target=lambda: found.append(len(spool(folder, tmp_path / "spool"))))
    with locked(str(tmp_path / "spool/job.json")):
        waiting.start()
        waiting.join(0.2)
        assert found == []
    waiting.join()
    assert found == [64]


def test_a_directory_that_holds_something_else(
    folder: Path, source: Path, tmp_path: Path, divide: Any
) -> None:
    before = sorted(folder.rglob("*"))
    for inside in (folder, folder / "cat/spool"):
        with pytest.raises(ArgumentError, match=r"lies in the folder '.*', of which it would become a part"):
            spool(folder, inside)
    with pytest.raises(OutputError, match="holds something else \\('cat'\\); give an empty or new directory"):
        spool(source, folder)
    assert sorted(folder.rglob("*")) == before
    shards = tmp_path / "shards"
    write_shards(source, divide(66, 2), shards)
    with pytest.raises(OutputError, match="holds a spool of something else in another state"):
        spool(folder, shards)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file: is a file; give a directory"):
        spool(folder, tmp_path / "file")
    spool(folder, tmp_path / "spool")
    (tmp_path / "spool/job.json").write_bytes(b"{")
    with pytest.raises(OutputError, match="spool: holds something else"):
        spool(folder, tmp_path / "spool")
    assert len(list((tmp_path / "spool").glob("*.tar"))) == 3


def test_what_is_damaged_is_said(folder: Path, tmp_path: Path) -> None:
    tars = spool(folder, tmp_path / "spool").files
    os.unlink(tars[1])
    with pytest.raises(
        DataError, match=f"000001-dog-000000.tar: is gone or damaged; remove the spool {tmp_path}"
    ):
        spool(folder, tmp_path / "spool")


def test_an_index_that_names_other_files(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "spool"
    spool(folder, out)
    data = (out / "index.arrow").read_bytes()
    forged = data.replace(b"000001-dog-000000.tar", b"../../../../../../x.t")
    assert forged != data
    (out / "index.arrow").write_bytes(forged)
    with pytest.raises(DataError, match=r"index\.arrow: has CRC32C"):
        spool(folder, out)


def test_a_full_disk(folder: Path, tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from pyimportance.shards.spool import spool\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "spool(*sys.argv[1:])\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(tmp_path / "spool")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "OutputError" in run.stderr
    assert "000001-dog-000000.tar: cannot be written (File too large)" in run.stderr
    assert not list((tmp_path / "spool").glob("*.tmp"))
    assert len(spool(folder, tmp_path / "spool")) == 64


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"shard_bytes": 0}, "shard_bytes=0: must be at least 1"),
        ({"allow_missing_eof": 1}, "allow_missing_eof=1: must be True or False"),
    ],
)
def test_bad_options(options: Any, problem: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError) as caught:
        spool(folder, tmp_path / "spool", **options)
    assert str(caught.value) == problem
    assert not (tmp_path / "spool").exists()


def test_a_tar_without_its_end(source: Path, tmp_path: Path) -> None:
    data = (source / "data-000.tar").read_bytes().rstrip(b"\0")
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(data + bytes(-len(data) % 512)))
    with pytest.raises(DataError, match=r"x\.tar\.gz.*allow_missing_eof"):
        index(tmp_path / "x.tar.gz", spool=tmp_path / "spool")
    assert len(index(tmp_path / "x.tar.gz", spool=tmp_path / "spool", allow_missing_eof=True)) == 25


def test_no_samples(tmp_path: Path, write_tar: Any) -> None:
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(write_tar(tmp_path / "x.tar", []).read_bytes()))
    with pytest.raises(DataError, match=r"x\.tar\.gz.*: holds no samples"):
        index(tmp_path / "x.tar.gz", spool=tmp_path / "spool")
