"""The one place that chooses the native code for a device."""

from __future__ import annotations

import os
from types import ModuleType

from pyimportance import _C
from pyimportance.errors import ArgumentError

_MOST_THREADS = 8  # the memory is the limit then


def engine(device: str) -> ModuleType:
    """The extension module that observes on ``device``. ArgumentError where there is none."""
    if device == "cpu":
        return _C
    raise ArgumentError(
        f'device={device!r}: a tracker keeps its state on the "cpu"; logits may be on any device, '
        "observe copies them to the host"
    )


def default_threads() -> int:
    """OMP_NUM_THREADS where it is set (torchrun does so), else the processors there are, up to 8."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    return min(len(os.sched_getaffinity(0)), _MOST_THREADS)
