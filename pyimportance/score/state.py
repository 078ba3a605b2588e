"""The running state of a tracker: columns [N], updated by the native fold (csrc/observe/fold.h).

For every sample: 28 bytes where only losses are observed, 105 where logits are, 113 with features, 16 more
once something decays; and 32 for the epoch in progress, on a device 36. Pages of memory that no sample has
touched cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError
from pyimportance.score import ranges

Columns = dict[str, npt.NDArray[Any]]

_I4, _F4, _F8 = np.dtype(np.int32), np.dtype(np.float32), np.dtype(np.float64)

# What each recorded quantity becomes; m2 is a sum of squared deviations from the mean, last the latest one.
QUANTITIES: dict[str, dict[str, np.dtype[Any]]] = {
    "loss": {"loss_mean": _F8, "loss_m2": _F8, "loss_last": _F8},
    "p_true": {"p_mean": _F8, "p_m2": _F8, "q_sum": _F8},  # q = 1 - p
    "margin": {"margin_sum": _F8, "margin_last": _F8},
    "el2n": {"el2n_sum": _F8, "el2n_last": _F4},
    "entropy": {"entropy_sum": _F8, "entropy_last": _F4},
    "correct": {"correct": _I4, "forgotten": _I4, "first_learned": _I4, "ends": np.dtype(np.uint8)},
    "grand": {"grand_sum": _F8},
}
ONCE_NARROW = ("loss_last", "margin_last")  # float32 in version 1 of files and of states
WEIGHTS: dict[str, np.dtype[Any]] = {"weight": _F8, "weight_sq": _F8}
DTYPES: dict[str, np.dtype[Any]] = {"count": _I4, **WEIGHTS}
for _columns in QUANTITIES.values():
    DTYPES |= _columns

# The quantities that each kind of observation yields.
KINDS: dict[str, tuple[str, ...]] = {
    "loss": ("loss",),
    "logits": tuple(quantity for quantity in QUANTITIES if quantity != "grand"),
    "logits and features": tuple(QUANTITIES),
}


VARIED = -1  # instead of a number of classes: not always the same one


def classes_of(numbers: Iterable[int]) -> int:
    """What numbers of classes come to: the one that they are all (0: nothing is known), or VARIED."""
    known = {number for number in numbers if number != 0}
    return known.pop() if len(known) == 1 else VARIED if known else 0


def names(quantities: tuple[str, ...]) -> list[str]:
    """The columns that quantities become."""
    return ["count", *(name for quantity in quantities for name in QUANTITIES[quantity])]


def zeros(num_samples: int, quantities: tuple[str, ...]) -> Columns:
    """The state of samples that nobody has observed."""
    return {name: np.zeros(num_samples, DTYPES[name]) for name in names(quantities)}


def check(columns: Columns, kind: str, epochs: int) -> None:
    """ArgumentError where these are not what observations of a kind leave behind in so many epochs."""
    wanted = set(names(KINDS.get(kind, ())))
    weighted = WEIGHTS.keys() & columns.keys()
    if columns.keys() - weighted not in (wanted, {"count"}) or len(weighted) not in (0, len(WEIGHTS)):
        raise ArgumentError(f"state: columns {sorted(columns)} for {kind or 'nothing'} observed")
    numbered = dict(columns)
    # Epochs are numbered from the run's first here, and by the checks from the interval's.
    numbered.pop("first_learned", None)
    ranges.check(epochs, numbered)
    if "ends" in columns and (columns["ends"] > 3).any():
        raise ArgumentError(f"state: column ends: {columns['ends'].max()}; allowed are 0 to 3")


def weights(columns: Columns) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Sum of the observations' weights and of their squares, both [N]; the count where nothing has
    decayed.
    """
    if "weight" in columns:
        return columns["weight"], columns["weight_sq"]
    count = columns["count"].astype(np.float64)
    return count, count


def decay(columns: Columns, factor: float) -> None:
    """Multiplies the weight of everything so far by ``factor`` > 0, in place. Counts of events stay whole."""
    if "weight" not in columns:
        weight, weight_sq = weights(columns)
        columns["weight"], columns["weight_sq"] = weight, weight_sq.copy()
    columns["weight"] *= factor
    columns["weight_sq"] *= factor * factor
    for name in columns:
        if name.endswith(("_m2", "_sum")):
            columns[name] *= factor


def merged(a: Columns, b: Columns) -> Columns:
    """The state after what ``a`` saw and then, for samples that both saw, what ``b`` saw (Chan et al. 1979).

    Samples that only one saw keep its numbers to the last bit.
    """
    if ("weight" in a) != ("weight" in b):
        a, b = _with_weights(a), _with_weights(b)
    (weight_a, _), (weight_b, _) = weights(a), weights(b)
    both = (a["count"] > 0) & (b["count"] > 0)
    result = {name: np.where(b["count"] > 0, b[name], a[name]) for name in a}
    wa, wb = weight_a[both], weight_b[both]
    for name in a:
        if name in ("count", "weight", "weight_sq", "correct", "forgotten") or name.endswith("_sum"):
            result[name][both] = a[name][both] + b[name][both]
    for mean, m2 in (("loss_mean", "loss_m2"), ("p_mean", "p_m2")):
        if mean in a:
            off, share = b[mean][both] - a[mean][both], wb / (wa + wb)
            result[mean][both] = a[mean][both] + off * share
            result[m2][both] = a[m2][both] + b[m2][both] + off * off * wa * share
    if "correct" in a:
        learned_before = a["correct"][both] > 0
        result["first_learned"][both] = np.where(
            learned_before, a["first_learned"][both], b["first_learned"][both]
        )
        last_of_a, first_of_b = a["ends"][both] & 2, b["ends"][both] & 1
        result["forgotten"][both] += (last_of_a != 0) & (first_of_b == 0)
        result["ends"][both] = (a["ends"][both] & 1) | (b["ends"][both] & 2)
    return result


def _with_weights(columns: Columns) -> Columns:
    if "weight" in columns:
        return columns
    weight, weight_sq = weights(columns)
    return {**columns, "weight": weight, "weight_sq": weight_sq}
