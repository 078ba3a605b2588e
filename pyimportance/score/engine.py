"""Where a tracker's state lives: what the host and a device do for it, and the one place that chooses."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from pyimportance.errors import ArgumentError, PyimportanceError
from pyimportance.score import arrays, inputs
from pyimportance.score.history import Rows
from pyimportance.score.host import HostEngine
from pyimportance.score.state import Columns

if TYPE_CHECKING:
    import torch

    # Rows as ranks exchange them: int64 ids [n], ascending, and their rows as bytes [n, 32].
    Packed = tuple[torch.Tensor, torch.Tensor]

_CUDA = "pyimportance._cuda"


class Engine(Protocol):
    """A tracker's statistics, and the rows of its epoch in progress."""

    skipped: int  # entries of the epoch that were left out as not finite

    def observe(  # noqa: PLR0917
        self, ids: Any, logits: Any, targets: Any, features: Any, mask: Any, ignore_index: Any, skip: bool
    ) -> int:
        """A batch into the epoch's rows, as Tracker.observe; how many classes it has, 0 of no rows or of
        tokens.
        """

    def observe_loss(self, ids: Any, loss: Any, mask: Any, skip: bool) -> None: ...

    def check(self) -> None:
        """ArgumentError if an entry of an earlier batch was refused (once; it has been left out)."""

    def begun(self) -> bool:
        """Whether the epoch in progress has rows, or entries that were left out."""

    def columns(self) -> Columns:
        """The statistics, on the host. Who changes them calls set_columns."""

    def set_columns(self, columns: Columns) -> None: ...

    def rows(self) -> Rows:
        """[N], on the host, not to be changed."""

    def load(self, columns: Columns, rows: Rows, skipped: int) -> None:
        """Everything anew. What is given is the engine's from here on."""

    def fold(self, epoch: int, quantities: tuple[str, ...]) -> None:
        """The rows into the statistics, which have the quantities' columns from here on; then, no rows."""

    def packed(self) -> Packed:
        """The rows that there are, wherever the state lives."""

    def replace(self, parts: list[Packed]) -> None:
        """These rows instead; of a sample that is in several parts the first stands."""


def engine(device: Any, num_samples: int) -> Engine:
    """The state of ``num_samples`` on "cpu", "cuda" or "cuda:N". ArgumentError where there is none such."""
    where = cuda_device(device)
    if where is None:
        return HostEngine(num_samples)
    from pyimportance.score.device import DeviceEngine

    return DeviceEngine(num_samples, where, cuda())


def cuda_device(device: Any) -> torch.device | None:
    """The device of "cuda" or "cuda:N", None of "cpu"; ArgumentError where there is none such."""
    name, _, index = str(device).partition(":")
    if name == "cpu" and not index:
        return None
    if name != "cuda" or (str(device) != name and not index.isdecimal()):
        raise ArgumentError(f'device={str(device)!r}: must be "cpu", "cuda" or "cuda:N"')
    import torch

    if not torch.cuda.is_available():
        raise ArgumentError(f"device={str(device)!r}: torch finds no CUDA device")
    there = torch.cuda.device_count()
    if index and int(index) >= there:
        raise ArgumentError(f"device={str(device)!r}: there are {there} CUDA devices")
    return torch.device("cuda", int(index) if index else torch.cuda.current_device())


def reduced(given: Mapping[str, Any]) -> tuple[arrays.Arrays, Columns]:
    """Arrays [E, N] by name, on the host, and the columns that they come to: computed on a CUDA device where
    all of them are tensors there.
    """
    columns: Columns | None = None
    torch = sys.modules.get("torch")
    if torch is not None and all(isinstance(x, torch.Tensor) and x.is_cuda for x in given.values()) and given:
        from pyimportance.score import device

        tensors = {name: x.detach() for name, x in given.items()}
        with device.callers_stream(next(iter(tensors.values())).device) as stream:
            columns = device.reduced(tensors, cuda(), stream)
    there = {name: inputs.as_array(name, array) for name, array in given.items()}
    return there, arrays.reduced(there) if columns is None else columns


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
