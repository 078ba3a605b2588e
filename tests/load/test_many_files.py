"""Data of more tars than a process may open, read by everything that reads samples."""

import subprocess
import sys
from pathlib import Path

import pytest

from pyimportance import index, write_shards
from tests.server import Server

TARS, LIMIT = 150, 100

SCRIPT = f"""
import resource, sys
from pathlib import Path

import torch  # opens files of its own as it is loaded
from pyimportance import ImportanceDataset, VanillaDataset, index
from pyimportance.demo.source import Split, _parts
from pyimportance.account.lru_cache import LRUCache

resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT}, {LIMIT}))
folder = Path(sys.argv[1])
source = index(folder / "source")
wanted = {{i: str(i % 10).encode() for i in range({TARS})}}
cache = LRUCache(folder / "cache", 2**20, 2**20)
ours = ImportanceDataset(folder / "set")
for dataset in (VanillaDataset(source), VanillaDataset(source, cache=cache), ours):
    for epoch in range(2):
        dataset.set_epoch(epoch)
        assert {{sample["__index__"]: sample["cls"] for sample in dataset}} == wanted
    if dataset is not ours:
        dataset.close()
labels = [data for _, _, data in _parts(Split(source, source.ids, source.ids), "cls")]
assert labels == list(wanted.values())
"""

THROUGH_A_CACHE = f"""
import resource, sys

import torch
from pyimportance import ImportanceDataset

resource.setrlimit(resource.RLIMIT_NOFILE, ({2 * LIMIT}, {2 * LIMIT}))
url, cache = sys.argv[1:]
ours = ImportanceDataset(url, cache_dir=cache)
for epoch in range(2):
    ours.set_epoch(epoch)
    assert {{sample["__index__"] for sample in ours}} == set(range({TARS}))
"""


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_more_tars_than_may_be_open(tmp_path: Path, write_tar, divide, compression: str | None) -> None:
    (tmp_path / "source").mkdir()
    for i in range(TARS):
        write_tar(tmp_path / "source" / f"{i:03d}.tar", [(f"{i:03d}", {"cls": str(i % 10).encode()})])
    # A shard for every sample.
    shards = write_shards(
        index(tmp_path / "source"),
        divide([TARS], 1),
        tmp_path / "set",
        shard_bytes=1,
        compression=compression,
    )
    assert len(shards.shards) == TARS
    run(SCRIPT, str(tmp_path))
    with Server(tmp_path) as server:  # what is in a cache takes two descriptors
        run(THROUGH_A_CACHE, f"{server.url}/set", str(tmp_path / "node"))


def run(script: str, *arguments: str) -> None:
    command = [sys.executable, "-c", script, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
