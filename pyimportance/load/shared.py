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
_COUNTS = 2 * len(TIERS)


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
        numbers = np.zeros(_ROOM // 8 + (1 + LOADER_PROCESSES) * (1 + _COUNTS), np.int64)
        memory = torch.from_numpy(numbers).share_memory_()  # type: ignore[no-untyped-call]
        self._memory: torch.Tensor = memory

    def assign(self, assignment: Assignment) -> None:
        text = json.dumps(asdict(assignment)).encode() + b"\0"
        if len(text) > _ROOM:
            raise ArgumentError(
                f"shards: {len(assignment.consumed)} workers and the path {assignment.root!r} "
                f"take {len(text)} bytes to tell loader processes; at most {_ROOM} fit"
            )
        self._text[: len(text)] = np.frombuffer(text, np.uint8)

    def assignment(self) -> Assignment:
        text = self._text.tobytes().split(b"\0", 1)[0]
        fields: dict[str, Any] = json.loads(text)
        return Assignment(**{**fields, "consumed": tuple(fields["consumed"])})

    def meter(self, process: int | None) -> Meter:
        """The meter of a loader process, or of the training process (None)."""
        return Meter(self._rows[self._row(process), 1:].reshape(len(TIERS), 2))

    def counts(self) -> NDArray[np.int64]:
        """int64 [4, 2]: bytes and requests by tier, of all processes."""
        total: NDArray[np.int64] = self._rows[:, 1:].sum(axis=0).reshape(len(TIERS), 2)
        return total

    def start(self, process: int, serial: int) -> None:
        """Loader process ``process`` starts to read assignment ``serial``."""
        self._rows[self._row(process), 0] = serial

    def started(self, serial: int) -> bool:
        """Whether any loader process has."""
        return bool((self._rows[:, 0] == serial).any())

    def _row(self, process: int | None) -> int:
        row = 0 if process is None else process + 1
        if row > LOADER_PROCESSES:
            raise ArgumentError(f"num_workers: at most {LOADER_PROCESSES} loader processes are supported")
        return row

    # Views are made where they are used: pickled, they would be copies.

    @property
    def _text(self) -> NDArray[np.uint8]:
        return self._memory[: _ROOM // 8].numpy().view(np.uint8)

    @property
    def _rows(self) -> NDArray[np.int64]:
        """int64 [1 + processes, 1 + counts]: the serial last started, then bytes and requests by tier."""
        rows: NDArray[np.int64] = self._memory[_ROOM // 8 :].numpy().reshape(1 + LOADER_PROCESSES, -1)
        return rows
