"""What a training process and its loader processes share, through memory that both map.

DataLoader copies a dataset into its loader processes once, and persistent ones never see a later change to
the original. Torch tensors in shared memory stay one object for both, whether the processes were
forked or spawned; so the training process writes what to read next, and loader processes write what they
have read. Nobody waits: a loader process looks when an iteration starts, which is always after
the training process asked for it, and every process counts into a row of its own.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyimportance.errors import ArgumentError
from pyimportance.io.meter import TIERS, Meter

LOADER_PROCESSES = 256
_ROOM = 2**17  # bytes for an assignment: a path and a number per worker


@dataclass(frozen=True)
class Assignment:
    """What to read next. serial counts assignments; consumed: samples per worker that were yielded before."""

    serial: int
    root: str
    generation: int
    digest: str
    epoch: int
    consumed: tuple[int, ...]


class Shared:
    """Shared memory of one dataset; it can be sent to processes as a torch tensor can."""

    def __init__(self) -> None:
        self._text = _zeros(torch.uint8, _ROOM)
        self._counts = _zeros(torch.int64, 1 + LOADER_PROCESSES, len(TIERS), 2)
        self._started = _zeros(torch.int64, 1 + LOADER_PROCESSES)

    def assign(self, assignment: Assignment) -> None:
        text = json.dumps(asdict(assignment)).encode()
        if len(text) >= _ROOM:
            raise ArgumentError(
                f"shards: {len(assignment.consumed)} workers and the path {assignment.root!r} "
                f"take {len(text)} bytes to tell loader processes; at most {_ROOM - 1} fit"
            )
        view = self._text.numpy()
        view[: len(text)] = np.frombuffer(text, np.uint8)
        view[len(text)] = 0

    def assignment(self) -> Assignment:
        text = self._text.numpy().tobytes().split(b"\0", 1)[0]
        fields: dict[str, Any] = json.loads(text)
        return Assignment(**{**fields, "consumed": tuple(fields["consumed"])})

    def meter(self, process: int | None) -> Meter:
        """The meter of a loader process, or of the training process (None)."""
        return Meter(self._counts[self._row(process)].numpy())

    def counts(self) -> NDArray[np.int64]:
        """int64 [4, 2]: bytes and requests by tier, of all processes."""
        total: NDArray[np.int64] = self._counts.numpy().sum(axis=0)
        return total

    def start(self, process: int, serial: int) -> None:
        """Loader process ``process`` starts to read assignment ``serial``."""
        self._started[self._row(process)] = serial

    def started(self, serial: int) -> bool:
        """Whether any loader process has."""
        return bool((self._started == serial).any())

    def _row(self, process: int | None) -> int:
        row = 0 if process is None else process + 1
        if row > LOADER_PROCESSES:
            raise ArgumentError(f"num_workers: at most {LOADER_PROCESSES} loader processes are supported")
        return row


def _zeros(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype).share_memory_()  # type: ignore[no-untyped-call, no-any-return]
