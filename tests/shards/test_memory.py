"""What writing, moving and rewriting shards need of memory: nothing grows with the data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SAMPLES, NBYTES = 384, 1_000_000
BOUNDS = {  # MiB; what is no sample's (threads, pages that the allocator keeps) comes on top
    "index": 1,
    "shard": 64,
    "repartition": 64,
    "compact": 64,
    "verify": 64,
    "spool": 4,
    "zstd": 4 * 32,
}
REST = 24

CODE = """
import json, sys
import numpy as np
from pyimportance import Scores, compact, index, partition, repartition, write_shards

source, folder, samples, nbytes = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

def size(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) / 1024

def divided(seed):
    scores = Scores(np.random.default_rng(seed).random(samples, np.float32))
    return partition(scores, 2, bins=2, policy="stripes")

def stream():
    for i in range(samples):
        yield {"__key__": f"{i:04d}", "bin": bytes(nbytes)}

first, second = divided(0), divided(1)
steps = {
    "index": lambda: index(source),
    "shard": lambda: write_shards(source, first, f"{folder}/plain", shard_bytes=2**27),
    "repartition": lambda: repartition(made["shard"], second),
    "compact": lambda: compact(made["repartition"]),
    "verify": lambda: made["compact"].verify(),
    "spool": lambda: index(stream(), spool=f"{folder}/spool"),
    "zstd": lambda: write_shards(source, first, f"{folder}/zstd", compression="zstd", shard_bytes=2**27),
}
made, grown = {}, {}
for name, step in steps.items():
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak begins anew
    except OSError as error:
        sys.exit(f"the peak of memory cannot be had: {error}")
    before = size("VmRSS:")
    made[name] = step()
    grown[name] = size("VmHWM:") - before
print(json.dumps(grown))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="nobody says how much memory was used")
def test_memory_is_bounded(tmp_path: Path, write_tar: Any) -> None:
    """384 MB of samples, beside what each step says that it takes."""
    source = write_tar(tmp_path / "a.tar", [(f"{i:04d}.bin", bytes(NBYTES)) for i in range(SAMPLES)])
    command = [sys.executable, "-c", CODE, str(source), str(tmp_path), str(SAMPLES), str(NBYTES)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if "cannot be had" in ended.stderr:
        pytest.skip(ended.stderr.strip())
    assert ended.returncode == 0, ended.stderr
    grown = json.loads(ended.stdout)
    print(grown)
    assert {name: mib for name, mib in grown.items() if mib > BOUNDS[name] + REST} == {}
    assert grown.keys() == BOUNDS.keys()
