"""The methods of ``select`` that draw or weigh: the samplers' rules, for a given number of samples."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from pyimportance.errors import ArgumentError
from pyimportance.order.ranking import Positions, Ranking
from pyimportance.order.samplers.active import DRAWING, WEIGHING, batch_weights, smoothed
from pyimportance.order.samplers.chance import Chance, Floats, corrections
from pyimportance.order.samplers.importance import shares
from pyimportance.order.samplers.infobatch import below_mean, staying
from pyimportance.order.samplers.rs2 import subset


class Drawn(NamedTuple):
    """positions [count] in any order, one may be there twice; weights float64 [count], None: all 1."""

    positions: Positions
    weights: Floats | None


def take_rs2(ranking: Ranking, count: int, *, epoch: int = 0, seed: int = 0) -> Drawn:
    """A fresh uniform subset every epoch, out of one permutation until all were there (`RS2`)."""
    return Drawn(subset(ranking.values.size, count, epoch, seed, replacement=False), None)


def take_infobatch(ranking: Ranking, count: int, *, epoch: int = 0, seed: int = 0) -> Drawn:
    """All but some of those below the mean, what stays of these standing for all of them (`InfoBatch`)."""
    low = below_mean(ranking.scores)
    below, out = int(np.count_nonzero(low)), low.size - count
    if out and below <= out:
        raise ArgumentError(
            f"count={count}: method 'infobatch' leaves out fewer than the {below} of {low.size} samples that "
            "are less important than the mean"
        )
    stays = staying(low, below - out, Chance("InfoBatch", seed, epoch))
    weights = np.where(low[stays], below / max(below - out, 1), 1.0)
    return Drawn(np.flatnonzero(stays), weights)


def take_active(ranking: Ranking, count: int, *, rule: str, epoch: int = 0, seed: int = 0) -> Drawn:
    """``count`` draws with replacement by Chang's ``rule`` (`ActiveSampling`)."""
    mass = smoothed(ranking.scores, rule)
    drawn = Chance(rule, seed, epoch).replacing(mass, count)
    return Drawn(drawn, corrections(mass, drawn) if rule == "ISD" else None)


def take_weighed(ranking: Ranking, count: int, *, rule: str) -> Drawn:
    """All samples, weighed by Chang's ``rule`` (`ActiveWeighting`)."""
    N = ranking.values.size
    if count != N:
        raise ArgumentError(f"count={count}: method {rule.lower()!r} weighs all {N} samples; fraction=1.0")
    return Drawn(np.arange(N), batch_weights(smoothed(ranking.scores, rule)).astype(np.float64))


def take_importance(ranking: Ranking, count: int, *, epoch: int = 0, seed: int = 0) -> Drawn:
    """``count`` draws with replacement in proportion to the score (`ImportanceSampling`)."""
    _, g = shares(ranking.scores.sample_ids(), ranking.values)
    drawn = Chance("importance", seed, epoch).replacing(g, count)
    return Drawn(drawn, corrections(g, drawn))


BY_RULE: dict[str, Callable[..., Drawn]] = {
    rule.lower(): partial(take, rule=rule)
    for take, rules in ((take_active, DRAWING), (take_weighed, WEIGHING))
    for rule in rules
}
