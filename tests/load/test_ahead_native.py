"""Reading ahead, as native code is called: by several threads at a time, and with how much memory."""

import ctypes
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest

from pyimportance import _C, ArgumentError, index
from pyimportance.load.ahead import Columns

SAMPLES = 48


@pytest.fixture(scope="module")
def made(tmp_path_factory, write_tar):
    """(index of a tar, parts by row)"""
    path, r = tmp_path_factory.mktemp("native") / "a.tar", np.random.default_rng(0)
    parts = [r.bytes(200_000) for _ in range(SAMPLES)]
    write_tar(path, [(f"{i:03d}", {"x": part}) for i, part in enumerate(parts)])
    return index(path), parts


def threads():
    return set(os.listdir("/proc/self/task"))


def whole(window):
    """Its samples; none, if it was not read."""
    try:
        return window.samples(0, len(window))
    except ArgumentError as error:
        if str(error) != "the window was not read":
            raise
        return []


def test_threads_that_ask_while_another_closes(made):
    """As downloads do, for which nobody waits: a window is whole, or is not read; and no thread is left."""
    found, parts = made
    columns, rows, pad = Columns(found).native, np.arange(SAMPLES), np.zeros(SAMPLES, bool)
    asking, rounds, read = 6, 60, 0
    with open(found.files[0], "rb") as file, ThreadPoolExecutor(asking) as pool:
        sources = [(0, file.fileno(), os.path.getsize(file.name), file.name)]
        all_begun = threading.Barrier(asking)  # each of the pool's threads waits for the others
        list(pool.map(lambda _: all_begun.wait(), range(asking)))
        before = threads()
        for number in range(rounds):
            ahead = _C.ReadAhead(3, 5)
            windows = [_C.LoadWindow(ahead, columns, rows, pad, [], -1) for _ in range(asking)]
            start = threading.Barrier(asking + 1)

            def ask(window, start=start):
                start.wait()
                window.read(sources)
                window.wait()

            asked = [pool.submit(ask, window) for window in windows]
            start.wait()
            time.sleep(number * 3e-4)
            if number == rounds - 1:
                wait(asked)
            ahead.close()
            for future in asked:
                future.result(60)
            for samples in filter(None, map(whole, windows)):
                assert [sample["x"] for sample in samples] == parts
                read += 1
            end = time.monotonic() + 20  # the system forgets a thread a moment after it was joined
            while not threads() <= before and time.monotonic() < end:
                time.sleep(0.001)
            assert threads() <= before
    assert asking <= read < asking * rounds


@pytest.mark.parametrize("join", [-2, -(1 << 63)])
def test_what_join_may_be(made, join):
    found, _ = made
    with pytest.raises(ArgumentError, match=r"^join must be -1, 0 or more$"):
        _C.LoadWindow(_C.ReadAhead(1), Columns(found).native, np.arange(3), np.zeros(3, bool), [], join)


GAPS = """
import ctypes, os, sys
import numpy as np
from pyimportance import _C, index
from pyimportance.load.ahead import Columns

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks".split()]
    _fields_ += [(name, ctypes.c_size_t) for name in "fsmblks uordblks fordblks keepcost".split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info
found = index(sys.argv[1])
columns, ahead = Columns(found, views=True), _C.ReadAhead(2, 6)
rows = np.arange(0, len(found), 2)
window = _C.LoadWindow(ahead, columns.native, rows, np.zeros(len(rows), bool), [], 16 << 10)
assert len(window.spans(0)) > 4
fd = os.open(sys.argv[1], os.O_RDONLY)
window.read([(0, fd, os.path.getsize(sys.argv[1]), sys.argv[1])])
window.wait()
assert window.count()[0] > found.nbytes[rows].sum()
held = libc.mallinfo2().hblkhd
ahead.close()
print(held - libc.mallinfo2().hblkhd, len(window.samples(0, len(rows))))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="the C library does not count")
def test_what_threads_hold_for_gaps_is_bounded_by_the_gaps(tmp_path, write_tar):
    """Ranges that stay as they lie need memory of the threads for what lies between samples alone. malloc is
    told to map 32 KiB or more apart, so as to count what the threads' end frees of it.
    """
    write_tar(tmp_path / "a.tar", [(f"{i:05d}", {"x": bytes(3000)}) for i in range(12_000)])
    result = subprocess.run(
        [sys.executable, "-c", GAPS, str(tmp_path / "a.tar")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": str(32 << 10)},
    )
    assert result.stdout == "0 6000\n", result.stderr
