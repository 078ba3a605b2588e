"""Where a bench runs: processor, caches, memory, load, versions. No names of hosts or folders."""

from __future__ import annotations

import os
import platform
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from pyimportance import _C
from pyimportance.demo.results import processor
from pyimportance.threads import default_threads

PACKAGES = ("pyimportance", "numpy", "numba", "torch", "pyarrow", "webdataset")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def machine() -> dict[str, Any]:
    torch = sys.modules.get("torch")
    return {
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "caches": caches(),
        "memory": field_of("/proc/meminfo", "MemTotal"),
        "system": f"{platform.system()} {platform.machine()}",
        "instructions": _C.instruction_set(),
        "threads": {"pyimportance": default_threads(), "torch": torch.get_num_threads() if torch else None},
        "load": round(os.getloadavg()[0], 2),
        "versions": {"python": platform.python_version(), **{name: version_of(name) for name in PACKAGES}},
    }


def caches() -> dict[str, int]:
    """Bytes by name ("L1d", "L2", "L3") of the caches that one core sees; empty where nobody says."""
    found = {}
    for folder in sorted(CACHES.glob("index*")):
        level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        if kind != "Instruction" and size.endswith("K"):
            found[f"L{level}{'d' * (kind == 'Data')}"] = int(size[:-1]) * 1024
    return found


def last_level_cache() -> int:
    """Bytes; 32 MiB where the system does not say."""
    return max(caches().values(), default=32 << 20)


def bytes_read() -> int | None:
    """What this process has read by system calls, by the kernel's count; None where it keeps none."""
    said = field_of("/proc/self/io", "rchar")
    return int(said) if said else None


def touch(nbytes: int) -> None:
    """Has the system find so much memory, all of it free again after: a virtual machine may have given its
    own back to its host, and whoever is timed next would wait for it, a second or two for a gigabyte."""
    np.empty(nbytes, np.uint8)[::4096] = 1


def reset_peak_memory() -> None:
    """`peak_memory` counts from here, where the system can do that (Linux, proc(5): clear_refs)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int | None:
    """Bytes: the largest part of memory that this process has held; None where nobody says."""
    said = field_of("/proc/self/status", "VmHWM")
    return int(said.split()[0]) * 1024 if said else None


def field_of(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "from a checkout" if package == "pyimportance" else "absent"
