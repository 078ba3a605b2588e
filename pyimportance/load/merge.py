"""Several lists merged in proportion to their lengths.

Element j of list i gets the key ``(j + phases[i]) / sizes[i]`` and the merge is sorted by (key, i), so
that any run of the merge draws from every list in proportion: a run of B elements of lists with sizes
n_i and total N holds B * n_i / N elements of list i, give or take less than 1 + L * n_i / N (L lists).
Lists are the bins of a worker (plan.py) and the workers of a rank (deal.py).

The merge need not be built to be used: `taken` says how far its first elements reach into every list,
in O(L log N), so that a window of an epoch or a position in it costs only itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyimportance import _C

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def taken(sizes: Ints, phases: Floats, start: Ints, total: int) -> Ints:
    """Where the first ``total`` elements of the merge end in each list.

    sizes: int64 [L]. phases: float64 [L], each in [0, 1). start: int64 [L], the first element of each
    list that still takes part. Returns int64 [L] ends, start <= ends <= sizes, of which the sum of
    (ends - start) is min(total, all there are).
    """
    if total <= 0 or total >= int((sizes - start).sum()):
        return (start if total <= 0 else sizes).copy()
    return _C.mix_taken(sizes, phases, start, total)


def merge(sizes: Ints, phases: Floats, start: Ints, end: Ints) -> tuple[NDArray[np.intp], Ints]:
    """The merge of elements start[i] <= j < end[i] of each list i: (list, element), each int64 [m]."""
    counts = end - start
    which = np.repeat(np.arange(len(sizes)), counts)
    element = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(start, counts)
    if np.count_nonzero(counts) > 1:
        order = merged(sizes, phases, start, end)
        which, element = which[order], element[order]
    return which, element


def merged(sizes: Ints, phases: Floats, start: Ints, end: Ints) -> Ints:
    """The same as the places that the elements have when the lists lie one after another: int64 [m]."""
    return _C.mix_merge(sizes, phases, start, end)
