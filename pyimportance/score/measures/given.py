"""Measures of what was recorded beside what is given: losses of the same samples from elsewhere.

Sources: Mindermann et al. 2022, Prioritized training on points that are learnable, worth learning, and not
yet learnt (RHO-LOSS). Li et al. 2023, From quantity to quality: boosting LLM performance with self-guided
data selection for instruction tuning (IFD).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError
from pyimportance.score import inputs
from pyimportance.score.dynamics import Dynamics
from pyimportance.score.measures import runs
from pyimportance.score.measures.registry import Array, builtin, flag
from pyimportance.score.values import Scores


def _losses(name: str, value: Any, num_samples: int) -> Array:
    losses = inputs.floats(name, value, (num_samples,)).astype(np.float64)
    if (infinite := np.isinf(losses)).any():
        at = int(infinite.argmax())
        raise ArgumentError(f"{name}: {losses[at]:g} of sample {at}; must be finite, or NaN where unknown")
    return losses


def _positive_losses(name: str, value: Any, num_samples: int) -> Array:
    losses = _losses(name, value, num_samples)
    if (wrong := losses <= 0).any():
        at = int(wrong.argmax())
        raise ArgumentError(f"{name}: {losses[at]:g} of sample {at}; a loss to divide by must be above 0")
    return losses


@builtin(
    "rho", high="worth learning", needs=("loss",), runs=runs.of_observations, irreducible=_losses, latest=flag
)
def rho(d: Dynamics, irreducible: Array, latest: bool = False) -> Array:
    """Mean loss, or the ``latest`` one, less the irreducible loss [N]: that of a model trained on other data
    (NaN where there is none, and then here). Mindermann et al. 2022.
    """
    return (d.latest("loss") if latest else d.mean("loss")) - irreducible


def _above_one(_: object, values: npt.NDArray[np.float32]) -> dict[str, str]:
    return {"above_one": str(np.count_nonzero(values > 1))}


@builtin(
    "ifd", high="hard", needs=("loss",), notes=_above_one, runs=runs.of_observations, alone=_positive_losses
)
def ifd(d: Dynamics, alone: Array) -> Array:
    """Instruction-following difficulty: the mean loss of an answer given its instruction, which is what was
    observed, by ``alone`` [N], the mean loss of the same answer without it (NaN where it is not known, and
    then here). Both are means over the answer's tokens.

    Above 1 the instruction does not help: such samples are suspect and left out in the paper. The scores'
    metadata counts them ("above_one"), `ifd_flagged` names them. Li et al. 2023.
    """
    return d.mean("loss") / alone


def ifd_flagged(scores: Scores) -> npt.NDArray[np.int64]:
    """Ids, int64 ascending, of samples whose IFD is above 1: the instruction makes the answer no likelier."""
    if scores.measure != "ifd":
        raise ArgumentError(f"scores: {scores!r}; must be Scores of the measure 'ifd'")
    return scores.sample_ids()[scores.values > 1]
