"""select: the ids of a part of the samples, by importance."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.checks import check_fraction, check_integer
from pyimportance.errors import ArgumentError
from pyimportance.order.argsort import argsort
from pyimportance.order.capacity import apportion
from pyimportance.order.checks import check_classes, part_of
from pyimportance.order.ranking import Positions, Ranking, rank
from pyimportance.order.samplers import ccs, moderate
from pyimportance.score.values import Scores


def select(
    scores: Scores,
    amount: float | None = None,
    /,
    *,
    fraction: float | None = None,
    count: int | None = None,
    method: str = "top",
    classes: npt.ArrayLike | None = None,
    **options: Any,
) -> npt.NDArray[np.int64]:
    """Sample ids int64, the most important first, of exactly as many samples as asked for.

    Which ones is up to ``method``, and its options:

    amount      ``select(scores, 0.5)`` is ``fraction=0.5``; an integer, ``select(scores, 100)``, is ``count``
    fraction    in 0..1: floor(fraction * N + 1/2) samples
    count       in 0..N; give one of the three
    method      top       the most important ones, ties by ascending sample id
                bottom    the least important ones
                ccs(beta, bins=50, seed=0)
                          without the share ``beta`` of the most important, equally many from each of ``bins``
                          ranges of scores (Zheng 2023). ``beta`` has no default
                moderate  the central ones (Xia 2023, of samplers.median_distance(features, targets))
                the low, middle and high bands of perplexity are bottom, moderate and top (Marion 2023);
                samples whose score is NaN are the last to be taken (and a NaNScoresWarning counts them)

    classes     of each sample, integers [N] in ascending order of sample id: every class is selected from in
                proportion to its size (by largest remainder; the lower class where remainders are equal)

    Linear in N: top, bottom and moderate sort no more than they return.
    Raises ArgumentError where an argument is not as described, or ``beta`` leaves too few.
    """
    take = _method(method, options)
    if amount is not None and (fraction is not None or count is not None):
        raise ArgumentError(f"amount={amount!r}: must not come with fraction={fraction!r} or count={count!r}")
    if isinstance(amount, numbers.Integral):  # a bool as well, which check_integer refuses
        count = amount
    elif amount is not None:
        fraction = amount
    if (fraction is None) == (count is None):
        raise ArgumentError(f"fraction={fraction!r}, count={count!r}: exactly one of the two must be given")
    if fraction is not None:
        fraction = check_fraction("fraction", fraction)
    else:
        count = check_integer("count", count, 0)
    ranking, N = rank(scores), scores.num_samples
    wanted = part_of(fraction, N) if fraction is not None else count or 0
    if wanted > N:
        raise ArgumentError(f"count={count}: there are {N} samples")
    if classes is None:
        return ranking.ids_at(take(ranking, wanted, **options))
    return ranking.ids_at(_inside(ranking, wanted, classes, partial(take, **options)))


def _top(ranking: Ranking, count: int) -> Positions:
    return ranking.between(0, count)


def _bottom(ranking: Ranking, count: int) -> Positions:
    return ranking.between(max(ranking.scored - count, 0), max(ranking.scored, count))


def _inside(
    ranking: Ranking, count: int, classes: npt.ArrayLike, take: Callable[[Ranking, int], Positions]
) -> Positions:
    """``take`` inside each class, as many as its share of ``count`` comes to; the most important first."""
    scores = ranking.scores
    names, of = np.unique(check_classes(classes, scores.num_samples), return_inverse=True)
    sizes = np.bincount(of, minlength=names.size).astype(np.int64)
    members = np.split(argsort(of, descending=False), np.cumsum(sizes)[:-1])
    parts = []
    for rows, share in zip(members, apportion(sizes, names.size, count), strict=True):
        part = Scores(scores.values[rows], descending=scores.descending)
        scored = rows.size - int(np.count_nonzero(np.isnan(part.values)))
        parts.append(rows[take(Ranking(part, scored), int(share))])
    chosen = np.sort(np.concatenate(parts))
    return chosen[argsort(scores.values[chosen], descending=scores.descending)]


# Functions (Ranking, count, *, options) -> int64 [count] positions, the most important first.
_METHODS: dict[str, Callable[..., Positions]] = {
    "top": _top,
    "bottom": _bottom,
    "ccs": ccs.take,
    "moderate": moderate.take,
}


def _method(name: str, options: Mapping[str, Any]) -> Callable[..., Positions]:
    """The function of that name, which takes these options."""
    take = _METHODS.get(name)
    if take is None:
        raise ArgumentError(f"method {name!r} is unknown; allowed are {', '.join(_METHODS)}")
    known = {p.name: p for p in inspect.signature(take).parameters.values() if p.kind is p.KEYWORD_ONLY}
    for option in options:
        if option not in known:
            allowed = f"its options are {', '.join(known)}" if known else "it takes none"
            raise ArgumentError(f"method {name!r} has no option {option!r}; {allowed}")
    if missing := [p.name for p in known.values() if p.default is p.empty and p.name not in options]:
        raise ArgumentError(f"method {name!r} needs {', '.join(missing)}=")
    return take
