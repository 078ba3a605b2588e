"""sticky: the same share of every stratum of ranks to every worker, samples staying where they are.

Ranks are cut into strata of k * workers; each worker owns exactly k of each (in the last, shorter stratum a
share within one of the others'). So every worker sees all degrees of importance, as with stripes, but a
sample has to move only where its worker holds more than its share of the stratum: the larger k, the fewer.
Not for strata so long that their two ends differ in kind: within a stratum only the counts are balanced.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.checks import check_integer
from pyimportance.order.argsort import argsort
from pyimportance.order.policies import stripes


def check(k: Any) -> dict[str, int]:
    """The option as `assign` takes it."""
    return {"k": check_integer("k", k, 1)}


def assign(
    order: npt.NDArray[np.int64],
    workers: int,
    seed: int,
    current: npt.NDArray[np.int32] | None,
    *,
    k: int = 16,
) -> npt.NDArray[np.int32]:
    """Owners int32 [N] by rank. As few samples change worker as exact shares in every stratum allow.

    A worker with more than its share gives up samples spread evenly over those it holds in the stratum, and
    what is free goes to those short of their share, spread evenly as well: nobody is left with one end of it.
    """
    if current is None or current.size == 0:
        return stripes.assign(order, workers, seed, None)
    k = min(k, -(-order.size // workers))  # one stratum holds all: a larger k says the same
    cells, holds = _holds(current, k * workers, workers)
    shares = _shares(holds, order.size, k)
    keeps = np.minimum(holds, shares)
    owners = np.where(_kept(cells, holds.ravel(), keeps.ravel()), current, np.int32(-1))
    owners[owners < 0] = _deal(shares - keeps)
    return owners


def _holds(
    current: npt.NDArray[np.int32], length: int, workers: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Each rank's cell (stratum * workers + holder, -1 where nobody holds it) and int64 [strata, workers]."""
    strata = -(-current.size // length)
    cells = np.arange(current.size, dtype=np.int64) // length * workers + current
    cells[current < 0] = -1
    holds = np.bincount(cells[cells >= 0], minlength=strata * workers)
    return cells, holds.reshape(strata, workers).astype(np.int64)


def _shares(holds: npt.NDArray[np.int64], num_samples: int, k: int) -> npt.NDArray[np.int64]:
    """int64 [strata, workers]: k, but in a shorter last stratum as even as can be, the larger shares going to
    those that hold more of it (then to the lower worker), because they can keep more."""
    strata, workers = holds.shape
    shares = np.full((strata, workers), k, np.int64)
    rest = num_samples - (strata - 1) * k * workers
    base, larger = divmod(rest, workers)
    shares[-1] = base
    shares[-1, np.argsort(-holds[-1], kind="stable")[:larger]] += 1
    return shares


def _kept(
    cells: npt.NDArray[np.int64], holds: npt.NDArray[np.int64], keeps: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """bool [N] by rank: of the ``holds`` samples in a cell, ``keeps`` stay, evenly spread over them."""
    by_cell = argsort(cells, descending=False)[np.count_nonzero(cells < 0) :]  # by cell, then by rank
    held, keep = np.repeat(holds, holds), np.repeat(keeps, holds)
    j = np.arange(by_cell.size, dtype=np.int64) - np.repeat(np.cumsum(holds) - holds, holds)
    kept = np.zeros(cells.size, np.bool_)
    kept[by_cell] = (j + 1) * keep // held > j * keep // held
    return kept


def _deal(short: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Owners of the free ranks, stratum by stratum: worker w takes short[s, w] of stratum s, evenly spread.

    The j-th of its d places lies at (2 j + 1) / (2 d) of the stratum; equal places go to the lower worker.
    """
    workers = short.shape[1]
    d = short.ravel()
    cell = np.repeat(np.arange(d.size, dtype=np.int64), d)
    j = np.arange(cell.size, dtype=np.int64) - np.repeat(np.cumsum(d) - d, d)
    place = cell // workers + (2 * j + 1) / (2 * d[cell])  # rounding is monotone: it can tie, never swap
    taken: npt.NDArray[np.int64] = cell[argsort(place, descending=False)] % workers
    return taken.astype(np.int32)
