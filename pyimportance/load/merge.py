"""Several lists merged in proportion to their lengths.

Element j of list i gets the key ``(j + u) / sizes[i]`` and the merge is sorted by key, u being uniform in
[0, 1): element j of the random stream that ``seeds[i]`` begins (csrc/load/mixing.h). So elements of a list
keep their order, and each has a place of its own in one of sizes[i] equal parts of the merge. What a part of
a merge of L lists, of N elements in all, draws from list i of n_i:

    the first elements          B * n_i / N of B, give or take less than 1 + L * n_i / N
    elements in a row           as much, give or take less than twice that, and right on average
    lists of equal length       are permuted at random in each round of L elements: whole rounds are exact
    every so manieth element    what a random draw would: no stride falls in step with the lists

The last is why there is a u. With a fixed one equal lists would come in turns, and who is dealt every second
element of a merge of two would get all of one list and nothing of the other.

Lists are the bins of a worker (plan.py) and the workers of a rank (deal.py). The merge need not be built to
be used: `taken` says how far its first elements reach into every list, in O(L log N), so that a window of an
epoch or a position in it costs only itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyimportance import _C

Ints = NDArray[np.int64]
Seeds = NDArray[np.uint64]


def taken(sizes: Ints, seeds: Seeds, start: Ints, total: int) -> Ints:
    """Where the first ``total`` elements of the merge end in each list.

    sizes: int64 [L]. seeds: uint64 [L]. start: int64 [L], the first element of each list that still takes
    part. Returns int64 [L] ends, start <= ends <= sizes, of which the sum of
    (ends - start) is min(total, all there are).
    """
    if total <= 0 or total >= int((sizes - start).sum()):
        return (start if total <= 0 else sizes).copy()
    return _C.mix_taken(sizes, seeds, start, total)


def merge(sizes: Ints, seeds: Seeds, start: Ints, end: Ints) -> tuple[NDArray[np.intp], Ints]:
    """The merge of elements start[i] <= j < end[i] of each list i: (list, element), each int64 [m]."""
    counts = end - start
    which = np.repeat(np.arange(len(sizes)), counts)
    element = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(start, counts)
    if np.count_nonzero(counts) > 1:
        order = merged(sizes, seeds, start, end)
        which, element = which[order], element[order]
    return which, element


def merged(sizes: Ints, seeds: Seeds, start: Ints, end: Ints) -> Ints:
    """The same as the places that the elements have when the lists lie one after another: int64 [m]."""
    return _C.mix_merge(sizes, seeds, start, end)
