"""What an ensemble's members add up to: columns [N] and [N, C] in the memory of the host, or of a device.

p_sum        float64 [N, C]: sum of the members' probabilities
votes        uint16 [N, C]: members whose (first) largest class it is
entropy_sum  float64 [N]: sum of the members' entropies, nats
count        int32 [N]: members that spoke of the sample
wrong        int32 [N]: members that voted for another class than the target
seen         bool [N]: whether the member in progress has spoken of it
"""

from __future__ import annotations

import sys
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pyimportance import _C
from pyimportance.errors import ArgumentError
from pyimportance.score import inputs
from pyimportance.score.checkpoint import array_of, mapping_of
from pyimportance.score.engine import cuda, cuda_device
from pyimportance.score.predictions import Predictions, predictions
from pyimportance.threads import default_threads

Columns = dict[str, npt.NDArray[Any]]
_Array = npt.NDArray[Any]
_State = tuple[_Array, _Array, _Array, _Array, _Array, _Array]

WIDE = ("p_sum", "votes")  # [N, C]
DTYPES: dict[str, np.dtype[Any]] = {
    "p_sum": np.dtype(np.float64),
    "votes": np.dtype(np.uint16),
    "entropy_sum": np.dtype(np.float64),
    "count": np.dtype(np.int32),
    "wrong": np.dtype(np.int32),
    "seen": np.dtype(np.bool_),
}


class Sums(Protocol):
    """Where they are kept, and what is done with them there."""

    def add(self, ids: Any, logits: Any, probs: Any, targets: Any, temperature: Any) -> None:
        """As Ensemble.add (ids None) and add_batch."""

    def end_member(self) -> None:
        """Another member may speak of every sample."""

    def check(self) -> None:
        """ArgumentError if a row of an earlier batch was refused (once; it has been left out)."""

    def entropy_and_most_votes(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Of the mean probabilities, nats, NaN where nobody has spoken; and most votes for one class."""

    def mean_probs(self) -> npt.NDArray[np.float32]:
        """[N, C], NaN where nobody has spoken."""

    def column(self, name: str) -> npt.NDArray[Any]:
        """One of them, on the host, not to be changed."""

    def load(self, columns: Columns) -> None:
        """All of them anew. What is given is its own from here on."""


def make_sums(device: str, num_samples: int, num_classes: int) -> Sums:
    """Of nobody yet, on "cpu", "cuda" or "cuda:N". ArgumentError where there is no such device."""
    where = cuda_device(device)
    if where is None:
        return HostSums(num_samples, num_classes)
    from pyimportance.score.device_sums import DeviceSums

    return DeviceSums(num_samples, num_classes, where, cuda())


def zeros(num_samples: int, num_classes: int) -> Columns:
    """What nobody has added to."""
    shape = num_samples, num_classes
    return {name: np.zeros(shape if name in WIDE else shape[:1], dtype) for name, dtype in DTYPES.items()}


def unpack(saved: Any, num_samples: int, num_classes: int, members: int) -> Columns:
    """Columns by name as bytes, of so many members. ArgumentError, naming column and sample, where no members
    add up to them.
    """
    there = mapping_of("columns", saved)
    if there.keys() != DTYPES.keys():
        raise ArgumentError(f"state: columns {sorted(map(str, there))}; must be {', '.join(DTYPES)}")
    columns: Columns = {}
    for name, dtype in DTYPES.items():
        plain = np.dtype(np.uint8) if name == "seen" else dtype  # a bool of another byte is none
        size = num_samples * (num_classes if name in WIDE else 1)
        columns[name] = array_of(f"column {name}", there[name], plain, size)
    count = columns["count"]
    at_most = {"count": members, "wrong": count, "seen": 1, "entropy_sum": count * np.log(num_classes) + 1e-6}
    for name, most in at_most.items():
        _check(name, (columns[name] >= 0) & (columns[name] <= most), columns[name])
    for name in WIDE:
        columns[name] = columns[name].reshape(num_samples, num_classes)
    p_sum, total = columns["p_sum"], columns["p_sum"].sum(1)
    _check("p_sum", (p_sum.min(1) >= 0) & (np.abs(total - count) <= 1e-6 * count), total)
    votes = columns["votes"].sum(1, dtype=np.int64)
    _check("votes", votes == count, votes)
    return columns | {"seen": columns["seen"].view(np.bool_)}


def _check(name: str, good: npt.NDArray[np.bool_], values: npt.NDArray[Any]) -> None:
    if not good.all():
        at = int(good.argmin())
        raise ArgumentError(f"state: column {name}: {values[at]} for sample {at}, which no members add up to")


def sharpness(temperature: float) -> float:
    """By which logits are multiplied; finite."""
    return min(1 / temperature, sys.float_info.max)


class HostSums:
    """See Sums. What is wrong with a batch is raised at once, and nothing of it added."""

    def __init__(self, num_samples: int, num_classes: int) -> None:
        self._columns = zeros(num_samples, num_classes)

    def add(self, ids: Any, logits: Any, probs: Any, targets: Any, temperature: Any) -> None:
        samples, classes = self._columns["p_sum"].shape
        sample = None if ids is None else inputs.integers("ids", ids)
        rows = samples if sample is None else sample.size
        given: Predictions = predictions(logits, probs, (rows, classes), temperature=temperature)
        labels = None if targets is None else inputs.integers("targets", targets)
        if labels is not None and labels.size != rows:
            raise ArgumentError(f"targets: {labels.size} of them for {rows} rows")
        _C.ensemble_add(
            *self._state(),
            given.values,
            given.name == "probs",
            sharpness(given.temperature),
            sample,
            labels,
            default_threads(),
        )

    def _state(self) -> _State:
        c = self._columns
        return c["p_sum"], c["votes"], c["entropy_sum"], c["count"], c["wrong"], c["seen"]

    def end_member(self) -> None:
        self._columns["seen"].fill(False)

    def check(self) -> None:
        pass

    def entropy_and_most_votes(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        entropy = _C.ensemble_entropy(*self._state(), default_threads())
        return entropy, self._columns["votes"].max(1).astype(np.int64)

    def mean_probs(self) -> npt.NDArray[np.float32]:
        count = self._columns["count"][:, None]
        with np.errstate(invalid="ignore"):
            return np.divide(self._columns["p_sum"], count, dtype=np.float32, casting="same_kind")

    def column(self, name: str) -> npt.NDArray[Any]:
        return self._columns[name]

    def load(self, columns: Columns) -> None:
        self._columns = {name: columns[name] for name in DTYPES}
