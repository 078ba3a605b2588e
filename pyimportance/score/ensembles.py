"""Ensemble: what M models, given one at a time, agree and disagree on.

Sources: Lakshminarayanan et al. 2017, Simple and scalable predictive uncertainty estimation using deep
ensembles. Houlsby et al. 2011, Bayesian active learning for classification (the mutual information). Freeman
1965, Elementary applied statistics (the variation ratio). Chitta et al. 2019, Training data distribution
search with ensemble active learning (the error count). Members may be checkpoints of one run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.checks import check_integer
from pyimportance.errors import ArgumentError
from pyimportance.score import inputs, sums
from pyimportance.score.checkpoint import check_version, count_of
from pyimportance.score.sums import make_sums
from pyimportance.score.values import Scores

ENSEMBLE_MEASURES = ("ensemble_entropy", "mutual_information", "variation_ratio", "error_count")
_MOST_MEMBERS = 2**16 - 1  # votes are counted in 16 bits
_VERSION = 1  # of the state dict
_FIELDS = ("num_samples", "num_classes", "members", "open", "with_targets", "columns")


class Ensemble:
    """Running statistics of an ensemble's predictions for N samples and C classes.

        ensemble = Ensemble(num_samples, num_classes)
        for checkpoint in checkpoints:
            ensemble.add(logits=predict(checkpoint))
        scores = ensemble.scores("mutual_information")

    num_samples  N; sample ids are 0..N-1
    num_classes  C
    device       where the sums live: "cpu", "cuda" or "cuda:N". On a device, where members are then best,
                 too, adding waits for nothing; what is wrong with a row is raised by what next reads the
                 sums (scores, mean_probs, state_dict, merge). It is left out, the others are added

    A member is given whole (`add`), or as it is computed (`add_batch`, then `end_member`); a member need not
    have seen every sample (models of a cross-validation have not). Its predictions are given as one of

    logits       [N, C] or [B, C]: float32, float64, float16 or bfloat16, NumPy or torch, in any layout (on a
                 device copied, unless the classes of a row are adjacent), used where they lie. Tensors
                 elsewhere are copied to the sums' device. -inf is a probability of 0
    probs        likewise, each row >= 0 and of sum 1, give or take 0.01; divided by its sum

    along with

    targets      [N] or [B] integers 0..C-1, with all members or with none: `error_count` needs them
    temperature  T > 0: the probabilities are softmax(logits / T) (`fit_temperature`)

    Sums are double; the result does not depend on the number of threads, nor on how a member is cut into
    batches. Memory: 10 bytes a sample and class, and 17 a sample (on a device 20), however many members; up
    to 65535 of them. Every method raises ArgumentError, naming argument, row and class, for what is not as
    described, and then has changed nothing (on a device: see there). One thread at a time.
    """

    def __init__(self, num_samples: int, num_classes: int, *, device: str = "cpu") -> None:
        self._shape = (
            check_integer("num_samples", num_samples, 1),
            check_integer("num_classes", num_classes, 1),
        )
        self._sums = make_sums(device, *self._shape)
        self._open = False
        self._members = 0
        self._with_targets: bool | None = None  # None: nothing was given yet

    @classmethod
    def from_members(
        cls,
        *,
        logits: Any = None,
        probs: Any = None,
        targets: Any = None,
        temperature: float = 1.0,
        device: str = "cpu",
    ) -> Ensemble:
        """The ensemble of arrays [M, N, C], or of an iterable of M arrays [N, C], which may make them one by
        one.

        targets, temperature  as for `add`, the same for all members
        device                where the sums live
        """
        if (logits is None) == (probs is None):
            raise ArgumentError("logits, probs: exactly one of the two must be given")
        name, members = ("logits", logits) if probs is None else ("probs", probs)
        ensemble: Ensemble | None = None
        for member in _each(name, members):
            if ensemble is None:
                ensemble = cls(*_shape_of(name, member, ("N", "C")), device=device)
            ensemble.add(**{name: member}, targets=targets, temperature=temperature)
        if ensemble is None:
            raise ArgumentError(f"{name}: there must be at least one member")
        return ensemble

    @property
    def num_samples(self) -> int:
        """N."""
        return self._shape[0]

    @property
    def num_classes(self) -> int:
        """C."""
        return self._shape[1]

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

        A sample may come once in a member. `end_member` completes it. On a device a call can be captured in a
        CUDA graph, once one like it, of any ensemble, had a row outside of it, which loads the kernels; the
        replays are of the member that calls outside of it have begun (one without rows does).
        """
        self._take(ids, logits, probs, targets, temperature)
        self._open = True

    def end_member(self) -> None:
        """Complete the member whose batches were added; the next batch begins another one."""
        if not self._open:
            raise ArgumentError("end_member: no member is in progress; call add_batch first")
        self._sums.end_member()
        self._open = False
        self._members += 1

    def _take(self, ids: Any, logits: Any, probs: Any, targets: Any, temperature: float) -> None:
        if self._members == _MOST_MEMBERS:
            raise ArgumentError(f"members: there are {_MOST_MEMBERS}, and no more can be counted")
        if self._with_targets not in (None, targets is not None):
            before, now = ("without", "with") if targets is not None else ("with", "without")
            raise ArgumentError(f"targets: given {now} them now, and {before} them before")
        self._sums.add(ids, logits, probs, targets, temperature)
        self._with_targets = targets is not None

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
            values = np.where(count > 0, self._sums.column("wrong"), np.nan)
        else:
            entropy, most_votes = self._sums.entropy_and_most_votes()
            values = 1 - most_votes / count if measure == "variation_ratio" else entropy
            if measure == "mutual_information":  # at least 0; rounding can take it below
                values = np.maximum(entropy - self._sums.column("entropy_sum") / count, 0)
        return Scores(
            values=values.astype(np.float32), measure=measure, metadata={"members": str(self._members)}
        )

    def mean_probs(self) -> npt.NDArray[np.float32]:
        """pbar, float32 [N, C]; NaN where no member saw the sample."""
        self._complete("mean_probs")
        return self._sums.mean_probs()

    def merge(self, other: Ensemble) -> None:
        """Take in the members of ``other``, of the same samples and classes; it stays as it is.

        The result is that of one ensemble that was given this one's members, then the other's, but for the
        rounding of the sums in double; of samples that only one of the two has seen it is that bit for bit.
        Raises ArgumentError where a member is in progress, and where the two do not fit together.
        """
        if self._open or other._open:
            raise ArgumentError("merge: a member is in progress; call end_member first")
        if self._shape != other._shape:
            raise ArgumentError(
                f"merge: [N, C] is {list(self._shape)} here, {list(other._shape)} in the other"
            )
        if {self._with_targets, other._with_targets} == {True, False}:
            raise ArgumentError("merge: one was given targets, the other was not")
        members = self._members + other._members
        if members > _MOST_MEMBERS:
            raise ArgumentError(f"merge: {members} members; at most {_MOST_MEMBERS} can be counted")
        self._sums.check()
        other._sums.check()
        both = {name: self._sums.column(name) + other._sums.column(name) for name in sums.DTYPES}
        self._sums.load(both)
        self._members = members
        self._with_targets = other._with_targets if self._with_targets is None else self._with_targets

    def state_dict(self) -> dict[str, Any]:
        """Everything, the member in progress included, as a dict of plain values and bytes, which pickle, and
        torch.load with weights_only=True, read. It does not say on which device it was.
        """
        self._sums.check()
        return {
            "version": _VERSION,
            "num_samples": self.num_samples,
            "num_classes": self.num_classes,
            "members": self._members,
            "open": self._open,
            "with_targets": self._with_targets,
            "columns": {name: self._sums.column(name).tobytes() for name in sums.DTYPES},
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken. ArgumentError, changing nothing, where it does not fit."""
        check_version(saved, _VERSION)
        if missing := [name for name in _FIELDS if name not in saved]:
            raise ArgumentError(f"state: {', '.join(missing)} missing")
        shape = saved["num_samples"], saved["num_classes"]
        if shape != self._shape:
            raise ArgumentError(f"state of [N, C] = {list(shape)} for an ensemble of {list(self._shape)}")
        members = count_of(saved, "members")
        if members > _MOST_MEMBERS:
            raise ArgumentError(f"state: members={members}; must be at most {_MOST_MEMBERS}")
        if type(saved["open"]) is not bool or saved["with_targets"] not in (None, False, True):
            raise ArgumentError(f"state: open={saved['open']!r}, with_targets={saved['with_targets']!r}")
        columns = sums.unpack(saved["columns"], *self._shape, members + saved["open"])
        self._sums.load(columns)
        self._members, self._open, self._with_targets = members, saved["open"], saved["with_targets"]

    def _counted(self) -> npt.NDArray[np.float64]:
        """Members that saw a sample; NaN where none did."""
        count = self._sums.column("count")
        return np.where(count > 0, count, np.nan)

    def _complete(self, name: str) -> None:
        if self._open:
            raise ArgumentError(f"{name}: a member is in progress; call end_member first")
        if self._members == 0:
            raise ArgumentError(f"{name}: no member was added")
        self._sums.check()

    def __repr__(self) -> str:
        return f"Ensemble({self.num_samples} samples, {self.num_classes} classes, members={self._members})"


def _each(name: str, members: Any) -> Iterable[Any]:
    """The members of an array [M, N, C], or of an iterable."""
    if hasattr(members, "shape"):
        _shape_of(name, members, ("M", "N", "C"))
        return members if hasattr(members, "detach") else inputs.as_array(name, members, bfloat16=True)
    if not isinstance(members, Iterable):
        raise ArgumentError(f"{name}: {type(members).__name__}; must be [M, N, C], or arrays [N, C]")
    return members


def _shape_of(name: str, member: Any, shape: tuple[str, ...]) -> tuple[int, ...]:
    """Its own; ArgumentError where it is not floating point of such a shape. A tensor stays where it is."""
    if hasattr(member, "detach") and member.is_floating_point() and member.ndim == len(shape):
        return tuple(member.shape)
    return inputs.floats(name, member, shape, bfloat16=True).shape
