"""What a process holds while it reads, by the system's account of it, is what the README says.

tests/load/test_views.py has that of shards in a folder.
"""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from pyimportance import ImportanceDataset, SampleIndex, write_shards
from pyimportance.shards import keys
from tests.load.conftest import divide, write_tar
from tests.load.memory import grown, status

ROOT = Path(__file__).parents[2]
MEBI = 2**20
WINDOW = 2 * MEBI
ROWS = 300_000

MEASURE = """
import gc, json, sys
from pyimportance import SampleIndex, WebDataset, samplers

def anonymous():
    gc.collect()
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Anonymous:")) * 1024

def planned(path):
    dataset = WebDataset(SampleIndex.load(path), rank=0, world_size=1, **eval(sys.argv[3]))
    return dataset, len(dataset.planned_ids())

planned(sys.argv[1])
before = anonymous()
dataset = WebDataset(SampleIndex.load(sys.argv[2]), rank=0, world_size=1, **eval(sys.argv[3]))
print(json.dumps([anonymous() - before, len(dataset)]))
"""

SERVE = """
import sys
from pathlib import Path
from tests.server import Server

with Server(Path(sys.argv[1])) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *(path or "." for path in sys.path)])}


def save_index(path, rows, parts):
    """An index of tars that are not there, of as many rows, in four files."""
    text = np.frombuffer(b"".join(b"key-%08d" % i for i in range(rows)), np.uint8)
    file = np.arange(rows, dtype=np.int64) * 4 // rows
    begin = (np.arange(rows) - np.searchsorted(file, file)) * parts * 1024
    index = SampleIndex(
        files=tuple(f"{i}.tar" for i in range(4)),
        file_bytes=np.bincount(file, minlength=4) * parts * 1024,
        ids=np.arange(rows),
        keys=keys.from_buffers(np.arange(rows + 1) * 12, text),
        file=file.astype(np.int32),
        offset=begin,
        nbytes=np.full(rows, parts * 1024),
        extensions=tuple("abcdefgh"[:parts]),
        part_start=np.arange(rows + 1) * parts,
        part_ext=np.tile(np.arange(parts, dtype=np.int32), rows),
        part_offset=(begin[:, None] + np.arange(parts) * 1024 + 512).ravel(),
        part_size=np.full(rows * parts, 100),
        score=np.random.default_rng(0).normal(size=rows).astype(np.float32),
        bin=np.zeros(rows, np.int32),
    )
    index.save(path)


@pytest.mark.parametrize(
    ("parts", "options", "more"), [(1, "{}", 0), (3, "{}", 0), (1, "{'keep': 0.5}", 0.5 * 32)]
)
def test_bytes_of_a_row(tmp_path, parts, options, more):
    """52 bytes, the key, and 20 for each part; 32 for one that `keep` leaves."""
    if not os.path.exists("/proc/self/smaps_rollup"):
        pytest.skip("this kernel has no /proc/self/smaps_rollup")
    save_index(tmp_path / "few.arrow", 1000, parts)
    save_index(tmp_path / "many.arrow", ROWS, parts)
    command = [sys.executable, "-c", MEASURE, tmp_path / "few.arrow", tmp_path / "many.arrow", options]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    assert result.returncode == 0, result.stderr
    nbytes, samples = json.loads(result.stdout)
    assert samples == (ROWS // 2 if more else ROWS)
    said = 52 + 12 + 20 * parts + more
    assert 0.5 * said < nbytes / ROWS < 1.08 * said + 2 * MEBI / ROWS


@contextmanager
def served(folder):
    """Its URL, from a process of its own, whose memory is not ours."""
    command = [sys.executable, "-c", SERVE, folder]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment(), cwd=ROOT, **pipes) as server:
        try:
            yield server.stdout.readline().strip()
        finally:
            server.stdin.close()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("cached", [False, True])
def test_behind_a_url(tmp_path, cached):
    """What is on its way besides is less than two windows; threads that wait end with the iteration."""
    write_tar(tmp_path / "s.tar", [(f"{i:05d}", {"x": os.urandom(20_000)}) for i in range(3200)])
    write_shards(tmp_path / "s.tar", divide([3200], 2), tmp_path / "set", shard_bytes=8 * MEBI)
    most = status("Threads") + (os.cpu_count() or 1)  # obstore's stay
    with served(tmp_path) as url:
        cache = {"cache_dir": tmp_path / "cache"} if cached else {}
        dataset = ImportanceDataset(
            f"{url}/set", rank=0, world_size=1, batch_size=8, window_bytes=WINDOW, **cache
        )
        assert grown(dataset) < 8 * WINDOW + 8 * MEBI < 64_000_000 / 2
        dataset.set_epoch(1)
        samples = iter(dataset)
        assert max(status("Threads") for _ in samples) <= most + 3 * 16
        until = time.monotonic() + 60
        while status("Threads") > most and time.monotonic() < until:
            time.sleep(0.01)
        assert status("Threads") <= most


def test_compressed(tmp_path):
    """64 MiB of frames."""
    r = np.random.default_rng(0)
    payloads = [r.bytes(100) * 1000 for _ in range(10)]
    write_tar(tmp_path / "s.tar", [(f"{i:05d}", {"x": payloads[i % 10]}) for i in range(1600)])
    shards = write_shards(
        tmp_path / "s.tar", divide([1600], 2), tmp_path / "set", shard_bytes=16 * MEBI, compression="zstd"
    )
    dataset = ImportanceDataset(shards, rank=0, world_size=1, batch_size=8, window_bytes=WINDOW)
    assert grown(dataset) < 64 * MEBI + 8 * WINDOW < 160_000_000 * 2 / 3
