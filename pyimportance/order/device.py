"""The order of importance, and its division over workers, of scores that lie on a device and stay there."""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from pyimportance.checks import check_integer
from pyimportance.errors import ArgumentError
from pyimportance.order.argsort import argsort
from pyimportance.order.checks import check_groups
from pyimportance.order.partition import group_offsets
from pyimportance.order.policies import blocks, random
from pyimportance.order.policies.task import Task

POLICIES = ("random", "stripes", "blocks", "snake")

# Sorted as they are. All others are widened, which keeps order and ties.
_SORTABLE = {torch.float32, torch.float64, torch.int32, torch.int64, torch.uint32, torch.uint64}


def argsort_native(values: torch.Tensor, descending: bool, native: ModuleType, stream: int) -> torch.Tensor:
    """argsort of ``values`` [N] on the device where they are, enqueued on ``stream``.

    native: pyimportance._cuda. The workspace is one tensor: torch's allocator has it ready for the next call.
    """
    values = values.detach()
    if values.dtype not in _SORTABLE:
        values = values.to(torch.float32 if values.is_floating_point() else torch.int32)
    values = values.contiguous()
    order = torch.empty(values.shape, dtype=torch.int64, device=values.device)
    nbytes = native.argsort_workspace(values, stream)
    workspace = torch.empty(nbytes, dtype=torch.uint8, device=values.device)
    native.argsort(values, descending, workspace, order, stream)
    return order


class Division(NamedTuple):
    """Group g = w * bins + b (worker w, bin b) is ``order[offsets[g]:offsets[g + 1]]``, most important first.

    order    int64 [N], positions of the scores
    offsets  int64 [workers * bins + 1], from 0 to N
    """

    order: torch.Tensor
    offsets: torch.Tensor


def divide(
    values: torch.Tensor,
    workers: int,
    *,
    policy: str = "stripes",
    bins: int = 1,
    seed: int = 0,
    descending: bool = True,
) -> Division:
    """The groups of ``partition(Scores(values), ...)``, as tensors on the device of ``values``.

    values  one score [N] per sample, NaN last; of any device, and of what `argsort` takes
    policy  "random", "stripes", "blocks" or "snake": those that need nothing but the ranks

    Nothing waits for the device, so scores that are all NaN are divided as well. "random" draws on the host,
    8 bytes a sample. Raises ArgumentError where an argument is not as described.
    """
    if not isinstance(values, torch.Tensor):
        raise ArgumentError(f"values: {type(values).__name__}; must be a tensor (partition takes Scores)")
    workers, bins = check_groups(workers, bins)
    seed = check_integer("seed", seed, 0)
    if policy not in POLICIES:
        raise ArgumentError(f"policy {policy!r}: on a device it is one of {', '.join(POLICIES)}")
    order = argsort(values, descending=descending)
    counts = _counts(policy, order.numel(), workers)
    if policy != "blocks":  # which are runs of the order as it is
        order = order[argsort(_owners(policy, order, workers, seed), descending=False)]
    offsets = torch.from_numpy(group_offsets(counts, bins))
    return Division(order, offsets.to(order.device, non_blocking=True))


def _counts(policy: str, num_samples: int, workers: int) -> npt.NDArray[np.int64]:
    """int64 [workers]: samples of each."""
    if policy == "blocks":
        return blocks.counts_of(num_samples, workers)
    turns, rest = divmod(num_samples, workers)
    counts = np.full(workers, turns, np.int64)
    back = policy == "snake" and turns % 2 == 1  # the last turn begins with the last worker
    counts[slice(workers - rest, None) if back else slice(rest)] += 1
    return counts


def _owners(policy: str, order: torch.Tensor, workers: int, seed: int) -> torch.Tensor:
    """int32 [N], the worker of each rank, as policies/ has it."""
    if policy == "random":  # the stream is NumPy's: dealt on the host, by position
        everyone = Task(np.arange(order.numel(), dtype=np.int64), workers, seed)
        return torch.from_numpy(random.assign(everyone)).to(order.device)[order]
    rank = torch.arange(order.numel(), device=order.device)
    if policy == "stripes":
        return (rank % workers).int()
    place = rank % (2 * workers)
    return torch.minimum(place, 2 * workers - 1 - place).int()
