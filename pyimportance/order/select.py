"""select: the ids of a part of the samples, by importance."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from pyimportance.checks import check_flag, check_fraction, check_integer
from pyimportance.errors import ArgumentError
from pyimportance.order.argsort import argsort
from pyimportance.order.capacity import apportion
from pyimportance.order.checks import check_classes, part_of
from pyimportance.order.ranking import Positions, Ranking, rank
from pyimportance.order.samplers import ccs, drawing, moderate
from pyimportance.order.samplers.draw import Draw
from pyimportance.order.samplers.drawing import Drawn
from pyimportance.score.values import Scores


@overload
def select(
    scores: Scores,
    amount: float | None = None,
    /,
    *,
    fraction: float | None = None,
    count: int | None = None,
    method: str = "top",
    classes: npt.ArrayLike | None = None,
    weights: Literal[False] = False,
    **options: Any,
) -> npt.NDArray[np.int64]: ...
@overload
def select(
    scores: Scores,
    amount: float | None = None,
    /,
    *,
    fraction: float | None = None,
    count: int | None = None,
    method: str = "top",
    classes: npt.ArrayLike | None = None,
    weights: Literal[True],
    **options: Any,
) -> Draw: ...
def select(
    scores: Scores,
    amount: float | None = None,
    /,
    *,
    fraction: float | None = None,
    count: int | None = None,
    method: str = "top",
    classes: npt.ArrayLike | None = None,
    weights: bool = False,
    **options: Any,
) -> npt.NDArray[np.int64] | Draw:
    """Sample ids int64, the most important first, of exactly as many samples as asked for.

    With ``weights=True`` a :class:`~pyimportance.samplers.Draw`: the ids, ``weights`` float32, one for each
    id, that the method multiplies losses with, and whether that is ``biased``.

    amount      ``select(scores, 0.5)`` is ``fraction=0.5``; an integer, ``select(scores, 100)``, is ``count``
    fraction    in 0..1: floor(fraction * N + 1/2) samples
    count       in 0..N; give one of the three
    method      which ones, with its options. Biased, of weight 1:
                top       the most important ones, ties by ascending sample id
                bottom    the least important ones
                ccs(beta, bins=50, seed=0)
                          without the share ``beta`` of the most important, equally many from each of ``bins``
                          ranges of scores (Zheng 2023). ``beta`` has no default
                moderate  the central ones (Xia 2023, of samplers.median_distance(features, targets))
                the low, middle and high bands of perplexity are bottom, moderate and top (Marion 2023)
                spv stc sd se (epoch=0, seed=0)
                          drawn with replacement, P ~ s + mean s (Chang 2017: the measure that s is made of
                          stands in samplers): an id may be there twice
                Biased, all samples with weights of their own, of mean 1 (fraction=1.0):
                wpv wtc wd we
                          w ~ s + mean s (Chang 2017)
                Not biased, by weights that correct for the draw:
                isd(epoch=0, seed=0)
                          sd with weight 1 / (N P)
                importance(epoch=0, seed=0)
                          drawn with replacement, P ~ the score, weight 1 / (N P) (Katharopoulos 2018)
                infobatch(epoch=0, seed=0)
                          a random part of those less important than the mean is left out, what stays of them
                          weighs what all do together, the others 1 (Qin 2024)
                rs2(epoch=0, seed=0)
                          a fresh uniform subset every epoch, of weight 1 (Okanovic 2024)
                Samples whose score is NaN are the last to be taken (and a NaNScoresWarning counts them); by
                Chang's rules they count as average, infobatch keeps them, importance refuses them. Rules that
                have a state, or keep no given number (selective backprop), are in samplers alone
    classes     of each sample, integers [N] in ascending order of sample id: every class is selected from in
                proportion to its size (by largest remainder; the lower class where remainders are equal).
                Weights that correct, correct for that rounding as well; a class that gets no sample is biased

    Linear in N: top, bottom and moderate sort no more than they return.
    Raises ArgumentError where an argument is not as described, or the method cannot take so many.
    """
    chosen = _method(method, options)
    weights = check_flag("weights", weights)
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
    biased = chosen.biased
    if classes is None:
        found = chosen.take(ranking, wanted, **options)
    else:
        found, all_there = _inside(ranking, wanted, classes, chosen, options)
        biased = biased or not all_there
    if isinstance(found, Drawn):
        found, given = _by_importance(found, ranking)
    else:
        given = np.ones(found.size)
    ids = ranking.ids_at(found)
    return Draw(ids, given.astype(np.float32), biased) if weights else ids


@dataclass(frozen=True)
class _Method:
    """take(Ranking, count, *, options) gives positions, the most important first, or what was Drawn.

    biased  whether the weighted sum over the draw is a fixed multiple of the sum over all
    scaled  whether that multiple is count / N, not 1
    """

    take: Callable[..., Positions | Drawn]
    biased: bool = True
    scaled: bool = True


_METHODS: dict[str, _Method] = {
    "top": _Method(lambda ranking, count: ranking.between(0, count)),
    "bottom": _Method(
        lambda ranking, count: ranking.between(max(ranking.scored - count, 0), max(ranking.scored, count))
    ),
    "ccs": _Method(ccs.take),
    "moderate": _Method(moderate.take),
    **{name: _Method(take, biased=name != "isd") for name, take in drawing.BY_RULE.items()},
    "importance": _Method(drawing.take_importance, biased=False),
    "infobatch": _Method(drawing.take_infobatch, biased=False, scaled=False),
    "rs2": _Method(drawing.take_rs2, biased=False),
}


def _inside(
    ranking: Ranking, count: int, classes: npt.ArrayLike, method: _Method, options: Mapping[str, Any]
) -> tuple[Drawn, bool]:
    """What ``method`` takes inside each class, as many as its share of ``count`` comes to, by random numbers
    of the class's own; and whether every class gets some.
    """
    scores, N = ranking.scores, ranking.scores.num_samples
    names, of = np.unique(check_classes(classes, N), return_inverse=True)
    sizes = np.bincount(of, minlength=names.size).astype(np.int64)
    members = np.split(argsort(of, descending=False), np.cumsum(sizes)[:-1])
    shares = apportion(sizes, names.size, count)
    ids, positions, weights = scores.sample_ids(), [], []
    for number, (rows, share) in enumerate(zip(members, shares.tolist(), strict=True)):
        part = Scores(scores.values[rows], ids[rows], scores.measure, scores.descending)
        scored = rows.size - int(np.count_nonzero(np.isnan(part.values)))
        own = dict(options)
        if "seed" in _options_of(method):
            own["seed"] = check_integer("seed", options.get("seed", 0), 0) + (number << 64)
        try:
            found = method.take(Ranking(part, scored), share, **own)
        except ArgumentError as error:  # its count is the class's share of what was asked for
            raise ArgumentError(f"class {names[number]}: {error}") from None
        taken, given = found if isinstance(found, Drawn) else (found, None)
        given = np.ones(share) if given is None else given
        if share and not method.biased and method.scaled:
            given = given * (count * rows.size / (N * share))
        positions.append(rows[taken])
        weights.append(given)
    return Drawn(np.concatenate(positions), np.concatenate(weights)), bool(shares.all())


def _by_importance(drawn: Drawn, ranking: Ranking) -> tuple[Positions, npt.NDArray[np.float64]]:
    """Positions, the most important first, and their weights."""
    by_position = argsort(drawn.positions, descending=False)
    scores = ranking.values[drawn.positions[by_position]]
    order = by_position[argsort(scores, descending=ranking.scores.descending)]
    weights = np.ones(order.size) if drawn.weights is None else drawn.weights[order]
    return drawn.positions[order], weights


def _method(name: str, options: Mapping[str, Any]) -> _Method:
    """The method of that name, which takes these options."""
    method = _METHODS.get(name)
    if method is None:
        raise ArgumentError(f"method {name!r} is unknown; allowed are {', '.join(_METHODS)}")
    known = _options_of(method)
    for option in options:
        if option not in known:
            allowed = f"its options are {', '.join(known)}" if known else "it takes none"
            raise ArgumentError(f"method {name!r} has no option {option!r}; {allowed}")
    if missing := [p.name for p in known.values() if p.default is p.empty and p.name not in options]:
        raise ArgumentError(f"method {name!r} needs {', '.join(missing)}=")
    return method


def _options_of(method: _Method) -> dict[str, inspect.Parameter]:
    bound = method.take.keywords if isinstance(method.take, partial) else {}
    parameters = inspect.signature(method.take).parameters.values()
    return {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in bound}
