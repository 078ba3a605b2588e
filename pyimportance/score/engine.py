"""The one place that chooses the native code for a device."""

from __future__ import annotations

import importlib
from types import ModuleType

from pyimportance import _C
from pyimportance.errors import ArgumentError, PyimportanceError

_CUDA = "pyimportance._cuda"


def engine(device: str) -> ModuleType:
    """The extension module that observes on ``device``. ArgumentError where there is none."""
    if device == "cpu":
        return _C
    raise ArgumentError(
        f'device={device!r}: a tracker keeps its state on the "cpu"; logits may be on any device, '
        "observe copies them to the host"
    )


def cuda() -> ModuleType:
    """The CUDA extension. PyimportanceError where there is none, which says why."""
    try:
        return importlib.import_module(_CUDA)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == _CUDA:
            problem = (
                "not built, as there was no usable nvcc on PATH or PYIMPORTANCE_CUDA was 0; "
                "installing with PYIMPORTANCE_CUDA=1 tells what is missing"
            )
        else:
            problem = f"built, but it cannot be loaded: {error}"
        raise PyimportanceError(f"{_CUDA} is {problem}") from None
