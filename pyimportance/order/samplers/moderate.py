"""Moderate: the samples neither close to nor far from what is typical of their class.

Xia et al. 2023, Moderate coreset: a universal method of data selection for real-world data-efficient deep
learning.

    select(median_distance(features, targets), fraction=0.3, method="moderate")
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError
from pyimportance.order.ranking import Positions, Ranking
from pyimportance.score import inputs
from pyimportance.score.values import Scores


def median_distance(
    features: npt.ArrayLike, targets: npt.ArrayLike, ids: npt.NDArray[np.int64] | None = None
) -> Scores:
    """Each sample's L2 distance to the median feature (dimension by dimension) of its class.

    features  floats [N, D], finite: what the layer before the logits gives, say
    targets   integers [N], any
    ids       as of Scores

    High is untypical, which counts as the more important end. ArgumentError where an argument is not as
    described.
    """
    classes = inputs.integers("targets", targets)
    values = inputs.floats("features", features, (classes.size, "D"))
    if not (finite := np.isfinite(values).all(axis=1)).all():
        raise ArgumentError(f"features: row {int(finite.argmin())} is not finite")
    distances = np.empty(classes.size)
    by_class = np.argsort(classes, kind="stable")
    edges = np.flatnonzero(np.diff(classes[by_class])) + 1
    for rows in np.split(by_class, edges):
        members = values[rows].astype(np.float64)
        if rows.size:
            members -= np.median(members, axis=0)
        distances[rows] = np.sqrt(np.square(members).sum(axis=1))
    return Scores(distances.astype(np.float32), ids=ids, measure="median_distance")


def take(ranking: Ranking, count: int) -> Positions:
    """int64 [count] positions: the central ``count`` by score, the most important first.

    As many are left out at one end as at the other (of an odd number one more at the unimportant end).
    Samples without a score are taken after all others, by ascending id.
    """
    start = max(ranking.scored - count, 0) // 2
    return ranking.between(start, start + count)
