"""Draw: what a sampler hands to a training loop or a loader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.checks import check_flag
from pyimportance.errors import ArgumentError
from pyimportance.score import inputs


@dataclass(frozen=True, eq=False, repr=False)
class Draw:
    """Samples to train on, in this order, and what each one's loss is to be multiplied with.

    ids      int64 [n] sample ids, those of the Scores drawn from; an id may be there twice where a method
             draws with replacement
    weights  float32 [n], finite and >= 0
    biased   False where the expected sum of weights * f over the ids is a fixed multiple of the sum of f over
             all samples, for every f: training minimises what it would without the sampler. True where the
             method means to change that

    The arrays are read-only. Raises ArgumentError where a field is not as described.
    """

    ids: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]
    biased: bool

    def __post_init__(self) -> None:
        ids = inputs.integers("ids", self.ids).view()
        weights = inputs.as_array("weights", self.weights)
        if weights.shape != ids.shape or weights.dtype.kind != "f":
            raise ArgumentError(
                f"weights: {weights.dtype} of shape {list(weights.shape)}; must be floats [{ids.size}], "
                "one for each id"
            )
        with np.errstate(over="ignore"):  # beyond float32 is infinite, which is refused
            weights = weights.astype(np.float32)
        if (wrong := ~(np.isfinite(weights) & (weights >= 0))).any():
            at = int(wrong.argmax())
            raise ArgumentError(f"weights: {weights[at]} for sample {ids[at]}; must be finite and >= 0")
        ids.flags.writeable = weights.flags.writeable = False
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "weights", weights)
        check_flag("biased", self.biased)

    @classmethod
    def plain(cls, ids: npt.NDArray[np.int64], *, biased: bool) -> Draw:
        """Every weight 1."""
        return cls(ids, np.ones(ids.size, np.float32), biased)

    @property
    def num_samples(self) -> int:
        """n, repeated ids counted as often as they are there."""
        return int(self.ids.size)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies are made anew, as read-only as this is."""
        return type(self), (self.ids, self.weights, self.biased)

    def __repr__(self) -> str:
        return f"Draw({self.num_samples} samples, biased={self.biased})"
