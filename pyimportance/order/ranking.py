"""rank: scores checked and put in order of importance; the first step of every verb of this folder."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError
from pyimportance.order.argsort import argsort
from pyimportance.order.checks import check_scores
from pyimportance.score.values import Scores


class NaNScoresWarning(UserWarning):
    """Some samples have no score; they are treated as the least important."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """ids int64 [N] ascending, values float32 [N] of them, order int64 [N]: the position at each rank."""

    ids: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]
    order: npt.NDArray[np.int64]


def rank(scores: Scores) -> Ranking:
    """The samples from the most important to the least: by ``scores.descending``, ties by id, NaN last.

    Raises ArgumentError where there are no scores or all are NaN; warns (NaNScoresWarning) where some are.
    """
    values = check_scores(scores).values
    if values.size == 0:
        raise ArgumentError("scores: there are none; at least one sample is needed")
    missing = int(np.count_nonzero(np.isnan(values)))
    if missing == values.size:
        raise ArgumentError(f"scores: all {missing} are NaN, so there is no order of importance")
    if missing:
        text = f"{missing} of {values.size} scores are NaN; these samples are ordered last"
        warnings.warn(text, NaNScoresWarning, stacklevel=3)  # at the caller of the verb that ranks
    return Ranking(scores.sample_ids(), values, argsort(values, descending=scores.descending))
