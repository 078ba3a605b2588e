"""sticky: the same share of every stratum of ranks to every worker, samples staying where they are.

Ranks are cut into strata of k * workers; each worker owns exactly k of each (in the last, shorter stratum a
share within one of the others'). So every worker sees all degrees of importance, as with stripes, but a
sample has to move only where its worker holds more than its share of the stratum: the larger k, the fewer.
Not for strata so long that their two ends differ in kind: within a stratum only the counts are balanced.
``tolerance`` says how alike the workers are to be, and moves as little as that takes (tolerance.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.checks import check_fraction, check_integer
from pyimportance.errors import ArgumentError
from pyimportance.order.policies.keep import keep_most, kept_bytes
from pyimportance.order.policies.task import Task
from pyimportance.order.policies.tolerance import assign_within
from pyimportance.order.policies.turns import count_by_stratum, turns


def check(k: Any, tolerance: Any) -> dict[str, Any]:
    """The option that is given as `assign` takes it; k=16 without one."""
    if tolerance is None:
        return {"k": 16 if k is None else check_integer("k", k, 1)}
    if k is not None:
        raise ArgumentError(f"k={k!r}, tolerance={tolerance!r}: one of the two says how much may move")
    return {"tolerance": check_fraction("tolerance", tolerance)}


def assign(task: Task, *, k: int = 16, tolerance: float | None = None) -> npt.NDArray[np.int32]:
    """Owners int32 [N] by rank. As few bytes change worker as exact shares in every stratum allow.

    With ``counts``, each worker's share of a stratum is what stripes would give it there. Without current
    holders, what stripes give.
    """
    if task.current is None or task.num_samples == 0:
        return turns(task)
    if tolerance is not None:
        return assign_within(task, tolerance)
    k = min(k, -(-task.num_samples // task.workers))  # one stratum holds all: a larger k says the same
    edges = np.append(np.arange(0, task.num_samples, k * task.workers, dtype=np.int64), task.num_samples)
    if task.counts is None:
        shares = _even_shares(task, edges, k)
    else:
        shares = count_by_stratum(turns(task), edges, task.workers)
    return keep_most(task, edges, shares)


def _even_shares(task: Task, edges: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int64]:
    """int64 [strata, workers]: k, but in a shorter last stratum as even as can be, the larger shares going to
    those that keep more bytes with them (then to the lower worker)."""
    shares = np.full((edges.size - 1, task.workers), k, np.int64)
    base, larger = divmod(task.num_samples - int(edges[-2]), task.workers)
    shares[-1] = base
    if larger:
        gain = kept_bytes(task, int(edges[-2]), base + 1) - kept_bytes(task, int(edges[-2]), base)
        shares[-1, np.argsort(-gain, kind="stable")[:larger]] += 1
    return shares
