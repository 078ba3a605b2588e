"""The rows of an epoch, handed round between the ranks of torch.distributed.

Every rank ends with every rank's rows, committed from the lowest rank to the highest, so that of a sample
seen on several ranks the lowest rank's row stands. Between flags by which all ranks
fail where one does (agree), two collectives: a header that all ranks compare, so that
a mismatch is the same error everywhere and nobody waits for somebody who left, and the rows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyimportance import _C
from pyimportance.errors import ArgumentError, OutputError
from pyimportance.score.history import ROW, UNSEEN, Rows

if TYPE_CHECKING:
    import torch

_WIRE = np.dtype([("id", np.int64), ("row", ROW)])  # packed: 40 bytes
_HEADER = ("num_samples", "epoch", "kind")


def distributed(group: Any) -> bool:
    """Whether there is anybody to exchange with. torch is looked at where it is loaded, and never loaded."""
    torch = sys.modules.get("torch")
    running = torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized()
    if not running:
        if group is not None:
            raise ArgumentError("group: torch.distributed is not initialised")
        return False
    assert torch is not None
    if torch.distributed.get_rank(group) < 0:
        raise ArgumentError("group: this process is not a member of it")
    return bool(torch.distributed.get_world_size(group) > 1)


@dataclass(frozen=True)
class Exchanged:
    """What all ranks agree on, and what this one had: kind and number skipped, and its own rows."""

    kind: int
    skipped: int
    own_ids: npt.NDArray[np.int64]
    own_rows: Rows

    def undo(self, rows: Rows) -> None:
        """``rows`` as they were before the exchange."""
        rows[:] = np.zeros((), dtype=ROW)
        rows[self.own_ids] = self.own_rows


def exchange(rows: Rows, epoch: int, kind: int, skipped: int, group: Any) -> Exchanged:
    """Completes this rank's ``rows`` [N], in place.

    kind: 0 where this rank has observed nothing yet; ranks that have must agree. Raises ArgumentError, on all
    ranks, where the ranks differ in their number of samples, epoch or kind; then nothing has changed.
    """
    ids = np.flatnonzero(rows["code"] != UNSEEN)
    own = rows[ids]
    header = np.array([rows.size, epoch, kind, ids.size, skipped], dtype=np.int64)
    headers = np.stack(_all_gather(header, group))
    _compare(headers)
    counts = headers[:, 3]
    if counts.max() > 0:
        sent = np.zeros(counts.max(), dtype=_WIRE)  # ranks send equally much, the shorter ones zeros
        sent["id"][: ids.size], sent["row"][: ids.size] = ids, own
        received = _all_gather(sent.view(np.uint8), group)
        rows[ids] = np.zeros((), dtype=ROW)
        for count, wire in zip(counts, received, strict=True):
            items = wire.view(_WIRE)[:count]
            _C.commit_rows(np.ascontiguousarray(items["id"]), np.ascontiguousarray(items["row"]), rows)
    return Exchanged(int(headers[:, 2].max()), int(headers[:, 4].sum()), ids, own)


def agree(step: Callable[[], None], what: str, group: Any) -> None:
    """Runs ``step`` on every rank (collective). Where it raises on any, all raise: those their own exception,
    the others an OutputError that names the first of those.
    """
    failure: Exception | None = None
    try:
        step()
    except Exception as error:
        failure = error
    flag = np.array([failure is not None], dtype=np.int64)
    failed = np.flatnonzero(np.concatenate(_all_gather(flag, group)))
    if failure is not None:
        raise failure
    if failed.size:
        raise OutputError(f"end_epoch: {what} failed on rank {failed[0]} (its error says why)")


def _compare(headers: npt.NDArray[np.int64]) -> None:
    for column, name in enumerate(_HEADER):
        values = headers[:, column]
        if name == "kind":
            values = values[values != 0]
        if values.size and (values != values[0]).any():
            what = {"kind": "what was observed (1: losses, 2: logits, 3: and features)"}.get(name, name)
            raise ArgumentError(f"end_epoch: the ranks differ in {what}: {headers[:, column].tolist()}")


def _all_gather(array: npt.NDArray[Any], group: Any) -> list[npt.NDArray[Any]]:
    """One array per rank, all of the same shape and dtype."""
    import torch
    import torch.distributed as dist

    mine = torch.from_numpy(array).to(_device(group))
    everyone = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
    dist.all_gather(everyone, mine, group=group)
    return [tensor.cpu().numpy() for tensor in everyone]


def _device(group: Any) -> torch.device:
    """Where the backend wants its tensors: gloo and mpi on the host, nccl on the current device."""
    import torch
    import torch.distributed as dist

    if "nccl" not in dist.get_backend(group):
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())
