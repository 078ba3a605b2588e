"""The native threads that shards are written by: whatever their number, and when they are stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyimportance import _C, ArgumentError, DataError, Partition, compact, repartition, write_shards
from pyimportance.io.meter import Meter
from pyimportance.shards import pool

Divide = Callable[..., Partition]


def test_same_bytes_on_any_number_of_threads(
    source: Path, tmp_path: Path, divide: Divide, tree: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets, read = [], []
    for threads, begun in ((1, 1), (2, 3), (7, 100)):
        monkeypatch.setattr(pool, "AT_ONCE", threads)
        monkeypatch.setattr(pool, "_BEGUN", begun)
        out, meters = tmp_path / str(threads), [Meter() for _ in range(3)]
        shards = write_shards(source, divide(66, 3, 2), out, shard_bytes=20_000, meters=meters)
        compact(repartition(shards, divide(66, 3, 2, seed=1), meters=meters))
        sets.append(tree(out))
        read.append([meter.counts.tolist() for meter in meters])
    assert len(sets[0]) > 40
    assert sets[0] == sets[1] == sets[2]
    assert read[0] == read[1] == read[2]


def test_no_thread_of_python_writes_local_tars(
    source: Path, tmp_path: Path, divide: Divide, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, renaming = os.replace, set()

    def noted(old: str, new: str) -> None:
        renaming.add(threading.get_ident())
        rename(old, new)

    monkeypatch.setattr(os, "replace", noted)
    write_shards(source, divide(66, 3, 2), tmp_path / "out", shard_bytes=20_000)
    assert renaming == {threading.get_ident()}


# Interrupted when the copier has something of a shard of gigabytes, at which it would be for seconds. It
# tells what was there of the shard when it was given up.
INTERRUPTED = """
import os, signal, sys, threading, time
import numpy as np
from pyimportance import Scores, index, partition, write_shards

source, out = sys.argv[1:]
found = index(source)
parts = partition(Scores(np.arange(found.num_samples, dtype=np.float32)), 1)

unlink = os.unlink

def telling(path):
    if path.endswith(".tmp"):
        print(os.path.getsize(path))
    unlink(path)

os.unlink = telling

def interrupt():
    while not any(os.path.getsize(os.path.join(at, n)) for at, _, names in os.walk(out) for n in names
                  if n.endswith(".tmp")):
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt).start()
try:
    write_shards(found, parts, out, shard_bytes=8 << 30)
except KeyboardInterrupt:
    print("interrupted", flush=True)
print(sorted(n for _, _, names in os.walk(out) for n in names))
"""


def test_an_interruption_ends_it_soon_and_leaves_nothing(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    sparse = 1 << 30  # of zeros, which take no room on the disk and none of a source's
    for number in range(4):
        with open(source / f"{number}.tar", "wb") as tar:
            header = np.zeros(512, np.uint8)
            name, size = f"k{number}.bin".encode(), f"{sparse:011o}".encode()
            for at, text in ((0, name), (100, b"0000444"), (124, size), (156, b"0"), (257, b"ustar\x0000")):
                header[at : at + len(text)] = np.frombuffer(text, np.uint8)
            header[148:156] = ord(" ")
            header[148:155] = np.frombuffer(b"%06o\0" % int(header.sum()), np.uint8)
            tar.write(header.tobytes())
            tar.truncate(512 + sparse + 1024)
    start = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(source), str(out)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    written, *told = ended.stdout.splitlines()
    assert told == ["interrupted", "['job.json']"], (ended, time.monotonic() - start)
    assert int(written) <= 2 * sparse, "it went on to the end of what nobody wanted"
    assert not list(out.rglob("*.tmp"))


def test_tasks(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(range(256)) * 9000)
    file = os.open(path, os.O_RDONLY)
    copier = _C.TarCopier([], False, 2)
    crc32c = _C.crc32c(path.read_bytes())
    tasks = [copier.begin_sum(file, size) for size in (256 * 9000, 0, 256 * 9001)]
    with pytest.raises(DataError, match=r"offset 2304000: the file ends here; it has become shorter"):
        copier.wait(tasks[2])
    assert copier.wait(tasks[1]) == (0, 0, 0, 0)
    while not copier.ended(tasks[0]):
        time.sleep(0.001)
    assert copier.wait(tasks[0]) == (2304000, crc32c, 2304000, 3)
    with pytest.raises(ArgumentError, match="task 0 is unknown"):
        copier.wait(tasks[0])
    with pytest.raises(ArgumentError, match="task 0 is unknown"):
        copier.ended(tasks[0])
    copier.forget(tasks[0])
    forgotten = [copier.begin_sum(file, 256 * 9000) for _ in range(9)]
    for task in forgotten:
        copier.forget(task)
    last = copier.begin_sum(file, 256 * 9000)

    assert copier.wait(last)[1] == crc32c
    copier.close()
    copier.close()
    with pytest.raises(ArgumentError, match="is closed"):
        copier.begin_sum(file, 1)
    with pytest.raises(ArgumentError, match="threads"):
        _C.TarCopier([], False, 0)
    os.close(file)


def test_what_is_closed_ends_what_waits(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with open(path, "wb") as file:
        file.truncate(8 << 30)
    descriptor = os.open(path, os.O_RDONLY)
    copier = _C.TarCopier([], False, 1)
    tasks = [copier.begin_sum(descriptor, 8 << 30) for _ in range(3)]
    start = time.monotonic()
    copier.close()
    assert time.monotonic() - start < 1
    for task in tasks:
        with pytest.raises(RuntimeError, match="was stopped"):
            copier.wait(task)
    os.close(descriptor)


def test_several_threads_begin_and_close(tmp_path: Path) -> None:
    """As compressed shards and those of stores do. The first of them begins the threads, whichever it is."""
    path = tmp_path / "a"
    path.write_bytes(bytes(range(256)) * 400)
    crc32c = _C.crc32c(path.read_bytes())
    file = os.open(path, os.O_RDONLY)
    for _ in range(20):
        copier, together = _C.TarCopier([], False, 2), threading.Barrier(4)
        ended: list[bool] = []

        def work(copier: Any = copier, together: Any = together, ended: list[bool] = ended) -> None:
            together.wait()
            for _ in range(3):
                task = copier.begin_sum(file, 256 * 400)
                copier.ended(task)
                ended.append(copier.wait(task)[1] == crc32c)
            together.wait()
            copier.close()
            with pytest.raises(ArgumentError, match="is closed"):
                copier.begin_sum(file, 1)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ended == [True] * 12
    os.close(file)


def test_its_threads_leave_signals_to_python(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(100))
    before = set(os.listdir("/proc/self/task"))
    copier = _C.TarCopier([], False, 2)
    file = os.open(path, os.O_RDONLY)
    copier.wait(copier.begin_sum(file, 100))
    own = set(os.listdir("/proc/self/task")) - before
    assert len(own) == 2
    for thread in own:
        blocked = -1
        while blocked >> (signal.SIGSEGV - 1) & 1:  # as libc has it until a thread has begun
            status = Path(f"/proc/self/task/{thread}/status").read_text(encoding="ascii")
            blocked = int(status.split("SigBlk:")[1].split()[0], 16)
        assert blocked >> (signal.SIGINT - 1) & 1
    copier.close()
    os.close(file)


FORKED = """
import os, sys
from pyimportance import _C, ArgumentError

file = os.open(sys.argv[1], os.O_RDONLY)
size = os.fstat(file).st_size
copier = _C.TarCopier([], False, 2)
tasks = [copier.begin_sum(file, size) for _ in range(9)]
child = os.fork()
if child == 0:
    said = []
    for call in (lambda: copier.wait(tasks[8]), lambda: copier.begin_sum(file, 1)):
        try:
            call()
        except ArgumentError as error:
            said.append("before a fork" in str(error))
    copier.forget(tasks[8])
    copier.close()
    del copier
    os._exit(sum(said) + 40 * (_C.TarCopier([], False, 1).begin_sum(file, size) == 0))
sums = {copier.wait(task)[1] for task in tasks}
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(sums))
"""


def test_a_forked_child_has_threads_of_its_own(tmp_path: Path) -> None:
    """What it inherits has none there: it says so, and goes away without waiting."""
    path = tmp_path / "a"
    path.write_bytes(bytes(5 << 20))
    command = [sys.executable, "-W", "ignore", "-c", FORKED, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.stdout == "42 1\n", result.stderr
