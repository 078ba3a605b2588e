"""Where a thread of the native code gets no memory, the caller gets a MemoryError."""

from __future__ import annotations

import subprocess
import sys

import pytest

# The first of two buffers is to be had, by one thread or the other; both buffers never are. So no function
# is called, and its address need not be one's.
CODE = """
import resource, sys
import numpy as np
from pyimportance import _C
E = 1 << 23
history = np.zeros((E, 2))
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 12 * E, resource.RLIM_INFINITY))
try:
    _C.score_histories(address=1, arrays=[history], threads=int(sys.argv[1]))
except MemoryError:
    print("told")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="what a process has mapped is read as Linux tells it")
@pytest.mark.parametrize("threads", [1, 2])
def test_no_memory_on_a_thread_is_an_error_of_the_caller(threads: int) -> None:
    command = [sys.executable, "-c", CODE, str(threads)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "told\n"), result.stderr
