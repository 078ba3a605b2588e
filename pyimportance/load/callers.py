"""What a data set is given to, which shows in the calls that lead to it.

A DataLoader tells its data set neither its batch size nor that it is one of several that share it out. A
forked loader process has inherited the calls that made it; for one that is spawned, or comes from a
forkserver, the training process looks as it sends the data set there.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from multiprocessing.context import get_spawning_popen
from typing import Any, Protocol

import torch.utils.data

from pyimportance.errors import ArgumentError
from pyimportance.load.rank import check_rank_now

_DIVIDERS = {"IterableDatasetShard", "DataLoaderDispatcher"}  # of Accelerate, and Transformers'
_SHARDING = "ShardingFilterIterDataPipe"  # what .sharding_filter() of torch's data pipes makes


class Called(Protocol):
    """What is asked of a data set. _given: the rank and world size that it was made with."""

    rank: int
    world_size: int
    batch_size: int | None
    _given: tuple[int | None, int | None]

    @property
    def makes_batches(self) -> bool: ...


def check_iteration(dataset: Called) -> None:
    """Raises ArgumentError where it would yield what it should not: of a rank that it is not, or to callers
    that `check_callers` finds."""
    check_rank_now((dataset.rank, dataset.world_size), *dataset._given)
    check_callers(dataset)


def check_sent(dataset: Called) -> None:
    """`check_callers`, where it is being sent to a process that starts."""
    if get_spawning_popen() is not None:
        check_callers(dataset)


def check_callers(dataset: Called) -> None:
    """Raises ArgumentError where a caller divides once more what is a rank's share already, or a loader
    process's, or is a DataLoader of other batches; warns of one whose `len` is not what it yields."""
    this: object = dataset
    for caller in _callers():
        name = type(caller).__name__
        if name in _DIVIDERS and dataset.world_size > 1:
            raise ArgumentError(
                f"this data set yields this rank's share, and {name} would divide it among ranks once more; "
                "prepare its DataLoader with pyimportance.own_ranks(loader, accelerator), or give a Trainer "
                "pyimportance.OwnRanks as its first base"
            )
        if name == _SHARDING and getattr(caller, "num_of_instances", 1) > 1:
            raise ArgumentError(
                "this data set yields this process's share, and sharding_filter() would divide it among "
                "processes once more; leave it out"
            )
        if isinstance(caller, torch.utils.data.DataLoader) and caller.dataset is this:
            _check_batches(dataset, caller)


def in_order() -> bool:
    """Whether the DataLoader that led here gives batches in the order in which they were dealt."""
    loaders = (c for c in _callers() if isinstance(c, torch.utils.data.DataLoader) and c.num_workers > 1)
    return all(getattr(loader, "in_order", True) for loader in loaders)  # torch 2.6 has that option


def _check_batches(dataset: Called, loader: torch.utils.data.DataLoader[Any]) -> None:
    own, size = dataset.batch_size, loader.batch_size
    if size is None:
        return
    if own is not None and dataset.makes_batches and size > 1:
        raise ArgumentError(
            f"batch_size={own} makes batches here, and the DataLoader would make batches of {size} of them; "
            "give it batch_size=None"
        )
    if own is not None and not dataset.makes_batches and own != size:
        raise ArgumentError(
            f"batch_size={own}, and the DataLoader's is {size}; give both the same, as batches are dealt to "
            "loader processes, and positions counted, by it"
        )
    info = torch.utils.data.get_worker_info()
    first = info is None or info.id == 0
    if own is None and not dataset.makes_batches and size > 1 and loader.num_workers > 1 and first:
        warnings.warn(
            "batch_size: not given, so that samples are dealt to loader processes one by one: each of them "
            f"ends with a short batch, and len(loader) is not exact; give the DataLoader's, {size}",
            stacklevel=4,
        )


def _callers() -> Iterator[object]:
    """The ``self`` of methods that led here, the innermost first."""
    frame = sys._getframe(1)
    while (above := frame.f_back) is not None:
        frame = above
        if frame.f_code.co_varnames[:1] == ("self",):
            yield frame.f_locals.get("self")
