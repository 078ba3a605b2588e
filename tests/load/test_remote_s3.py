"""Shards in a real S3 server, read by ranks of one node and of four: what we, it and the network count."""

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from pyimportance import ShardSet, write_shards
from pyimportance.io import remote, upload
from tests.load.conftest import divide, write_tar
from tests.seaweed import seaweed, sent

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
NODES = 4
HEADERS, ANSWER = 66, 1024  # bytes of Ethernet, IP and TCP in a packet; of an HTTP answer before its body

RANK = """
import json, sys
from pyimportance import ImportanceDataset
from pyimportance.io.storage import open_file

def received():
    return [int(open(f"/sys/class/net/eth0/statistics/rx_{what}").read()) for what in ("bytes", "packets")]

url, cache, rank, world, interface = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
before = received() if interface else [0, 0]
dataset = ImportanceDataset(url, batch_size=8, rank=rank, world_size=world, cache_dir=cache)
epochs = []
for epoch in range(2):
    dataset.set_epoch(epoch)
    ids = [s["__index__"] for s in dataset if not s["__pad__"]]
    now = received() if interface else [0, 0]
    report = dataset.io_report()
    epochs.append({
        "ids": ids, "network": [b - a for a, b in zip(before, now)],
        **{t: [report.bytes(t), report.requests(t)] for t in ("origin", "cache", "disk", "index")},
    })
print(json.dumps(epochs))
"""


def payloads(n, size):
    r = np.random.default_rng(n)
    return [{"bin": r.bytes(size), "cls": b"%d" % (i % 10)} for i in range(n)]


@contextmanager
def in_bucket(folder, workers, n, size, address="127.0.0.1"):
    """(environment, URL of a set in the bucket, bytes of its samples)"""
    write_tar(folder / "s.tar", [(f"k{i:05d}", p) for i, p in enumerate(payloads(n, size))])
    folder.joinpath("weed").mkdir()
    with seaweed(folder / "weed", address) as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        remote._store.cache_clear()
        write_shards(
            folder / "s.tar", divide([n // workers] * workers, 4), "s3://bucket/set", shard_bytes=4 << 20
        )
        shards = ShardSet.open("s3://bucket/set")
        yield environment, shards.root, [int(shards.index(w).nbytes.sum()) for w in range(workers)]
    remote._store.cache_clear()


def run(commands, environment):
    ranks = [
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, **environment, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
        for command in commands
    ]
    try:
        told = [rank.communicate(timeout=500)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0] * len(ranks)
    return [json.loads(text) for text in told]


def settled(environment):
    last = None
    while last != (last := sent(environment)):
        time.sleep(0.5)
    return last


def test_two_ranks_of_a_node_fetch_everything_once(tmp_path):
    """They share a worker, whose samples are dealt to them batch by batch."""
    n = 400
    with in_bucket(tmp_path, 1, n, 50_000) as (environment, url, (nbytes,)):
        sizes = upload.below(url)
        shared = sum(
            size for name, size in sizes.items() if name.endswith((".arrow", "manifest-000000.json"))
        )
        assert shared > sizes["manifest-000000.json"] > 0
        before = settled(environment)
        command = [sys.executable, "-c", RANK, url, str(tmp_path / "cache")]
        told = run([[*command, str(rank), "2", "0"] for rank in range(2)], environment)
        after = settled(environment)
    for epoch in range(2):
        assert sorted(i for rank in told for i in rank[epoch]["ids"]) == list(range(n))
    # One may begin its second epoch while the other fetches in its first; together they need all of it once.
    origin, indexes = (sum(rank[1][tier][0] for rank in told) for tier in ("origin", "index"))
    assert origin == nbytes
    # Both have counted the index and the generation's manifest, and one has found them in the cache.
    assert origin + indexes - shared == after - before
    print(f"origin {origin:,} B and indexes {indexes:,} B, as the server says")


@contextmanager
def nodes():
    """Network namespaces joined by a bridge, at 400 Mbit/s each; what runs a command in each of them."""
    if os.getuid() != 0 or not shutil.which("ip") or not shutil.which("tc"):
        pytest.skip("network namespaces need root, ip and tc")
    tag, made = f"pyi{os.getpid() % 100_000}", []

    def call(*command):
        subprocess.run(command, check=True, capture_output=True)

    def ip(*command):
        call("ip", *command)

    try:
        try:
            ip("link", "add", f"{tag}b", "type", "bridge")
            ip("addr", "add", "10.231.77.1/24", "dev", f"{tag}b")
            ip("link", "set", f"{tag}b", "up")
            for i in range(NODES):
                name = f"{tag}n{i}"
                ip("netns", "add", name)
                made.append(name)
                ip("link", "add", f"{tag}v{i}", "type", "veth", "peer", "name", "eth0", "netns", name)
                ip("link", "set", f"{tag}v{i}", "master", f"{tag}b", "up")
                ip("-n", name, "addr", "add", f"10.231.77.{i + 2}/24", "dev", "eth0")
                for link in ("lo", "eth0"):
                    ip("-n", name, "link", "set", link, "up")
                tbf = ("root", "tbf", "rate", "400mbit", "burst", "1mb", "latency", "100ms")
                call("tc", "qdisc", "add", "dev", f"{tag}v{i}", *tbf)
        except subprocess.CalledProcessError as e:
            pytest.skip(f"network namespaces cannot be made here: {e.stderr.decode().strip()}")
        yield "10.231.77.1", [["ip", "netns", "exec", name] for name in made]
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "del", name], check=False)
        subprocess.run(["ip", "link", "del", f"{tag}b"], check=False, capture_output=True)


def test_four_nodes_receive_what_they_report(tmp_path):
    """Each rank is a node with a cache of its own, and reads its own worker's shards."""
    n = 800
    with (
        nodes() as (address, inside),
        in_bucket(tmp_path, NODES, n, 100_000, address) as (environment, url, nbytes),
    ):
        commands = [
            [*enter, sys.executable, "-c", RANK, url, str(tmp_path / f"cache-{r}"), str(r), str(NODES), "1"]
            for r, enter in enumerate(inside)
        ]
        told = run(commands, environment)
    for epoch in range(2):
        assert sorted(i for rank in told for i in rank[epoch]["ids"]) == list(range(n))
    for rank, own in zip(told, nbytes, strict=True):
        first, second = rank
        assert first["origin"][0] == second["origin"][0] == own
        assert second["cache"][0] >= own
        ours = first["origin"][0] + first["index"][0]
        requests = first["origin"][1] + first["index"][1]
        received, packets = first["network"]
        payload = received - HEADERS * packets
        print(
            f"reported {ours:,} B in {requests} requests; received {received:,} B (x{received / ours:.4f}), "
            f"{packets:,} packets; without their headers {payload:,} B (x{payload / ours:.4f})"
        )
        assert ours <= received
        assert 0.98 * ours <= payload <= 1.02 * ours + ANSWER * requests
        later = second["network"][0] - received
        assert later < 0.001 * ours  # the second epoch asks for nothing
