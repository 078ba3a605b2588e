"""select: the ids of a part of the samples, by importance."""

from __future__ import annotations

import math
import numbers
from typing import Literal

import numpy as np
import numpy.typing as npt

from pyimportance.checks import check_fraction, check_integer
from pyimportance.errors import ArgumentError
from pyimportance.order.ranking import rank
from pyimportance.score.values import Scores


def select(
    scores: Scores,
    amount: float | None = None,
    /,
    *,
    fraction: float | None = None,
    count: int | None = None,
    method: Literal["top"] = "top",
) -> npt.NDArray[np.int64]:
    """Sample ids int64, the most important first, of exactly as many samples as asked for.

    amount      ``select(scores, 0.5)`` is ``fraction=0.5``; an integer, ``select(scores, 100)``, is ``count``
    fraction    in 0..1: floor(fraction * N + 1/2) samples
    count       in 0..N; give one of the three
    method      "top": the most important ones, ties by ascending sample id. Samples whose score is NaN are
                the last to be taken (and a NaNScoresWarning counts them)

    Raises ArgumentError where an argument is not as described.
    """
    if method != "top":
        raise ArgumentError(f"method {method!r} is unknown; allowed is top")
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
        count = math.floor(fraction * N + 0.5)
    elif count is not None and count > N:
        raise ArgumentError(f"count={count}: there are {N} samples")
    return ranking.ids[ranking.order[:count]]
