"""Who keeps what: given how many samples of each stratum a worker is to own, the most bytes stay.

Whoever takes it, a sample that moves costs its bytes; so a worker with more than its share gives up its
smallest samples of the stratum, and no division with these shares moves fewer bytes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyimportance.order.argsort import argsort
from pyimportance.order.policies.task import Task
from pyimportance.order.policies.turns import count_by_stratum, deal


def keep_most(
    task: Task, edges: npt.NDArray[np.int64], shares: npt.NDArray[np.int64]
) -> npt.NDArray[np.int32]:
    """Owners int32 [N] by rank: of ranks edges[s] .. edges[s + 1] - 1, shares[s, w] are worker w's.

    Of samples equally large, those given up are spread evenly over those held, and what is free goes to those
    short of their share, spread evenly as well: nobody is left with one end of a stratum.
    """
    current = task.current
    assert current is not None
    holds = count_by_stratum(current, edges, task.workers)
    keeps = np.minimum(holds, shares)
    stratum = np.repeat(np.arange(edges.size - 1, dtype=np.int64), np.diff(edges))
    cells = np.where(current < 0, -1, stratum * task.workers + current)
    kept = _largest(cells, holds.ravel(), keeps.ravel(), task.sizes)
    owners = np.where(kept, current, np.int32(-1))
    owners[owners < 0] = deal(shares - keeps)
    return owners


def kept_bytes(task: Task, first: int, share: int) -> npt.NDArray[np.int64]:
    """int64 [workers]: bytes (without sizes: samples) each keeps of ranks >= ``first``, owning ``share``."""
    assert task.current is not None
    part = task.current[first:]
    holds = np.bincount(part[part >= 0], minlength=task.workers)
    if task.sizes is None:
        return np.minimum(holds, share).astype(np.int64)
    kept = _largest(part.astype(np.int64), holds, np.minimum(holds, share), task.sizes[first:])
    total = np.zeros(task.workers, np.int64)
    np.add.at(total, part[kept], task.sizes[first:][kept])
    return total


def _largest(
    cells: npt.NDArray[np.int64],
    holds: npt.NDArray[np.int64],
    keeps: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64] | None,
) -> npt.NDArray[np.bool_]:
    """bool [N] by rank: of the ``holds`` samples in a cell (-1: in none), the ``keeps`` largest; of those as
    large as the smallest that is kept, an evenly spread part."""
    nobodys = np.count_nonzero(cells < 0)
    if sizes is None:
        by_cell = argsort(cells, descending=False)[nobodys:]
    else:
        by_size = argsort(sizes)
        by_cell = by_size[argsort(cells[by_size], descending=False)][nobodys:]
    kept = np.zeros(cells.size, np.bool_)
    starts = np.cumsum(holds) - holds
    if sizes is not None and by_cell.size:
        size = sizes[by_cell]
        smallest = np.minimum(starts + np.maximum(keeps - 1, 0), size.size - 1)  # that is kept
        bound = np.repeat(size[smallest], holds)
        above, tied = size > bound, size == bound
        kept[by_cell[above]] = True
        cell = np.repeat(np.arange(holds.size), holds)
        keeps = keeps - np.bincount(cell[above], minlength=holds.size)
        holds = np.bincount(cell[tied], minlength=holds.size)
        by_cell, starts = by_cell[tied], np.cumsum(holds) - holds
    held, keep = np.repeat(holds, holds), np.repeat(keeps, holds)
    j = np.arange(by_cell.size, dtype=np.int64) - np.repeat(starts, holds)
    kept[by_cell[(j + 1) * keep // held > j * keep // held]] = True
    return kept
