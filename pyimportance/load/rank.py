"""Which rank of how many this process is, where nobody says so."""

from __future__ import annotations

import os

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


def check_rank_now(taken: tuple[int, int], rank: int | None, world_size: int | None) -> None:
    """Raises ArgumentError where a data set that was made with this ``rank`` and ``world_size``, and took
    itself for rank ``taken``, would be another one now: torch.distributed was initialised since."""
    now = placement(rank, world_size)
    if now != taken and not _knows_no_rank():
        raise ArgumentError(
            f"rank and world_size: this data set took itself for rank {taken[0]} of {taken[1]} when it was "
            f"made, and this is rank {now[0]} of {now[1]}; make it when torch.distributed is initialised, or "
            "give both"
        )


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
