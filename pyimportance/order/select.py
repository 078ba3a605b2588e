"""select: the ids of a part of the samples, by importance."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError
from pyimportance.order.checks import check_integer
from pyimportance.order.ranking import rank
from pyimportance.score.values import Scores


def select(
    scores: Scores,
    *,
    fraction: float | None = None,
    count: int | None = None,
    method: Literal["top"] = "top",
) -> npt.NDArray[np.int64]:
    """Sample ids int64, the most important first, of exactly as many samples as asked for.

    fraction    in 0..1: floor(fraction * N + 1/2) samples
    count       in 0..N; give one of the two
    method      "top": the most important ones, ties by ascending sample id. Samples whose score is NaN are
                the last to be taken (and a NaNScoresWarning counts them)

    Raises ArgumentError where an argument is not as described.
    """
    if method != "top":
        raise ArgumentError(f"method {method!r} is unknown; allowed is top")
    if (fraction is None) == (count is None):
        raise ArgumentError(f"fraction={fraction}, count={count}: exactly one of the two must be given")
    ranking = rank(scores)
    N = ranking.order.size
    if count is None:
        assert fraction is not None
        if not 0 <= fraction <= 1:
            raise ArgumentError(f"fraction={fraction}: must be within 0..1")
        count = math.floor(fraction * N + 0.5)
    elif check_integer("count", count, 0) > N:
        raise ArgumentError(f"count={count}: there are {N} samples")
    return ranking.ids[ranking.order[:count]]
