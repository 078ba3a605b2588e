"""What partition needs of memory, beside what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

N = 10_000_000

CODE = """
import resource, sys
import numpy as np
from pyimportance import Scores, partition

def size(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))

path, policy = sys.argv[1:]
partition(Scores(np.arange(1e5, dtype=np.float32)), 3, policy=policy)
before = size("VmRSS:")
partition(Scores(np.memmap(path, np.float32, "r")), 4, policy=policy, bins=3)
print(size("VmHWM:") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="nobody says how much memory was used")
@pytest.mark.parametrize("policy", ["stripes", "blocks", "snake"])
def test_twenty_bytes_a_sample(policy: str, tmp_path: Path) -> None:
    np.random.default_rng(0).random(N, np.float32).tofile(tmp_path / "scores")
    command = [sys.executable, "-c", CODE, str(tmp_path / "scores"), policy]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 15 * N < int(result.stdout) < 20 * N + 40e6  # what is not a sample's: large pages, caches
