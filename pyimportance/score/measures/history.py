"""Measures of how a sample's numbers went from epoch to epoch: they need a history, and read it in parts.

Only epochs in which a sample was observed count, in their order; a sample with fewer of them than a window
holds has no score.

Sources: Cho et al. 2025, Lightweight dataset pruning without full training via example difficulty and
prediction uncertainty. Zhang et al. 2024, Spanning training progress: temporal dual-depth scoring.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError
from pyimportance.score.dynamics import Dynamics
from pyimportance.score.history import History
from pyimportance.score.measures.registry import Array, at_least, builtin, fraction

_NUMBERS = 1 << 20  # doubles of a history that are looked at together: 8 MiB
_LEAST = 1e-8  # what the published code adds to a probability before it takes the logarithm


@builtin("dual", high="hard", needs=("p_true", "history"), least="window", window=at_least(2))
def dual(d: Dynamics, window: int = 10) -> Array:
    """Mean over all windows of ``window`` successive observations of 10 std(p_y) (1 - mean p_y), ddof = 1:
    uncertain and difficult. Cho et al. 2025, section 3 (the factor 10 is the published code's).
    """
    history = _history(d)
    values = np.full(d.num_samples, np.nan)
    for part in parts(d.num_samples, history.epochs):
        p, count = _in_order(history.array("p_true", part))
        total = np.zeros(count.size)
        for start in range(history.epochs - window + 1):
            here = p[start : start + window]
            mean = here.mean(0)
            deviation = np.sqrt(((here - mean) ** 2).sum(0) / (window - 1))
            total += np.where(count >= start + window, 10.0 * deviation * (1.0 - mean), 0.0)
        windows = count - window + 1
        values[part] = total / np.where(windows > 0, windows, np.nan)
    return values


@builtin(
    "tdds",
    high="hard",
    needs=("history", "probs"),
    least="window",
    window=at_least(3),
    decay=fraction,
)
def tdds(d: Dynamics, window: int = 10, decay: float = 0.9) -> Array:
    """How unsteadily the predicted distribution moves, late epochs before all. Zhang et al. 2024, section 3.

    KD_e = sum_c |p_{e+1,c} (log p_{e+1,c} - log p_{e,c})| between successive observations; in each window of
    J = ``window`` observations the norm R_k = sqrt(sum (KD - mean KD)^2) over its J - 1 of them; and their
    moving average sum_k decay (1 - decay)^(E - J - k) R_k over the windows k = 0..E-J. As in the published
    code 1e-8 is added to p inside the logarithms, the mean's absolute values are inside the sum over classes,
    and the average starts from 0.
    """
    history = _history(d)
    probabilities = history.probabilities
    assert probabilities is not None
    values = np.full(d.num_samples, np.nan)
    for part in parts(d.num_samples, probabilities.shape[2]):
        moved, count = _moves(probabilities, history, part)
        average = np.zeros(count.size)
        for start in range(history.epochs - window + 1):
            here = moved[start : start + window - 1]
            norm = np.sqrt(((here - here.mean(0)) ** 2).sum(0))
            average = np.where(count >= start + window, (1.0 - decay) * average + decay * norm, average)
        values[part] = np.where(count >= window, average, np.nan)
    return values


def _history(d: Dynamics) -> History:
    assert d.history is not None
    return d.history


def parts(num_samples: int, each: int) -> Iterator[slice]:
    """Runs of samples of which ``each`` numbers a sample may lie in memory."""
    size = max(_NUMBERS // max(each, 1), 1)
    return (slice(start, min(start + size, num_samples)) for start in range(0, num_samples, size))


def _in_order(values: Array) -> tuple[Array, npt.NDArray[np.int64]]:
    """Each sample's observations [E, n] moved up to its first rows (0 in the rest), and how many they are."""
    missing = np.isnan(values)
    order = np.argsort(missing, axis=0, kind="stable")
    return np.take_along_axis(np.where(missing, 0.0, values), order, 0), (~missing).sum(0)


def _moves(
    probabilities: npt.NDArray[np.floating], history: History, part: slice
) -> tuple[Array, npt.NDArray[np.int64]]:
    """KD [E - 1, n] between each sample's successive observations, in its first rows; how many those are."""
    size = part.stop - part.start
    moved = np.zeros((max(history.epochs - 1, 0), size))
    count = np.zeros(size, dtype=np.int64)
    before = np.zeros((size, probabilities.shape[2]))  # log p at the latest observation
    for epoch in range(history.epochs):
        p = probabilities[epoch, part].astype(np.float64)
        _check(p, history.seen_in(epoch, part), epoch, part.start)
        seen = ~np.isnan(p[:, 0])
        log = np.log(p + _LEAST)
        again = seen & (count > 0)
        moved[count[again] - 1, again] = np.abs(p[again] * (log[again] - before[again])).sum(1)
        before[seen] = log[seen]
        count += seen
    return moved, count


def _check(p: Array, seen: npt.NDArray[np.bool_], epoch: int, first: int) -> None:
    """ArgumentError unless p [n, C] are distributions where observed, and NaN elsewhere."""
    total = p.sum(1)
    good = np.where(seen, ((p >= 0) & (p <= 1)).all(1) & (np.abs(total - 1) <= 1e-2), np.isnan(p).all(1))
    if not good.all():
        at = int(good.argmin())
        what = "0 to 1 and sum to 1" if seen[at] else "NaN, as it was not observed"
        raise ArgumentError(
            f"probs: those of sample {first + at} in epoch {epoch} are {p[at].min()} to {p[at].max()}, "
            f"their sum {total[at]}; must be {what}"
        )
