"""Every epoch's rows, for measures that look at how a sample's numbers went, not only at what they came
to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pyimportance import _C
from pyimportance.errors import ArgumentError

ROW = _C.row_dtype
UNSEEN, CORRECT = 0, 2  # codes of a row (csrc/observe/row.h)

Rows = npt.NDArray[np.void]
LINE = 64  # bytes of a processor's cache
ALL = slice(None)
NAMES = ("loss", "p_true", "correct", "margin", "el2n", "entropy", "grand")


def blank_rows(num_samples: int) -> Rows:
    """Rows [N] of samples not yet seen, each within a line of the cache: an array that NumPy places begins a
    quarter of one late, and every second row would lie on two.
    """
    size = num_samples * ROW.itemsize
    memory = np.zeros(size + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + size].view(ROW)


class History(Protocol):
    """What each epoch showed. Arrays are [E, N] in the order of the epochs; NaN: not observed."""

    @property
    def epochs(self) -> int:
        """E."""

    @property
    def seen(self) -> npt.NDArray[np.bool_]:
        """bool [E, N]: whether the sample was observed in the epoch."""

    def seen_in(self, epoch: int, samples: slice) -> npt.NDArray[np.bool_]:
        """bool [n]: whether some samples were observed in one of the epochs."""

    @property
    def quantities(self) -> tuple[str, ...]:
        """What was recorded, by the names that `array` takes."""

    @property
    def probabilities(self) -> npt.NDArray[np.floating[Any]] | None:
        """Floating point [E, N, C]: of every class, as they were given; None where they were not."""

    def array(
        self, name: str, samples: slice = ALL, epochs: Sequence[int] | None = None
    ) -> npt.NDArray[np.float64]:
        """float64 [E, N]: "loss" (nats), "p_true", "correct" (0 or 1), "margin", "el2n", "entropy" (nats)
        or "grand"; of some samples, of some epochs, whose numbers alone are then read.

        ArgumentError for a name that was not recorded.
        """


class RowHistory:
    """A history of recorded rows, each epoch read when it is asked for."""

    def __init__(self, store: RowStore, epochs: Sequence[int], quantities: tuple[str, ...]) -> None:
        self._store, self._epochs, self._quantities = store, tuple(epochs), quantities

    @property
    def epochs(self) -> int:
        return len(self._epochs)

    @property
    def quantities(self) -> tuple[str, ...]:
        return self._quantities

    def rows(self, index: int) -> Rows:
        """The rows [N] of one epoch, as recorded (read-only): fields loss, margin, el2n, entropy, code,
        grand.
        """
        rows = self._store.read(self._epochs[index]).view()
        rows.flags.writeable = False
        return rows

    @property
    def seen(self) -> npt.NDArray[np.bool_]:
        return np.stack([self.seen_in(e, ALL) for e in range(self.epochs)])

    def seen_in(self, epoch: int, samples: slice) -> npt.NDArray[np.bool_]:
        there: npt.NDArray[np.bool_] = self.rows(epoch)[samples]["code"] != UNSEEN
        return there

    @property
    def probabilities(self) -> None:
        return None

    def array(
        self, name: str, samples: slice = ALL, epochs: Sequence[int] | None = None
    ) -> npt.NDArray[np.float64]:
        _check_name(name, self._quantities)
        chosen = range(self.epochs) if epochs is None else epochs
        return np.stack([self._one(self.rows(e)[samples], name) for e in chosen])

    @staticmethod
    def _one(rows: Rows, name: str) -> npt.NDArray[np.float64]:
        if name == "p_true":
            values: npt.NDArray[np.float64] = np.exp(-rows["loss"])
        elif name == "correct":
            values = (rows["code"] == CORRECT).astype(np.float64)
        else:
            values = rows[name].astype(np.float64)
        values[rows["code"] == UNSEEN] = np.nan
        return values


class ArrayHistory:
    """A history of plain arrays [E, N], and perhaps of probabilities [E, N, C]."""

    def __init__(
        self, arrays: Mapping[str, npt.NDArray[Any]], probs: npt.NDArray[np.floating[Any]] | None = None
    ) -> None:
        self._arrays, self.probabilities = dict(arrays), probs
        self._shape = next(iter(self._arrays.values())).shape

    @property
    def epochs(self) -> int:
        return int(self._shape[0])

    @property
    def quantities(self) -> tuple[str, ...]:
        return tuple(self._arrays)

    @property
    def seen(self) -> npt.NDArray[np.bool_]:
        return observed(self._arrays, ALL)

    def seen_in(self, epoch: int, samples: slice) -> npt.NDArray[np.bool_]:
        one = {name: array[epoch : epoch + 1] for name, array in self._arrays.items()}
        there: npt.NDArray[np.bool_] = observed(one, samples)[0]
        return there

    def array(
        self, name: str, samples: slice = ALL, epochs: Sequence[int] | None = None
    ) -> npt.NDArray[np.float64]:
        _check_name(name, self.quantities)
        chosen: slice | list[int] = ALL if epochs is None else list(epochs)
        values = self._arrays[name][chosen, samples].astype(np.float64)
        if self._arrays[name].dtype.kind != "f":
            values[~observed({key: array[chosen] for key, array in self._arrays.items()}, samples)] = np.nan
        return values


def observed(arrays: Mapping[str, npt.NDArray[Any]], samples: slice) -> npt.NDArray[np.bool_]:
    """bool [E, n]: where arrays [E, N] hold an observation of some samples; everywhere, unless one of them
    has NaNs to say otherwise.
    """
    for array in arrays.values():
        if array.dtype.kind == "f":
            there: npt.NDArray[np.bool_] = ~np.isnan(array[:, samples])
            return there
    return np.ones(next(iter(arrays.values()))[:, samples].shape, dtype=np.bool_)


def mean_over(history: History, name: str, epochs: Sequence[int]) -> npt.NDArray[np.float64]:
    """float64 [N]: the mean of a quantity over the observations in some epochs, read one by one; NaN where
    there are none. ArgumentError for an epoch that the history has not.
    """
    if max(epochs) >= history.epochs:
        raise ArgumentError(f"epochs: {max(epochs)}; the history has {history.epochs}, counted from 0")
    total: npt.NDArray[np.float64] | float = 0.0
    count: npt.NDArray[np.int64] | int = 0
    for epoch in epochs:
        values = history.array(name, epochs=[epoch])[0]
        seen = ~np.isnan(values)
        total, count = total + np.where(seen, values, 0.0), count + seen
    return total / np.where(np.asarray(count) > 0, count, np.nan)


def _check_name(name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise ArgumentError(f"history has no {name!r}; there are {', '.join(known)}")


class RowStore(Protocol):
    """Where a tracker keeps the rows of its epochs."""

    def epochs(self) -> list[int]: ...
    def read(self, epoch: int) -> Rows: ...
    def write(self, epoch: int, rows: Rows) -> None: ...
