"""Dynamics: what training showed about every sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError
from pyimportance.score import inputs, ranges, state
from pyimportance.score.engine import reduced
from pyimportance.score.history import NAMES, ArrayHistory, History

NOT_COLUMNS = ("epochs", "history", "keys", "classes")


@dataclass(frozen=True, eq=False, repr=False)
class Dynamics:
    """Running statistics of N samples over some epochs, from which every measure is computed.

    Arrays are [N] in the order of the sample ids, read-only, in double precision. Those of a quantity that
    was not recorded are None. A sample that was never observed has count 0 and zeros.

    epochs               how many epochs these numbers cover
    count                int32: observations of the sample, at most one an epoch
    weight, weight_sq    sums of the observations' weights and of their squares; None where all weigh 1
    loss_mean, loss_m2   mean loss in nats; (weighted) sum of squared deviations from it
    loss_last            the latest loss
    p_mean, p_m2         the same of p_y, the probability given to the target
    q_sum                sum of 1 - p_y, which has digits near p_y = 1 that p_y has not
    margin_sum           sum of z_y - max of the other logits; margin_last: the latest one
    el2n_sum             sum of ||p - onehot(y)||_2; el2n_last, float32: the latest one
    entropy_sum          sum of -sum p log p, in nats; entropy_last, float32: the latest one
    correct              int32: how often the target had the largest logit
    forgotten            int32: how often it had, and then had not at the next observation
    first_learned        int32: the first epoch in which it had, counted from 0; valid where correct > 0
    grand_sum            sum of ||p - onehot(y)||_2 sqrt(1 + ||h||^2), the norm of the loss's gradient with
                         respect to weights and bias of the last layer, whose input is h
    history              every epoch's numbers, where they were kept
    keys                 N strings, the samples' own names, where they are known
    classes              how many classes every row of logits had, where there were logits, all of as many

    Raises ArgumentError where an array is not as described, or holds what no training leaves behind.
    """

    epochs: int
    count: npt.NDArray[np.int32]
    weight: npt.NDArray[np.float64] | None = None
    weight_sq: npt.NDArray[np.float64] | None = None
    loss_mean: npt.NDArray[np.float64] | None = None
    loss_m2: npt.NDArray[np.float64] | None = None
    loss_last: npt.NDArray[np.float64] | None = None
    p_mean: npt.NDArray[np.float64] | None = None
    p_m2: npt.NDArray[np.float64] | None = None
    q_sum: npt.NDArray[np.float64] | None = None
    margin_sum: npt.NDArray[np.float64] | None = None
    margin_last: npt.NDArray[np.float64] | None = None
    el2n_sum: npt.NDArray[np.float64] | None = None
    el2n_last: npt.NDArray[np.float32] | None = None
    entropy_sum: npt.NDArray[np.float64] | None = None
    entropy_last: npt.NDArray[np.float32] | None = None
    correct: npt.NDArray[np.int32] | None = None
    forgotten: npt.NDArray[np.int32] | None = None
    first_learned: npt.NDArray[np.int32] | None = None
    grand_sum: npt.NDArray[np.float64] | None = None
    history: History | None = None
    keys: tuple[str, ...] | None = None
    classes: int | None = None

    def __post_init__(self) -> None:
        shape = inputs.as_array("count", self.count).shape
        columns: dict[str, npt.NDArray[Any]] = {}
        for field in fields(self):
            if field.name in NOT_COLUMNS or getattr(self, field.name) is None:
                continue
            array = inputs.as_array(field.name, getattr(self, field.name))
            wanted = state.DTYPES[field.name]
            if array.dtype != wanted or array.ndim != 1 or array.shape != shape:
                raise ArgumentError(
                    f"{field.name}: {array.dtype} of shape {list(array.shape)}; "
                    f"must be {wanted} {list(shape)}"
                )
            view = array.view()
            view.flags.writeable = False
            object.__setattr__(self, field.name, view)
            columns[field.name] = view
        if (self.weight is None) != (self.weight_sq is None):
            raise ArgumentError("weight and weight_sq: one is missing")
        for names in state.QUANTITIES.values():
            there = [getattr(self, name) is not None for name in names if name != "ends"]
            if any(there) != all(there):
                raise ArgumentError(f"{', '.join(n for n in names if n != 'ends')}: some are missing")
        if self.keys is not None and (
            len(self.keys) != shape[0] or any(type(key) is not str for key in self.keys)
        ):
            raise ArgumentError(f"keys: {len(self.keys)} of them; must be {shape[0]} strings")
        if self.classes is not None and (type(self.classes) is not int or self.classes < 1):
            raise ArgumentError(f"classes={self.classes!r}: must be an integer of at least 1, or None")
        ranges.check(self.epochs, columns)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies are made anew, so that they are as read-only and as checked as this is."""
        return type(self), tuple(getattr(self, field.name) for field in fields(self))

    @property
    def num_samples(self) -> int:
        """N."""
        return int(self.count.size)

    @property
    def quantities(self) -> tuple[str, ...]:
        """What was recorded, of "loss", "p_true", "margin", "el2n", "entropy", "correct" and "grand"."""
        return tuple(
            q for q, names in state.QUANTITIES.items() if getattr(self, next(iter(names))) is not None
        )

    @property
    def observations(self) -> npt.NDArray[np.float64]:
        """float64 [N]: E, the observations of each sample; NaN where there are none.

        Where some weigh less than others, as many as would be as good (Kish 1965): (sum w)^2 / sum w^2.
        """
        weight, weight_sq = self._weights()
        return weight * weight / weight_sq

    def mean(self, quantity: str) -> npt.NDArray[np.float64]:
        """float64 [N]: the mean over the observations of "loss", "p_true", "p_false" (1 - p_true, without the
        cancellation), "margin", "el2n", "entropy", "grand"; NaN where there are none.
        """
        name = _one_of("quantity", quantity, _MEANS)
        column = self._column(name)
        if name.endswith("_mean"):
            return np.where(self.count > 0, column, np.nan)
        return column / self._weights()[0]

    def variance(self, quantity: str, ddof: int) -> npt.NDArray[np.float64]:
        """float64 [N]: the variance of "loss" or "p_true", divisor E - ddof (0 or 1); NaN where E <= ddof."""
        m2 = self._column(_one_of("quantity", quantity, _VARIANCES))
        _one_of("ddof", ddof, {0: "", 1: ""})
        weight, weight_sq = self._weights()
        divisor = weight - weight_sq / weight if ddof else weight
        return m2 / np.where(self.count > ddof, divisor, np.nan)

    def latest(self, quantity: str) -> npt.NDArray[np.float64]:
        """float64 [N]: the latest observation's "loss" and "margin", "el2n" and "entropy" as
        recorded in float32, and, made of the first two, "p_true" and "prob_margin" (p_true less the largest
        probability of another class), as exact as the two are; NaN where there is none.
        """
        _one_of("quantity", quantity, dict.fromkeys(_LATEST, ""))
        if quantity == "p_true":
            p: npt.NDArray[np.float64] = np.exp(-self.latest("loss"))
            return p
        if quantity == "prob_margin":
            loss, margin = self.latest("loss"), self.latest("margin")
            top = np.exp(-np.maximum(loss + np.minimum(margin, 0.0), 0.0))  # the larger of the two
            gap: npt.NDArray[np.float64] = np.copysign(-np.expm1(-np.abs(margin)) * top, margin)
            return gap
        return np.where(self.count > 0, self._column(f"{quantity}_last"), np.nan)

    def _column(self, name: str) -> npt.NDArray[np.floating[Any]]:
        column: npt.NDArray[np.floating[Any]] | None = getattr(self, name)
        if column is None:
            raise ArgumentError(f"{name} was not recorded; recorded are {', '.join(self.quantities)}")
        return column

    def _weights(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        weight = self.count.astype(np.float64) if self.weight is None else self.weight
        weight_sq = weight if self.weight_sq is None else self.weight_sq
        return np.where(self.count > 0, weight, np.nan), weight_sq

    @classmethod
    def from_history(
        cls,
        *,
        loss: npt.ArrayLike | None = None,
        p_true: npt.ArrayLike | None = None,
        correct: npt.ArrayLike | None = None,
        margin: npt.ArrayLike | None = None,
        el2n: npt.ArrayLike | None = None,
        entropy: npt.ArrayLike | None = None,
        grand: npt.ArrayLike | None = None,
        probs: npt.ArrayLike | None = None,
    ) -> Dynamics:
        """Dynamics of numbers recorded elsewhere, each [E, N] in the order of the epochs; at least one of
        them.

        NaN marks what was not observed, in all floating-point arrays alike; an array of bools or integers
        (for ``correct``, 0 or 1) has none to say. They are kept, uncopied, as the result's ``history``.
        Arrays of float32 and float64 (and bools for ``correct``) whose samples are adjacent in memory are
        read where they lie, mapped files among them; others are converted a part at a time. Tensors on a CUDA
        device are reduced there; their history is a copy on the host.
        ``probs`` [E, N, C], floating point, of every class, NaN where not observed: what measures of whole
        distributions need besides one of the others. They are looked at when such a measure is asked for.
        Raises ArgumentError where shapes or unobserved entries differ, or a number is infinite that must not
        be.
        """
        given = (loss, p_true, correct, margin, el2n, entropy, grand)
        arrays, columns = reduced({n: a for n, a in zip(NAMES, given, strict=True) if a is not None})
        shape = next(iter(arrays.values())).shape
        probabilities = None if probs is None else inputs.floats("probs", probs, (*shape, "C"))
        if probabilities is not None and probabilities.shape[2] == 0:
            raise ArgumentError(f"probs: shape {list(probabilities.shape)}; there must be at least one class")
        classes = None if probabilities is None else int(probabilities.shape[2])
        return cls(
            epochs=shape[0],
            history=ArrayHistory(arrays, probabilities),
            keys=None,
            classes=classes,
            **columns,
        )

    @classmethod
    def from_cartography(cls, folder: str | PathLike[str]) -> Dynamics:
        """Dynamics of a folder that dataset cartography's code has logged, with its history.

        ``folder`` holds dynamics_epoch_0.jsonl, dynamics_epoch_1.jsonl, ... (or a folder training_dynamics
        that does), whose lines are {"guid": ..., "logits_epoch_0": [...], "gold": ...}. Sample ids are given
        in the order in which guids first appear; the guids are the result's ``keys``. An epoch may leave out
        guids; one that has one twice counts the first. Epochs may start above 0, which the first then is.
        Raises DataError, naming file and line, where there is anything else, or an epoch in between is
        missing.
        """
        from pyimportance.score.cartography import from_cartography

        return from_cartography(folder)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the statistics (all but the history) as .npz, whole or not at all. OutputError where they
        cannot be.
        """
        from pyimportance.score.archive import save_dynamics

        save_dynamics(self, path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Dynamics:
        """Read what ``save`` wrote. DataError, naming file and member, where it is anything else."""
        from pyimportance.score.archive import load_dynamics

        return load_dynamics(path)

    def __repr__(self) -> str:
        seen = int(np.count_nonzero(self.count))
        return (
            f"Dynamics({self.num_samples} samples, {seen} observed, epochs={self.epochs}, "
            f"quantities={'+'.join(self.quantities)})"
        )


# Which column a mean, and which a variance, is made of.
_MEANS = {
    "loss": "loss_mean",
    "p_true": "p_mean",
    "p_false": "q_sum",
    "margin": "margin_sum",
    "el2n": "el2n_sum",
    "entropy": "entropy_sum",
    "grand": "grand_sum",
}
_LATEST = ("loss", "p_true", "margin", "prob_margin", "el2n", "entropy")
_VARIANCES = {"loss": "loss_m2", "p_true": "p_m2"}


def _one_of(name: str, value: Any, table: Mapping[Any, str]) -> str:
    if not isinstance(value, (str, int)) or isinstance(value, bool) or value not in table:
        raise ArgumentError(f"{name}={value!r}: must be one of {', '.join(map(repr, table))}")
    return table[value]
