"""Logits in, one importance score per sample out.

values.py       Scores: one score per sample, which end of it is important (frozen)
parquet.py      a Scores on disk
dynamics.py     Dynamics: what training showed about every sample (frozen); from_history: arrays -> Dynamics
ranges.py       what the columns of a Dynamics can hold
arrays.py       a history given as plain arrays: what it may hold, and the columns it comes to
cartography.py  training dynamics as dataset cartography logs them
archive.py      a Dynamics on disk
measures/       measures(), and score: Dynamics -> Scores, one short expression per measure
tracker.py      Tracker: observes batches, folds epochs into running state, yields Dynamics
state.py        the columns of that state: which there are, how two of them merge and fade
checkpoint.py   a tracker's state dict: plain values, checked before they are used
history.py      every epoch's rows, kept in memory or in a directory
exchange.py     the rows of an epoch handed round between the ranks of torch.distributed
host.py, device.py, tensors.py  a tracker's state on the host, and on a CUDA device; arguments there
ensembles.py    Ensemble: members, one at a time -> what they disagree on
sums.py, device_sums.py  what members add up to, on the host, and on a CUDA device
calibration.py  the temperature of logits; how far confidence is from accuracy
labels.py       label quality of given out-of-sample predictions
uncertainty.py  what evidential, distance-, depth- and dropout-based models report
predictions.py  logits or probabilities as arguments, and their probabilities in float64, block by block
inputs.py       NumPy or torch arguments as the arrays the native code takes
engine.py       the one place that chooses between the native code for CPU and for CUDA
reference.py    the slow float64 NumPy oracle the tests compare with
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyimportance.score.dynamics import Dynamics
    from pyimportance.score.values import Scores


class _Verb(ModuleType):
    """This folder bears the name of its verb: ``pyimportance.score(dynamics, ...)`` is measures.score."""

    def __call__(
        self, dynamics: Dynamics | Sequence[Dynamics], measure: str = "loss_mean", **options: Any
    ) -> Scores:
        from pyimportance.score.measures import score

        return score(dynamics, measure, **options)


sys.modules[__name__].__class__ = _Verb
