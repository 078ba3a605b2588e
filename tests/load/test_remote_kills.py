"""Jobs of a node that read through one cache, of which one loses a loader process: the other goes on."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np

from pyimportance import write_shards
from tests.load.conftest import divide, write_tar
from tests.server import Server

N = 160
ROOT = Path(__file__).parents[2]
JOB = """
import json, sys, zlib
from torch.utils.data import DataLoader
from pyimportance import ImportanceDataset

dataset = ImportanceDataset(sys.argv[1], batch_size=8, cache_dir=sys.argv[2], window_bytes=1 << 18)
batches = iter(DataLoader(dataset, batch_size=8, num_workers=1, collate_fn=list))
print(batches._workers[0].pid, flush=True)
read = []
try:
    for batch in batches:
        read += [(sample["__index__"], zlib.crc32(sample["bin"])) for sample in batch]
except RuntimeError as error:
    assert "exited unexpectedly" in str(error) or "killed by signal" in str(error)
    print("lost")
else:
    print(json.dumps([read, dataset.io_report().bytes("origin")]))
"""


def opened(process, folder):
    """The files in a folder that a process has open."""
    paths = set()
    for fd in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            paths.add(os.readlink(fd))
    return {path for path in paths if path.startswith(f"{folder}/")}


def ranges_of_tars(server):
    """[(path, begin, end)] of what was sent by half, and is waited for, and the same of what was sent."""
    asked = [r for r in server.requests if r.method == "GET" and r.range and r.path.endswith(".tar")]
    whole = [r.sent == r.range[1] - r.range[0] for r in asked]
    each = [(r.path, *r.range) for r in asked]
    return [[some for some, w in zip(each, whole, strict=True) if w == sent] for sent in (False, True)]


def test_a_loader_process_is_killed_while_that_of_another_job_waits_for_it(tmp_path):
    r, cache = np.random.default_rng(0), Path(os.path.realpath(tmp_path)) / "cache"
    parts = [r.bytes(int(r.integers(1000, 40_000))) for _ in range(N)]
    (tmp_path / "origin").mkdir()
    write_tar(tmp_path / "s.tar", [(f"k{i:05d}", {"bin": part}) for i, part in enumerate(parts)])
    made = write_shards(tmp_path / "s.tar", divide([N], 2), tmp_path / "origin" / "set")
    with Server(tmp_path / "origin") as server:
        jobs = []

        def start():
            """(a job, the number of its loader process)"""
            command = [sys.executable, "-c", JOB, f"{server.url}/set", str(cache)]
            jobs.append(subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT))
            return jobs[-1], int(jobs[-1].stdout.readline())

        try:
            server.fail("stall", path=".tar", times=9999)
            first, victim = start()
            until = time.monotonic() + 120
            while server.at_once < 2 and time.monotonic() < until:
                time.sleep(0.02)
            time.sleep(0.5)
            server._faults.clear()  # what was asked for already is waited for in vain
            assert ranges_of_tars(server)[0]
            second, other = start()
            while not opened(other, cache) & opened(victim, cache) and time.monotonic() < until:
                time.sleep(0.02)
            time.sleep(1)
            assert opened(other, cache) & opened(victim, cache)
            assert second.poll() is None
            stalled, sent = ranges_of_tars(server)
            for path, begin, end in sent:  # nobody asks for what another has under way
                assert all(path != p or end <= b or begin >= e for p, b, e in stalled)
            os.kill(victim, signal.SIGKILL)
            assert first.communicate(timeout=60)[0] == b"lost\n"
            read, origin = json.loads(second.communicate(timeout=60)[0])
            fetched = sum(end - begin for _, begin, end in ranges_of_tars(server)[1])
        finally:
            for job in jobs:
                job.kill()
                job.communicate()
    assert sorted(read) == [[i, zlib.crc32(part)] for i, part in enumerate(parts)]
    assert origin <= fetched == sum(int(made.index(w).nbytes.sum()) for w in range(made.workers))
