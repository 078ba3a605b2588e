"""A step that may fail on one rank fails on all of them, instead of leaving the others waiting for ever."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from pyimportance.errors import PyimportanceError
from pyimportance.score.exchange import placed

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


def rank_and_size(group: torch.distributed.ProcessGroup | None = None) -> tuple[int, int]:
    """This process's rank in the group and the group's size; (0, 1) without ``torch.distributed``."""
    from torch import distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(group), dist.get_world_size(group)


def together(
    step: Callable[[], T], what: str, group: torch.distributed.ProcessGroup | None = None
) -> list[T]:
    """Runs ``step`` on every rank and returns all ranks' results (picklable), lowest rank first (collective).

    Where it raises on any rank, every rank raises: the failing ones their own exception, the others a
    PyimportanceError that names ``what``, the lowest failing rank and its message.
    """
    from torch import distributed as dist

    rank, size = rank_and_size(group)
    result: T | None = None
    failure: Exception | None = None
    try:
        result = step()
    except Exception as error:
        failure = error
    outcomes: list[Any] = [None] * size
    mine = (None if failure is None else f"{type(failure).__name__}: {failure}", result)
    if size > 1:
        dist.all_gather_object(outcomes, mine, group=group)
    else:
        outcomes[rank] = mine
    if failure is not None:
        raise failure
    for other, (message, _) in enumerate(outcomes):
        if message is not None:
            raise PyimportanceError(f"{what} failed on rank {other}: {message}")
    return [result for _, result in outcomes]


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
