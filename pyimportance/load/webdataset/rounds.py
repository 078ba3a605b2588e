"""Which samples make an iteration: a round (of all the data), several, or part of an endless row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyimportance.load.deal import Deal
from pyimportance.load.share import Share

Consumed = tuple[int, ...]


@dataclass
class Iteration:
    """What is being read: of ``epoch``, from ``consumed`` (samples per worker) on, and how far it got.

    pulled: samples that went into the stages, of those that fall to this process; outputs: what came out.
    """

    epoch: int
    consumed: Consumed
    pulled: int = 0
    outputs: int = 0
    over: bool = False


@dataclass(frozen=True)
class Rule:
    """rounds: in an iteration; None: without an end. outputs: at most, of each loader process.

    ratio: samples that make an output. unit: samples that make a batch of the training loop, which are dealt
    to loader processes as a whole.
    """

    rounds: int | None
    outputs: int | None
    ratio: int
    unit: int

    def begin(self, epoch: int, length: int, processes: int) -> tuple[int, int]:
        """(round, position in it) where an epoch begins: each goes on where the one before it ended."""
        if self.outputs is not None:
            return divmod(epoch * self.outputs * self.ratio * processes, max(1, length))
        return epoch * (self.rounds or 1), 0

    def dealt(self, position: NDArray[Any], processes: int) -> NDArray[Any]:
        """Which process reads each: whole batches in turn, and where an epoch is of so many outputs of each
        process, equally many of what is left at its end."""
        if self.outputs is not None:
            rounds, last = divmod(self.outputs * self.ratio, self.unit)
            if last:
                late = position - rounds * self.unit * processes
                return np.where(late < 0, position // self.unit, late // last) % processes
        dealt: NDArray[Any] = position // self.unit % processes
        return dealt

    def _falls_to(self, process: int, processes: int, base: int, number: NDArray[Any]) -> NDArray[np.bool_]:
        mine: NDArray[np.bool_] = self.dealt(base + number, processes) == process
        return mine

    def shares(
        self,
        at: Iteration,
        deal: Callable[[int, Consumed | None], Deal],
        rank: int,
        process: int,
        processes: int,
    ) -> Iterator[tuple[int, Share, bool]]:
        """(number of the round, what this process reads of it, whether that is from its beginning on), from
        where ``at`` got to on; rounds of which it reads nothing are not among them.

        deal: the Deal of a round, by its number, from a position on.
        """
        number, first = self.begin(at.epoch, int(deal(at.epoch, None).lengths[rank]), processes)
        consumed: Consumed | None = at.consumed
        skip, base, rest = at.pulled, 0, self.rounds  # base: samples of earlier rounds
        while rest is None or rest > 0:
            share = deal(number, consumed).share(rank).after(first)
            if not len(share) and not first:
                return
            part = share.where(partial(self._falls_to, process, processes, base))
            whole = not (first or skip or any(consumed or ()))
            left = part.after(skip)
            if left.is_empty:
                skip -= len(part)
            else:
                yield number, left, whole
                skip = 0
            base += len(share)
            number, consumed, first = number + 1, None, 0
            rest = None if rest is None else rest - 1
