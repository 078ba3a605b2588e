"""Selective backprop: of every batch, train on what its loss, among the latest losses, makes likely.

Jiang et al. 2019, Accelerating deep learning by focusing on the biggest losers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.checks import check_integer, check_nonnegative
from pyimportance.errors import ArgumentError
from pyimportance.order.samplers.batches import batch, check_state
from pyimportance.order.samplers.chance import Chance
from pyimportance.order.samplers.draw import Draw

_FIELDS = {"losses": list, "step": int}


class SelectiveBackprop:
    """Keep a sample with probability CDF(loss) ** beta, CDF being that of the latest ``history`` losses.

    beta     >= 0; the mean of kept samples is about 1 / (beta + 1)
    history  losses that are remembered, >= 1
    seed     >= 0; batch number k is a function of the seed, k and the losses so far

    CDF(x) is the share of remembered losses <= x, those of the batch itself included (they enter first, as in
    the published code, which counts < x: there equal losses are never trained on). Biased; weights are 1.
    """

    def __init__(self, beta: float, *, history: int = 1024, seed: int = 0) -> None:
        self.beta = check_nonnegative("beta", beta)
        self.history = check_integer("history", history, 1)
        self._seed = check_integer("seed", seed, 0)
        self._losses, self._step = np.empty(0), 0

    def sample(self, ids: npt.ArrayLike, losses: npt.ArrayLike) -> Draw:
        """Those of the batch to train on, in its order; none is possible.

        ids     int64 [B]
        losses  floats [B], finite, of the forward pass just done
        """
        numbers, floats = batch("losses", ids, losses)
        self._losses = np.concatenate([self._losses, floats])[-self.history :]
        below = np.searchsorted(np.sort(self._losses), floats, side="right")
        likely = (below / max(self._losses.size, 1)) ** self.beta
        keep = Chance("selective", self._seed, self._step).uniforms(floats.size) < likely
        self._step += 1
        return Draw.plain(numbers[keep], biased=True)

    def state_dict(self) -> dict[str, Any]:
        """The remembered losses and the number of the batch, as plain values."""
        fields = {"losses": self._losses.tolist(), "step": self._step}
        return {"sampler": "SelectiveBackprop", "version": 1, **fields}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken. ArgumentError, changing nothing, where it does not fit."""
        check_state(saved, "SelectiveBackprop", _FIELDS)
        losses = saved["losses"]
        if not all(type(loss) is float and np.isfinite(loss) for loss in losses) or saved["step"] < 0:
            raise ArgumentError("state: losses must be finite numbers, step >= 0")
        if len(losses) > self.history:
            raise ArgumentError(f"state: {len(losses)} losses; this sampler remembers {self.history}")
        self._losses, self._step = np.array(losses, np.float64), saved["step"]
