"""Ensemble: what M models, given one at a time, agree and disagree on.

Sources: Lakshminarayanan et al. 2017, Simple and scalable predictive uncertainty estimation using deep
ensembles. Houlsby et al. 2011, Bayesian active learning for classification (the mutual information). Freeman
1965, Elementary applied statistics (the variation ratio). Chitta et al. 2019, Training data distribution
search with ensemble active learning (the error count). Members may be checkpoints of one run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance import _C
from pyimportance.checks import check_integer
from pyimportance.errors import ArgumentError
from pyimportance.score import inputs
from pyimportance.score.predictions import predictions
from pyimportance.score.values import Scores
from pyimportance.threads import default_threads

ENSEMBLE_MEASURES = ("ensemble_entropy", "mutual_information", "variation_ratio", "error_count")
_State = tuple[
    npt.NDArray[np.float64],
    npt.NDArray[np.uint16],
    npt.NDArray[np.float64],
    npt.NDArray[np.int32],
    npt.NDArray[np.int32],
    npt.NDArray[np.bool_],
]
_MOST_MEMBERS = 2**16 - 1  # votes are counted in 16 bits


class Ensemble:
    """Running statistics of an ensemble's predictions for N samples and C classes.

        ensemble = Ensemble(num_samples, num_classes)
        for checkpoint in checkpoints:
            ensemble.add(logits=predict(checkpoint))
        scores = ensemble.scores("mutual_information")

    num_samples  N; sample ids are 0..N-1
    num_classes  C

    A member is given whole (`add`), or as it is computed (`add_batch`, then `end_member`); a member need not
    have seen every sample (models of a cross-validation have not). Its predictions are given as one of

    logits       [N, C] or [B, C]: float32, float64, float16 or bfloat16, NumPy or torch, in any layout, used
                 where they lie (tensors on another device are copied to the host). -inf is a probability of 0
    probs        likewise, each row >= 0 and of sum 1, give or take 0.01; divided by its sum

    along with

    targets      [N] or [B] integers 0..C-1, with all members or with none: `error_count` needs them
    temperature  T > 0: the probabilities are softmax(logits / T) (`fit_temperature`)

    Sums are double; the result does not depend on the number of threads, nor on how a member is cut into
    batches. Memory: 10 bytes a sample and class, and 17 a sample, however many members; up to 65535 of them.
    Every method raises ArgumentError, naming argument, row and class, for what is not as described, and then
    has changed nothing. One thread at a time.
    """

    def __init__(self, num_samples: int, num_classes: int) -> None:
        N = check_integer("num_samples", num_samples, 1)
        C = check_integer("num_classes", num_classes, 1)
        self._p_sum = np.zeros((N, C))
        self._votes = np.zeros((N, C), np.uint16)
        self._entropy_sum = np.zeros(N)
        self._count = np.zeros(N, np.int32)
        self._wrong = np.zeros(N, np.int32)
        self._seen = np.zeros(N, np.bool_)  # by the member in progress
        self._open = False
        self._members = 0
        self._with_targets: bool | None = None  # None: nothing was given yet

    @classmethod
    def from_members(
        cls, *, logits: Any = None, probs: Any = None, targets: Any = None, temperature: float = 1.0
    ) -> Ensemble:
        """The ensemble of arrays [M, N, C], or of an iterable of M arrays [N, C], which may make them one by
        one.

        targets, temperature  as for `add`, the same for all members
        """
        if (logits is None) == (probs is None):
            raise ArgumentError("logits, probs: exactly one of the two must be given")
        name, members = ("logits", logits) if probs is None else ("probs", probs)
        ensemble: Ensemble | None = None
        for member in _each(name, members):
            if ensemble is None:
                shape = inputs.floats(name, member, ("N", "C"), bfloat16=True).shape
                ensemble = cls(*shape)
            ensemble.add(**{name: member}, targets=targets, temperature=temperature)
        if ensemble is None:
            raise ArgumentError(f"{name}: there must be at least one member")
        return ensemble

    @property
    def num_samples(self) -> int:
        """N."""
        return int(self._p_sum.shape[0])

    @property
    def num_classes(self) -> int:
        """C."""
        return int(self._p_sum.shape[1])

    @property
    def members(self) -> int:
        """M, the members complete so far."""
        return self._members

    def add(
        self, *, logits: Any = None, probs: Any = None, targets: Any = None, temperature: float = 1.0
    ) -> None:
        """Add a whole member: its predictions [N, C] for samples 0..N-1."""
        if self._open:
            raise ArgumentError("add: a member is in progress (add_batch); call end_member first")
        self._take(None, logits, probs, targets, temperature)
        self._members += 1

    def add_batch(
        self,
        ids: Any,
        *,
        logits: Any = None,
        probs: Any = None,
        targets: Any = None,
        temperature: float = 1.0,
    ) -> None:
        """Add some of a member: its predictions [B, C] for the samples ``ids``, integers [B].

        A sample may come once in a member. `end_member` completes it.
        """
        self._take(inputs.integers("ids", ids), logits, probs, targets, temperature)
        self._open = True

    def end_member(self) -> None:
        """Complete the member whose batches were added; the next batch begins another one."""
        if not self._open:
            raise ArgumentError("end_member: no member is in progress; call add_batch first")
        self._seen.fill(False)
        self._open = False
        self._members += 1

    def _take(
        self,
        ids: npt.NDArray[np.int64] | None,
        logits: Any,
        probs: Any,
        targets: Any,
        temperature: float,
    ) -> None:
        if self._members == _MOST_MEMBERS:
            raise ArgumentError(f"members: there are {_MOST_MEMBERS}, and no more can be counted")
        if self._with_targets not in (None, targets is not None):
            before, now = ("without", "with") if targets is not None else ("with", "without")
            raise ArgumentError(f"targets: given {now} them now, and {before} them before")
        rows = self.num_samples if ids is None else ids.size
        given = predictions(logits, probs, (rows, self.num_classes), temperature=temperature)
        classes = None if targets is None else inputs.integers("targets", targets)
        if classes is not None and classes.size != rows:
            raise ArgumentError(f"targets: {classes.size} of them for {rows} rows")
        _C.ensemble_add(
            *self._state(),
            given.values,
            given.name == "probs",
            min(1 / given.temperature, sys.float_info.max),
            ids,
            classes,
            default_threads(),
        )
        self._with_targets = targets is not None

    def _state(self) -> _State:
        return self._p_sum, self._votes, self._entropy_sum, self._count, self._wrong, self._seen

    def scores(self, measure: str) -> Scores:
        """One score per sample from the members that saw it; NaN where none did. High is the important end.

        measure  "ensemble_entropy"    H(pbar), pbar the members' mean probabilities; nats
                 "mutual_information"  H(pbar) - mean H(p_m), at least 0; nats
                 "variation_ratio"     1 - (most votes for one class) / members; the first of equal maxima
                                       has a member's vote
                 "error_count"         members whose vote is not the target
        """
        if measure not in ENSEMBLE_MEASURES:
            raise ArgumentError(f"measure={measure!r}: must be one of {', '.join(ENSEMBLE_MEASURES)}")
        self._complete("scores")
        if measure == "error_count" and not self._with_targets:
            raise ArgumentError("measure 'error_count' needs targets, which the members were given without")
        count = self._counted()
        values: npt.NDArray[np.float64]
        if measure == "error_count":
            values = np.where(count > 0, self._wrong, np.nan)
        elif measure == "variation_ratio":
            values = 1 - self._votes.max(1) / count
        else:
            values = _C.ensemble_entropy(*self._state(), default_threads())
            if measure == "mutual_information":  # at least 0; rounding can take it below
                values = np.maximum(values - self._entropy_sum / count, 0)
        return Scores(
            values=values.astype(np.float32), measure=measure, metadata={"members": str(self._members)}
        )

    def mean_probs(self) -> npt.NDArray[np.float32]:
        """pbar, float32 [N, C]; NaN where no member saw the sample."""
        self._complete("mean_probs")
        count = self._counted()[:, None]
        return np.divide(self._p_sum, count, dtype=np.float32, casting="same_kind")

    def _counted(self) -> npt.NDArray[np.float64]:
        """Members that saw a sample; NaN where none did."""
        return np.where(self._count > 0, self._count, np.nan)

    def _complete(self, name: str) -> None:
        if self._open:
            raise ArgumentError(f"{name}: a member is in progress; call end_member first")
        if self._members == 0:
            raise ArgumentError(f"{name}: no member was added")

    def __repr__(self) -> str:
        return f"Ensemble({self.num_samples} samples, {self.num_classes} classes, members={self._members})"


def _each(name: str, members: Any) -> Iterable[Any]:
    """The members of an array [M, N, C], or of an iterable."""
    if hasattr(members, "shape"):
        return inputs.floats(name, members, ("M", "N", "C"), bfloat16=True)
    if not isinstance(members, Iterable):
        raise ArgumentError(f"{name}: {type(members).__name__}; must be [M, N, C], or arrays [N, C]")
    return members
