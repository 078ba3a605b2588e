"""The ranks of torch.distributed, for all folders: a step that may fail on one of them fails on all, instead
of leaving the others waiting for ever.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from pyimportance.errors import ArgumentError, OutputError, PyimportanceError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


def rank_and_size(group: torch.distributed.ProcessGroup | None = None) -> tuple[int, int]:
    """This process's rank in the group and the group's size; (0, 1) without ``torch.distributed``, which is
    looked at where it is loaded, and never loaded.

    Raises ArgumentError for a group where there is none, or of which this process is no member.
    """
    torch = sys.modules.get("torch")
    if torch is None or not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        if group is not None:
            raise ArgumentError("group: torch.distributed is not initialised")
        return 0, 1
    if torch.distributed.get_rank(group) < 0:
        raise ArgumentError("group: this process is not a member of it")
    return torch.distributed.get_rank(group), torch.distributed.get_world_size(group)


def placed(tensor: torch.Tensor, group: torch.distributed.ProcessGroup | None) -> torch.Tensor:
    """The tensor where the group's backend wants it: gloo and mpi on the host, nccl on the device."""
    import torch
    import torch.distributed as dist

    if "nccl" not in dist.get_backend(group):
        return tensor.cpu()
    return tensor if tensor.is_cuda else tensor.to(torch.device("cuda", torch.cuda.current_device()))


def together(
    step: Callable[[], T], what: str, group: torch.distributed.ProcessGroup | None = None
) -> list[T]:
    """Runs ``step`` on every rank and returns all ranks' results (picklable), lowest rank first (collective).

    Where it raises on any rank, every rank raises: the failing ones their own exception, the others a
    PyimportanceError that names ``what``, the lowest failing rank and its message; an OutputError where that
    rank's was an OSError.
    """
    size = rank_and_size(group)[1]
    result: T | None = None
    failure: Exception | None = None
    try:
        result = step()
    except Exception as error:
        failure = error
    message = "" if failure is None else f"{type(failure).__name__}: {failure}"
    mine = (message, isinstance(failure, OSError), result)
    outcomes: list[Any] = [mine] * size
    if size > 1:
        from torch import distributed as dist

        dist.all_gather_object(outcomes, mine, group=group)
    if failure is not None:
        raise failure
    for other, (message, unwritten, _) in enumerate(outcomes):
        if message:
            kind = OutputError if unwritten else PyimportanceError
            raise kind(f"{what} failed on rank {other}: {message}")
    return [result for *_, result in outcomes]


def exchange(
    step: Callable[[], Sequence[bytes]], what: str, group: torch.distributed.ProcessGroup | None = None
) -> list[bytes]:
    """Runs ``step`` on every rank, which gives bytes for each rank; returns those for this one, those of the
    lowest rank first (collective).

    Where it raises on any rank, every rank raises as in `together`, and nothing is sent.
    """
    import torch
    from torch import distributed as dist

    rank, size = rank_and_size(group)
    outgoing: list[bytes] = []

    def sizes() -> list[int]:
        outgoing.extend(step())
        return [len(data) for data in outgoing]

    table = np.array(together(sizes, what, group), np.int64).reshape(size, size)  # [from, to]
    if size == 1 or not table.any():
        return outgoing
    sent = placed(torch.from_numpy(np.frombuffer(bytearray().join(outgoing), np.uint8)), group)
    received = sent.new_empty(int(table[:, rank].sum()))
    dist.all_to_all_single(received, sent, table[:, rank].tolist(), table[rank].tolist(), group=group)
    parts = np.split(received.cpu().numpy(), np.cumsum(table[:-1, rank]))
    return [part.tobytes() for part in parts]
