"""Resuming: where a pipeline is, and how it goes on from there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.utils.data

from pyimportance.checks import check_integer
from pyimportance.errors import ArgumentError
from pyimportance.load.dataset import ImportanceDataset
from pyimportance.load.deal import Deal
from pyimportance.load.state import check_consumed
from pyimportance.load.webdataset.pipeline import Pipeline
from pyimportance.load.webdataset.rounds import Iteration
from pyimportance.load.webdataset.turns import Turns


class Resuming(ImportanceDataset):
    """Of a `WebDataset`, which has all this."""

    _pipeline: Pipeline
    _turns: Turns
    _at: Iteration | None
    _loaded: Iteration | None
    _rounds: int | None

    @property
    def _unit(self) -> int:
        """Samples that make a batch of the training loop, dealt to loader processes as a whole."""
        return self._pipeline.ratio * (self.batch_size or 1)

    def _round(self, number: int, consumed: tuple[int, ...] | None) -> Deal:
        raise NotImplementedError

    def _from_turn(self, turn: int) -> Iteration:
        epoch = self._told.epoch + turn
        if turn == 0 and any(self._told.consumed):
            return Iteration(epoch, self._told.consumed)
        return Iteration(epoch, (0,) * self._source.workers)

    def state_dict(self, *, batches: int | None = None, epoch: int | None = None) -> dict[str, Any]:
        """The position, as `ImportanceDataset.state_dict` gives it: which samples went into the pipeline.

        batches: how many the training loop has consumed of the current iteration; counted here without loader
        processes. An iteration that is over is the beginning of the next epoch. In a loader process it is of
        that process alone, for StatefulDataLoader, which knows what stages left out.
        Raises ArgumentError where a stage cannot go on from a position (a shuffle after `batched`,
        `unbatched`, `rsample`, `slice`, `compose`); with `with_epoch` and `repeat`, outside of
        StatefulDataLoader; and for ``batches`` where stages leave samples out.
        """
        if (stage := self._pipeline.inexact) is not None:
            raise ArgumentError(
                f"state_dict: .{stage.name}() remembers samples, or gives them bit by bit, and so cannot go "
                "on in the middle of an epoch; shuffle before batched(), and do the others in the training "
                "loop"
            )
        at = self._at
        if (info := torch.utils.data.get_worker_info()) is not None:
            at = self._loaded or at or self._from_turn(0)
            state = self._state_here(info, at.epoch, list(at.consumed), at.pulled)
            return {**state, "outputs": at.outputs}
        if epoch is not None:
            return super().state_dict(batches=batches, epoch=epoch)
        if self._rounds != 1:
            raise ArgumentError(
                "state_dict: epochs of with_epoch() and repeat() resume in torchdata's StatefulDataLoader "
                "with loader processes; elsewhere between epochs, state_dict(epoch=)"
            )
        turn, processes = self._turns.latest(self._told.serial)
        if turn < 0:
            check_consumed(check_integer("batches", batches or 0, 0), begun=False)
            return self._state(self._told.epoch, list(self._told.consumed))
        begin = self._told.consumed if turn == 0 else (0,) * self._source.workers
        now = self._told.epoch + turn
        deal = self._round(now, begin)
        length = int(deal.lengths[self.rank])
        if batches is not None:
            pulled = self._counted(check_integer("batches", batches, 0), length)
            over = pulled >= length
            check_consumed(batches, begun=True, in_order=over or self._shared.in_order(self._told.serial))
        elif processes or at is None:
            raise ArgumentError(
                "state_dict: loader processes read ahead of the training loop; say how many batches it "
                "consumed, state_dict(batches=n)"
            )
        else:
            pulled, over = at.pulled, at.over
        if over:
            return self._state(now + 1, [0] * self._source.workers)
        return self._state(now, deal.after(pulled, self.rank).tolist() if pulled else list(begin))

    def _counted(self, batches: int, length: int) -> int:
        """The samples in so many batches of the training loop."""
        if not self._pipeline.is_counted or self._turns.uneven:
            raise ArgumentError(
                "state_dict: stages left samples out, so that batches do not tell how many were read; "
                "torchdata's StatefulDataLoader asks the loader processes"
            )
        if self.batch_size is None and not self._pipeline.mixes:
            raise ArgumentError(
                "state_dict: batches= needs the batch_size argument of WebDataset, or .batched()"
            )
        if batches > -(-length // self._unit):
            raise ArgumentError(f"batches={batches}: an iteration has {-(-length // self._unit)}")
        return batches * self._unit

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state_dict` was taken, in a pipeline of the same options and stages; see
        `ImportanceDataset.load_state_dict`."""
        super().load_state_dict(state)
        self._ended = self._at = None
        if torch.utils.data.get_worker_info() is not None:
            outputs = check_integer("state: outputs", state.get("outputs", 0), 0)
            self._loaded = Iteration(self._epoch, tuple(self._deal.consumed.tolist()), self._skip, outputs)
