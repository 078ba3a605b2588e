"""The one place that chooses the native code for a device."""

from __future__ import annotations

from types import ModuleType

from pyimportance import _C
from pyimportance.errors import ArgumentError


def engine(device: str) -> ModuleType:
    """The extension module that observes on ``device``. ArgumentError where there is none."""
    if device == "cpu":
        return _C
    raise ArgumentError(
        f'device={device!r}: a tracker keeps its state on the "cpu"; logits may be on any device, '
        "observe copies them to the host"
    )
