"""How many threads the native code may use. What works in many short calls, a tracker, asks once an epoch."""

from __future__ import annotations

import os

_MOST_THREADS = 16  # the memory is the limit long before


def default_threads() -> int:
    """OMP_NUM_THREADS where it is set (torchrun does so), else the usable processors, up to 16."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return min(len(os.sched_getaffinity(0)), _MOST_THREADS)
    return min(os.cpu_count() or 1, _MOST_THREADS)
