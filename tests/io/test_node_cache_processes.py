"""Processes that read through one cache, some of them killed: nobody waits for one, every byte is right."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest

from pyimportance import _C
from pyimportance.io.arriving import Arriving, Origin
from pyimportance.io.downloads import Downloads
from pyimportance.io.meter import Meter
from pyimportance.io.node_cache import NodeCache
from tests.server import Server

MiB = 1 << 20
READ_ONCE = """
import sys
from pyimportance.io.arriving import Arriving, Origin
from pyimportance.io.downloads import Downloads
from pyimportance.io.meter import Meter
from pyimportance.io.node_cache import NodeCache
url, folder, size, crc = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
file = Arriving(url, Origin(NodeCache(folder), {url: (size, crc)}), Downloads(), Meter())
print("begins", flush=True)
file.pread(0, 4096)
"""


def test_a_killed_process_keeps_nobody_waiting(impatient: None, tmp_path: Path) -> None:
    data, folder, meter = np.random.default_rng(0).bytes(2 * MiB), tmp_path / "cache", Meter()
    crc, asked = _C.crc32c(data), threading.Event()
    (tmp_path / "origin").mkdir()
    (tmp_path / "origin" / "a").write_bytes(data)
    with Server(tmp_path / "origin") as server, closing(Downloads()) as downloads:
        url = f"{server.url}/a"
        server.fail("stall", times=1)
        server.on_request = lambda request: request.method == "GET" and asked.set()
        command = [sys.executable, "-c", READ_ONCE, url, str(folder), str(len(data)), str(crc)]
        other = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            assert asked.wait(60)  # the other process has claimed the bytes, and waits for the server
            file = Arriving(url, Origin(NodeCache(folder), {url: (len(data), crc)}), downloads, meter)
            with ThreadPoolExecutor(1) as pool:
                waits = pool.submit(file.pread, 0, 4096)
                time.sleep(0.3)
                assert not waits.done()
                assert len(server.ranges) == 1  # which it does not ask for as well
                other.kill()
                assert waits.result(30) == data[:4096]
        finally:
            other.kill()
            other.communicate()
    assert (meter.bytes("origin"), meter.bytes("cache")) == (4096, 0)


READ_AT_RANDOM = """
import json, random, sys, time
from pathlib import Path
from pyimportance.io.arriving import Arriving, Origin
from pyimportance.io.downloads import Downloads
from pyimportance.io.meter import Meter
from pyimportance.io.node_cache import NodeCache

url, origin, folder, nbytes, seconds, seed, objects = sys.argv[1:8]
data = {name: Path(origin, name).read_bytes() for name in json.loads(objects)}
known = {f"{url}/{name}": tuple(of) for name, of in json.loads(objects).items()}
rng, meter, read = random.Random(seed), Meter(), 0
until = time.monotonic() + float(seconds)
while time.monotonic() < until:
    downloads = Downloads()
    cache = NodeCache(folder, int(nbytes))
    files = {name: Arriving(f"{url}/{name}", Origin(cache, known), downloads, meter) for name in data}
    for _ in range(30):
        name = rng.choice(list(data))
        begin = rng.randrange(len(data[name]))
        n = min(rng.choice([1, 512, 5000, 300_000, 5_000_000]), len(data[name]) - begin)
        assert files[name].pread(begin, n) == data[name][begin : begin + n], (name, begin, n)
        read += 1
    if rng.random() < 0.5:
        downloads.close()
print(read, meter.bytes("origin"), meter.bytes("cache"))
"""


@pytest.mark.slow
def test_random_readers_of_whom_some_are_killed(tmp_path: Path) -> None:
    rng, noise = random.Random(1), np.random.default_rng(1)
    (tmp_path / "origin").mkdir()
    objects = {}
    for i in range(5):
        data = noise.bytes(6 * MiB + 777 * i)
        (tmp_path / "origin" / f"{i}").write_bytes(data)
        objects[f"{i}"] = (len(data), _C.crc32c(data))
    folder, bound, most = tmp_path / "cache", 16 * MiB, 0
    with Server(tmp_path / "origin", delay=0.002) as server:

        def start(seed: int) -> subprocess.Popen[bytes]:
            arguments = [server.url, str(tmp_path / "origin"), str(folder), str(bound), "20", str(seed)]
            command = [sys.executable, "-c", READ_AT_RANDOM, *arguments, json.dumps(objects)]
            return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

        readers, kills = [start(seed) for seed in range(4)], 0
        until = time.monotonic() + 25
        while any(reader.poll() is None for reader in readers):
            assert time.monotonic() < until + 60, "a reader hangs"
            time.sleep(rng.uniform(0.1, 0.5))
            paths = [p for p in folder.iterdir() if p.suffix == ".parts"] if folder.exists() else []
            used = 0
            for path in paths:
                with suppress(FileNotFoundError):  # removed meanwhile
                    used += path.stat().st_blocks * 512
            most = max(most, used)
            if time.monotonic() < until - 8 and rng.random() < 0.5:
                victim = rng.randrange(4)
                readers[victim].kill()
                readers[victim].communicate()
                kills += 1
                readers[victim] = start(100 + kills)
        told = [(reader.returncode, *reader.communicate()) for reader in readers]
    assert [code for code, *_ in told] == [0] * 4, told
    assert kills > 3
    assert 8 * MiB < most <= bound
    print(kills, "killed;", most, "bytes at most;", [out.decode().strip() for _, out, _ in told])
