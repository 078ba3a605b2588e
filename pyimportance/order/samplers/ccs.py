"""CCS: cover all degrees of importance, but for the very hardest. ``select(scores, method="ccs", beta=...)``.

Zheng et al. 2023, Coverage-centric coreset selection for high pruning rates, algorithm 1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyimportance.checks import check_fraction, check_integer
from pyimportance.errors import ArgumentError
from pyimportance.order.argsort import argsort
from pyimportance.order.checks import part_of
from pyimportance.order.ranking import Ranking
from pyimportance.order.samplers.chance import Chance, Ints


def take(ranking: Ranking, count: int, *, beta: float, bins: int = 50, seed: int = 0) -> Ints:
    """int64 [count] positions, the most important first.

    beta  the share of the scored samples, 0..1, that is left out at the important end: what is hardest is
          often mislabelled. The paper tunes it by grid search: the fewer are kept, the larger
    bins  of equal width between the lowest and the highest finite score that is left; infinite scores belong
          to the bin at their end. The bins share ``count`` equally, the smallest first, and what one cannot
          fill the others share; within a bin the choice is random

    Samples without a score are taken after all others, by ascending id.
    ArgumentError where beta leaves fewer than ``count``.
    """
    beta, bins = check_fraction("beta", beta), check_integer("bins", bins, 1)
    N, scored = ranking.values.size, ranking.scored
    pool = ranking.between(part_of(beta, scored), scored)
    unscored = ranking.between(scored, N)
    if count > pool.size + unscored.size:
        left = pool.size + unscored.size
        raise ArgumentError(f"count={count}: beta={beta} leaves {left} of {N} samples")
    bin_of = _bins(ranking.values[pool].astype(np.float64), bins)
    sizes = np.bincount(bin_of, minlength=bins)
    budgets = _budgets(sizes, min(count, pool.size))
    shuffled = Chance("CCS", seed).permutation(pool.size)
    grouped = shuffled[argsort(bin_of[shuffled], descending=False)]
    place = np.arange(pool.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen = np.sort(grouped[place < np.repeat(budgets, sizes)])
    return np.concatenate([pool[chosen], unscored[: count - chosen.size]])


def _bins(values: npt.NDArray[np.float64], bins: int) -> Ints:
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    inside = np.clip(values, low, high) - low
    bin_of = (inside / (high - low if high > low else 1.0) * bins).astype(np.int64)
    bin_of[(bin_of == bins) | (values == np.inf)] = bins - 1
    return bin_of


def _budgets(sizes: Ints, count: int) -> Ints:
    """int64 [bins], of sum ``count`` <= sum of sizes and none above its size.

    Smallest bin first, each takes its whole or an equal share of what is left (rounded down, so that the
    larger bins take the remainder).
    """
    budgets = np.zeros_like(sizes)
    for done, b in enumerate(np.argsort(sizes, kind="stable")):
        budgets[b] = min(sizes[b], count // (sizes.size - done))
        count -= int(budgets[b])
    return budgets
