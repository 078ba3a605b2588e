"""select: the ids of a part of the samples, by importance."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.checks import check_fraction, check_integer
from pyimportance.errors import ArgumentError
from pyimportance.order.checks import part_of
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
    ranking = rank(scores)
    N = ranking.order.size
    if fraction is not None:
        count = part_of(fraction, N)
    elif count is not None and count > N:
        raise ArgumentError(f"count={count}: there are {N} samples")
    return ranking.ids_at(take(ranking, count, **options))


def _top(ranking: Ranking, count: int) -> Positions:
    return ranking.order[:count]


def _bottom(ranking: Ranking, count: int) -> Positions:
    order = ranking.order
    scored = order.size - int(np.count_nonzero(np.isnan(ranking.values)))
    return np.concatenate([order[max(scored - count, 0) : scored], order[scored : max(scored, count)]])


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
