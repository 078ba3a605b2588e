"""Which rank of how many this process is, where nobody says so."""

from __future__ import annotations

import os
import sys

from pyimportance.checks import check_rank
from pyimportance.errors import ArgumentError


def placement(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """(rank, world size), each as given or found: torch.distributed's if it is initialised, else the
    environment's (RANK, WORLD_SIZE), else 0 of 1."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        found = dist.get_rank(), dist.get_world_size()
    else:
        found = _environment("RANK", 0), _environment("WORLD_SIZE", 1)
    rank = found[0] if rank is None else rank
    world_size = found[1] if world_size is None else world_size
    return check_rank(rank, world_size)


_DIVIDERS = {"IterableDatasetShard", "DataLoaderDispatcher"}  # of Accelerate, and Transformers'


def check_share(taken: tuple[int, int], rank: int | None, world_size: int | None) -> None:
    """Raises ArgumentError where a data set that took itself for rank ``taken`` yields what it should not.

    That is so where torch.distributed was initialised after it was made with this ``rank`` and
    ``world_size``, and where a caller would divide among ranks what is a rank's share already; who that is
    shows in the calls that led here, which a forked loader process has inherited.
    """
    now = placement(rank, world_size)
    if now != taken and not _knows_no_rank():
        raise ArgumentError(
            f"rank and world_size: this data set took itself for rank {taken[0]} of {taken[1]} when it was "
            f"made, and this is rank {now[0]} of {now[1]}; make it when torch.distributed is initialised, or "
            "give both"
        )
    frame = sys._getframe() if taken[1] > 1 else None
    while frame is not None:
        name = type(frame.f_locals.get("self")).__name__ if frame.f_code.co_varnames[:1] == ("self",) else ""
        if name in _DIVIDERS:
            raise ArgumentError(
                f"this data set yields this rank's share, and {name} would divide it among ranks once more; "
                "prepare its DataLoader with pyimportance.own_ranks(loader, accelerator), or give a Trainer "
                "pyimportance.OwnRanks as its first base"
            )
        frame = frame.f_back


def _knows_no_rank() -> bool:
    """Whether this is a loader process that did not inherit torch.distributed, as spawned ones do not, and
    whose environment tells no rank either."""
    import torch.distributed as dist
    from torch.utils.data import get_worker_info

    told = "RANK" in os.environ or (dist.is_available() and dist.is_initialized())
    return get_worker_info() is not None and not told


def _environment(name: str, default: int) -> int:
    value = os.environ.get(name, str(default))
    if not value.isdecimal():
        raise ArgumentError(f"environment variable {name}={value!r}: must be an integer of at least 0")
    return int(value)
