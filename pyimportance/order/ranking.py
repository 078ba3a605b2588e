"""rank: scores checked and put in order of importance; the first step of every verb of this folder."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pyimportance import _C
from pyimportance.errors import ArgumentError
from pyimportance.order.argsort import argsort
from pyimportance.order.checks import check_scores
from pyimportance.score.values import Scores
from pyimportance.threads import default_threads

# Positions of samples in ascending order of id; the shorter ones below 2**32 samples.
Positions = npt.NDArray[np.uint32] | npt.NDArray[np.int64]

_CHUNK = 1 << 17  # what of so many is temporary stays in a cache


class NaNScoresWarning(UserWarning):
    """Some samples have no score; they are treated as the least important."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """Scores in order of importance, as much of it as is asked for. ``scored``: how many are no NaN."""

    scores: Scores
    scored: int

    @property
    def values(self) -> npt.NDArray[np.float32]:
        """float32 [N], by position."""
        return self.scores.values

    @cached_property
    def order(self) -> Positions:
        """The position of the sample at each rank, [N]."""
        return _argsort(self.values, self.scores.descending)

    def sort(self) -> tuple[Positions, npt.NDArray[np.float32]]:
        """``order``, and the score at each rank, float32 [N], bit for bit; neither is kept here."""
        return _C.argsort(
            self.values,
            descending=self.scores.descending,
            threads=default_threads(),
            compact=self.values.size < 2**32,
            sorted=True,
        )

    def between(self, start: int, stop: int) -> Positions:
        """``order[start:stop]``; of a smaller part, in one pass after the other over the scores, none sorted
        but those that are asked for.
        """
        if 2 * (stop - start) > self.values.size or "order" in self.__dict__:
            return self.order[start:stop]
        chosen = _C.select_ranks(
            self.values, start, stop, descending=self.scores.descending, threads=default_threads()
        )
        order: Positions = chosen[_argsort(self.values[chosen], self.scores.descending)]
        return order

    def ids_at(self, positions: Positions) -> npt.NDArray[np.int64]:
        """int64: the sample ids at positions; these themselves, not copied, where ids are implicit."""
        if self.scores.ids is None:
            return positions.astype(np.int64, copy=False)
        ids: npt.NDArray[np.int64] = self.scores.ids[positions]
        return ids


def rank(scores: Scores) -> Ranking:
    """The samples from the most important to the least: by ``scores.descending``, ties by id, NaN last.

    Raises ArgumentError where there are no scores or all are NaN; warns (NaNScoresWarning) where some are.
    """
    values = check_scores(scores).values
    if values.size == 0:
        raise ArgumentError("scores: there are none; at least one sample is needed")
    missing = sum(
        int(np.count_nonzero(np.isnan(values[start : start + _CHUNK])))
        for start in range(0, values.size, _CHUNK)
    )
    if missing == values.size:
        raise ArgumentError(f"scores: all {missing} are NaN, so there is no order of importance")
    if missing:
        text = f"{missing} of {values.size} scores are NaN; these samples are ordered last"
        warnings.warn(text, NaNScoresWarning, stacklevel=3)  # at the caller of the verb that ranks
    return Ranking(scores, values.size - missing)


def _argsort(values: npt.NDArray[np.float32], descending: bool) -> Positions:
    if values.size >= 2**32:
        return argsort(values, descending=descending)
    return _C.argsort(values, descending=descending, threads=default_threads(), compact=True)
