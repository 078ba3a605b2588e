"""Measures of how a sample's numbers went from epoch to epoch: they need a history, and read it in parts.

Only epochs in which a sample was observed count, in their order; a sample with fewer of them than a window
holds has no score.

Sources: Cho et al. 2025, Lightweight dataset pruning without full training via example difficulty and
prediction uncertainty. Zhang et al. 2024, Spanning training progress: temporal dual-depth scoring.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError
from pyimportance.score.dynamics import Dynamics
from pyimportance.score.history import History
from pyimportance.score.measures.registry import Array, at_least, builtin, fraction
from pyimportance.threads import default_threads

_NUMBERS = 1 << 20  # doubles of a history that are looked at together: 8 MiB, a thread


@builtin("dual", high="hard", needs=("p_true", "history"), least="window", window=at_least(2))
def dual(d: Dynamics, window: int = 10) -> Array:
    """Mean over all windows of ``window`` successive observations of 10 std(p_y) (1 - mean p_y), ddof = 1:
    uncertain and difficult. Cho et al. 2025, section 3 (the factor 10 is the published code's).
    """
    history = _history(d)

    def of(part: slice) -> Array:
        p, count = _in_order(history.array("p_true", part))
        total, all_have = np.zeros(count.size), count.min()
        for start, mean, squares in _windows(p, window):
            one = np.sqrt(squares)
            one *= 1.0 - mean
            total += one if start + window <= all_have else one * (count >= start + window)
        windows: Array = np.where(count >= window, count - window + 1, np.nan)
        return total / windows * (10.0 / math.sqrt(window - 1))

    return _on_all_threads(of, d.num_samples, history.epochs)


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
    code the absolute values are inside the sum over classes, and the average starts from 0; its 1e-8, added
    to every p inside the logarithms, is left out. 0 log 0 is 0, and a p of 0 that grows is taken to have been
    the smallest number above 0 that its dtype has, so that no move is infinite.
    """
    history = _history(d)
    probabilities = history.probabilities
    assert probabilities is not None

    def of(part: slice) -> Array:
        moved, count = _moves(probabilities, history, part)
        average = np.zeros(count.size)
        for start, _, squares in _windows(moved, window - 1):
            norm = np.sqrt(squares)
            average = np.where(count >= start + window, (1.0 - decay) * average + decay * norm, average)
        return np.where(count >= window, average, np.nan)

    return _on_all_threads(of, d.num_samples, max(probabilities.shape[2], history.epochs))


def _history(d: Dynamics) -> History:
    assert d.history is not None
    return d.history


def parts(num_samples: int, each: int) -> Iterator[slice]:
    """Runs of samples of which ``each`` numbers a sample may lie in memory."""
    size = max(_NUMBERS // max(each, 1), 1)
    return (slice(start, min(start + size, num_samples)) for start in range(0, num_samples, size))


def _on_all_threads(of: Callable[[slice], Array], num_samples: int, each: int) -> Array:
    """What ``of`` gives of parts of the samples, of all: NumPy lets go of the interpreter as it computes."""
    values = np.empty(num_samples)

    def one(part: slice) -> None:
        values[part] = of(part)

    with ThreadPoolExecutor(default_threads()) as pool:
        for _ in pool.map(one, parts(num_samples, each)):
            pass
    return values


def _windows(x: Array, size: int) -> Iterator[tuple[int, Array, Array]]:
    """Of every ``size`` successive rows of x [E, n]: the first one's number, and columnwise their mean and
    their squared deviations from it, added up. In time that does not depend on ``size``.

    The windows that hold a certain row are that row, some of the rows before it and some of those after it;
    what these add up to, about that row, is made once for all of them. Nothing is ever taken off again, and
    about one of its own rows the squares of a window are at most ``size`` times its squared deviations, so
    that few digits are lost.
    """
    end = len(x) - size + 1
    for begin in range(0, end, size):
        at = begin + size - 1  # in all windows that start at begin to at
        about = x[at]
        before = x[begin:at][::-1] - about
        totals = np.cumsum(before, axis=0)
        squares = np.cumsum(np.square(before, out=before), axis=0)
        total, square = np.zeros_like(about), np.zeros_like(about)
        for start in range(begin, min(at + 1, end)):
            if start > begin:
                d = x[start + size - 1] - about
                total += d
                square += d * d
            inside = at - start  # rows before the certain one
            t = total + totals[inside - 1] if inside else total.copy()
            s = square + squares[inside - 1] if inside else square.copy()
            mean = t / size
            t *= mean
            s -= t
            mean += about
            yield start, mean, np.maximum(s, 0.0, out=s)


def _in_order(values: Array) -> tuple[Array, npt.NDArray[np.int64]]:
    """Each sample's observations [E, n] moved up to its first rows (0 in the rest), and how many they are."""
    seen = ~np.isnan(values)
    count = np.zeros(values.shape[1], dtype=np.int64)
    if seen.all():
        return values, count + len(values)
    moved = np.zeros_like(values)
    for row, there in zip(values, seen, strict=True):
        at = np.flatnonzero(there)
        moved[count[at], at] = row[at]
        count[at] += 1
    return moved, count


def _moves(
    probabilities: npt.NDArray[np.floating], history: History, part: slice
) -> tuple[Array, npt.NDArray[np.int64]]:
    """KD [E - 1, n] between each sample's successive observations, in its first rows; how many those are."""
    size, least = part.stop - part.start, _smallest(probabilities.dtype)
    moved = np.zeros((max(history.epochs - 1, 0), size))
    count = np.zeros(size, dtype=np.int64)
    before = np.zeros((size, probabilities.shape[2]))  # log p at the latest observation
    for epoch in range(history.epochs):
        p = probabilities[epoch, part].astype(np.float64)
        _check(p, history.seen_in(epoch, part), epoch, part.start)
        seen = ~np.isnan(p[:, 0])
        log = np.log(np.maximum(p, least))
        again = np.flatnonzero(seen & (count > 0))
        moved[count[again] - 1, again] = np.abs(p * (log - before)).sum(1)[again]
        before = log if seen.all() else np.where(seen[:, None], log, before)
        count += seen
    return moved, count


def _smallest(dtype: np.dtype[np.floating]) -> float:
    """The smallest number above 0 of a dtype, or of doubles."""
    kind = np.finfo(dtype)
    return math.ldexp(1.0, max(int(kind.minexp) - int(kind.nmant), -1074))


def _check(p: Array, seen: npt.NDArray[np.bool_], epoch: int, first: int) -> None:
    """ArgumentError unless p [n, C] are distributions where observed, and NaN elsewhere."""
    total = p.sum(1)
    if seen.all() and p.min() >= 0 and p.max() <= 1 and np.abs(total - 1).max() <= 1e-2:
        return
    good = np.where(seen, ((p >= 0) & (p <= 1)).all(1) & (np.abs(total - 1) <= 1e-2), np.isnan(p).all(1))
    if not good.all():
        at = int(good.argmin())
        what = "0 to 1 and sum to 1" if seen[at] else "NaN, as it was not observed"
        raise ArgumentError(
            f"probs: those of sample {first + at} in epoch {epoch} are {p[at].min()} to {p[at].max()}, "
            f"their sum {total[at]}; must be {what}"
        )
