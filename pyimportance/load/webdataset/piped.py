"""Samples through a pipeline: every iteration is the next epoch, and can go on where it was left."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import torch.utils.data

from pyimportance.checks import check_integer
from pyimportance.errors import ArgumentError, DataError, PyimportanceError
from pyimportance.load.callers import check_iteration
from pyimportance.load.dataset import ImportanceDataset
from pyimportance.load.deal import Deal
from pyimportance.load.merge import Ints
from pyimportance.load.opening import raising
from pyimportance.load.reader import Yielded
from pyimportance.load.state import check_consumed
from pyimportance.load.tars import Tars
from pyimportance.load.webdataset.barren import Barren
from pyimportance.load.webdataset.faults import Faults
from pyimportance.load.webdataset.pipeline import Fill, Pipeline
from pyimportance.load.webdataset.rounds import Iteration, Rule
from pyimportance.load.webdataset.stages import Handler, Stage
from pyimportance.load.webdataset.turns import Turns
from pyimportance.shards.shard_set import ShardSet

Self = TypeVar("Self", bound="Piped")


class Piped(ImportanceDataset):
    """An `ImportanceDataset`, whose ``options`` it takes, with a pipeline behind it.

    handler: of samples that cannot be read, see `Faults`. rounds: of the data in an iteration, None: without
    an end. may_differ: whether ranks may yield unequally much, as the training loop copes with that.
    """

    def __init__(
        self, source: Any, *, handler: Handler, rounds: int | None, may_differ: bool, **options: Any
    ) -> None:
        self._faults = Faults(handler)
        super().__init__(source, on_error="skip", **options)  # where the handler says so
        self._pipeline, self._turns = Pipeline(), Turns()
        self._rounds, self._may_differ = rounds, may_differ
        self._faults.check_may_stop(self._bound)
        self._outputs: int | None = None  # at most, of a process in an iteration
        self._stated_length: int | None = None
        self._at: Iteration | None = None  # the latest iteration of this process
        self._loaded: Iteration | None = None  # where a loader process's state told it to go on

    def _may_skip(self, ids: Ints, row: int, error: DataError) -> bool:
        return self._faults.skips(error, self._bound) and super()._may_skip(ids, row, error)

    @property
    def _bound(self) -> int:
        """Ranks that must yield equally much."""
        return 1 if self._may_differ else self.world_size

    @property
    def _differing(self) -> str | None:
        """What may make ranks differ in how much they read and yield, where the training loop copes with
        that; None: nothing does."""
        if not self._may_differ or self.world_size == 1:
            return None
        if losing := self._pipeline.losing:
            return f".{losing[0].name}() may leave samples out or add some"
        return "handler= may end reading" if self._faults.may_stop else None

    def _copy(self: Self) -> Self:
        other = copy.copy(self)
        other._shared, other._skips = copy.copy(self._shared), copy.copy(self._skips)
        other._turns, other._faults = Turns(), copy.copy(self._faults)
        other._at = other._loaded = None
        return other

    def _with(self: Self, stage: Stage) -> Self:
        other = self._copy()
        other._pipeline = self._pipeline.then(stage)
        return other

    def _shuffled(self: Self, samples: int, seed: int | None) -> Self:
        other = self._copy()
        source = self._source
        shards = source.samples if isinstance(source, Tars) else None
        total = int(shards.nbytes.sum()) if shards is not None else sum(s.nbytes for s in self.shards.shards)
        held = -(-total * samples // max(1, sum(source.samples_per_worker)))
        other._recipe = replace(
            self._recipe,
            shuffle=True,
            seed=self._recipe.seed if seed is None else seed,
            window_bytes=max(self._recipe.window_bytes, min(held, total)),
        )
        other._holdings = {}
        other._shards = None
        other._take_up(source, self._epoch, None)
        return other

    # -- how much of it -------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Outputs of the next iteration on this rank, over all loader processes: the same on every rank.

        Raises TypeError, as what has no length does, where that depends on the samples (on one rank alone
        once a stage has left out any; with equalize="join" where one may), or where epochs are of a number of
        outputs of each process; `with_length` states one.
        """
        if self._stated_length is not None:
            return self._stated_length
        if self._outputs is not None or self._rounds is None:
            raise TypeError(
                "a WebDataset of endless epochs, or of with_epoch(), has no length; with_length(n) states one"
            )
        if not self._pipeline.is_counted or self._turns.uneven or self._differing is not None:
            raise TypeError(
                "how much these stages yield depends on the samples; with_length(n) states a length"
            )
        turn = self._turns.latest(self._told.serial)[0]
        consumed, epoch = self._told.consumed if turn < 0 else None, self.epoch
        samples = int(self._round(epoch, consumed).lengths[self.rank])
        return self._pipeline.outputs(
            samples + (self._rounds - 1) * int(self._round(epoch, None).lengths[self.rank])
        )

    def _round(self, number: int, consumed: tuple[int, ...] | None) -> Deal:
        if self._rounds != 1 and self._choosing.sampler is not None:
            raise ArgumentError(
                "sampler=: says what an epoch has, so that with_epoch(), repeat() and resampled=True have "
                "nothing to make epochs of"
            )
        # Ranks that share a worker take whole batches of it; but not where an epoch may end within one.
        return self._deal_of(self._source, number, consumed, 1 if self._rounds != 1 else self._unit)

    @property
    def makes_batches(self) -> bool:
        return self._pipeline.makes_batches

    @property
    def epoch(self) -> int:
        """The one that the next iteration reads."""
        return self._told.epoch + self._turns.latest(self._told.serial)[0] + 1

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next iteration reads; later ones read those after it."""
        epoch = check_integer("epoch", epoch, 0)
        if epoch != self.epoch:
            self._take_up(self._source, epoch, None)

    def set_shards(self, shards: ShardSet | str | os.PathLike[str]) -> None:
        epoch = self.epoch
        super().set_shards(shards)
        if epoch != self._told.epoch:
            self._take_up(self._source, epoch, None)

    @property
    def _unit(self) -> int:
        """Samples that make a batch of the training loop, dealt to loader processes as a whole."""
        return self._pipeline.ratio * (self.batch_size or 1)

    # -- reading it -----------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        check_iteration(self)
        info = torch.utils.data.get_worker_info()
        if info is None:  # decides nothing before the first output is asked for: some begin, and begin again
            return self._read(None, 0, 1)
        try:
            return self._read(self._begin_in(info), info.id, info.num_workers)
        except PyimportanceError as error:
            return raising(error)

    def _read(self, at: Iteration | None, process: int, processes: int) -> Iterator[Any]:
        even_ranks = self._are_ranks_even()
        at = self._at = at or self._from_turn(self._turns.take(self._told.serial))
        before, ratio, count, even, number = at.pulled, self._pipeline.ratio, Yielded(), True, 0
        rule = Rule(self._rounds, self._outputs, ratio, self._unit)

        def samples(at: Iteration, process: int, processes: int, count: Yielded) -> Iterator[Any]:
            for epoch, share, whole in rule.shares(at, self._round, self.rank, process, processes):
                reading = self._reading(share, self._shared.meter(), epoch)
                for some in self._faults.until_stopped(reading.samples()):
                    yield from count.each(some)
                if self._faults.stopped:
                    return
                if barren is not None:
                    barren.end_round(whole=whole)

        shared = processes > 1 or self.world_size > 1
        barren = Barren(shared=shared) if self._rounds is None else None
        start, fill = Iteration(at.epoch, (0,) * self._source.workers), None
        if even_ranks:
            fill = Fill(partial(samples, start, 0, 1, Yielded()), self._shared.note_skipped)
        seed = f"{self._recipe.seed} {at.epoch} {self.rank} {process}"
        outputs = self._pipeline.through(samples(at, process, processes, count), seed, fill, barren)
        if self._outputs is not None:
            outputs = islice(outputs, max(0, self._outputs - at.outputs))
        for number, output in enumerate(outputs, 1):
            pulled = count.count
            if pulled > number * ratio and fill is not None:  # what takes a place was looked for further on
                pulled = number * ratio
            elif pulled > number * ratio and even:
                even = False
                self._turns.note_uneven()
            at.pulled, at.outputs = before + pulled, at.outputs + 1
            yield output
        at.over = True
        if (
            even
            and fill is None
            and self._pipeline.is_counted
            and number < self._pipeline.outputs(count.count)
        ):
            self._turns.note_uneven()  # by what was left out behind the last output

    def _are_ranks_even(self) -> bool:
        """Whether what stages leave out is to be replaced, as nothing else makes ranks yield equally much.

        Raises ArgumentError where that cannot be.
        """
        if self._bound == 1 or self._rounds is None:
            return False
        if choosing := self._pipeline.choosing:
            raise ArgumentError(
                f".{choosing[0].name}(): how many it yields is for the samples to say, so that "
                f"{self.world_size} ranks would yield unequally many, and wait for ever for those that ended "
                "first; make epochs of a number of batches, .with_epoch(nbatches=n), or let ranks end one "
                "after the other, by torch's Join, and say so here: equalize='join'"
            )
        return True

    def _begin_in(self, info: Any) -> Iteration:
        """Where the iteration of a loader process begins."""
        this = self._start(info)
        if self._loaded is None:
            self._at = self._from_turn(self._turns.join(self._told.serial, this, info.num_workers))
        else:
            self._at, self._loaded = self._loaded, None
            self._turns.reach(self._told.serial, self._at.epoch - self._told.epoch, info.num_workers)
        return self._at

    def _from_turn(self, turn: int) -> Iteration:
        epoch = self._told.epoch + turn
        if turn == 0 and any(self._told.consumed):
            return Iteration(epoch, self._told.consumed)
        return Iteration(epoch, (0,) * self._source.workers)

    # -- position --------------------------------------------------------------------------------------------

    def state_dict(self, *, batches: int | None = None, epoch: int | None = None) -> dict[str, Any]:
        """The position, as `ImportanceDataset.state_dict` gives it: which samples went into the pipeline.

        batches: how many the training loop has consumed of the current iteration; counted here without loader
        processes. An iteration that is over is the beginning of the next epoch. In a loader process it is of
        that process alone, for StatefulDataLoader, which knows what stages left out.
        epoch: the start of this one instead, which every pipeline can go on from.
        Raises ArgumentError where a stage cannot go on from a position (a shuffle after `batched`,
        `unbatched`, `rsample`, `slice`, `compose`); with `with_epoch` and `repeat`, outside of
        StatefulDataLoader; for ``batches`` where stages leave samples out; and where they may, of all ranks
        with equalize="join", as each is then elsewhere: in loader processes, each rank's own
        StatefulDataLoader knows where.
        """
        info, at = torch.utils.data.get_worker_info(), self._at
        if epoch is not None and info is None:
            return super().state_dict(batches=batches, epoch=epoch)
        if (stage := self._pipeline.inexact) is not None:
            raise ArgumentError(
                f"state_dict: .{stage.name}() remembers samples, or gives them bit by bit, and so cannot go "
                "on in the middle of an epoch; shuffle before batched(), do the others in the training loop, "
                "or save between epochs, state_dict(epoch=)"
            )
        if info is not None:
            at = self._loaded or at or self._from_turn(0)
            state = self._state_here(info, at.epoch, list(at.consumed), at.pulled)
            return {**state, "outputs": at.outputs}
        if self._rounds != 1:
            raise ArgumentError(
                "state_dict: epochs of with_epoch() and repeat() resume in torchdata's StatefulDataLoader "
                "with loader processes; elsewhere between epochs, state_dict(epoch=)"
            )
        turn, processes = self._turns.latest(self._told.serial)
        if turn < 0:
            check_consumed(check_integer("batches", batches or 0, 0), begun=False)
            return self._state(self._told.epoch, list(self._told.consumed))
        if (why := self._differing) is not None and (batches is not None or at is None or not at.over):
            raise ArgumentError(
                f"state_dict: with equalize='join', {why}, so that {self.world_size} ranks are not in step "
                "within an epoch, and none knows where the others are; save between epochs, "
                "state_dict(epoch=), or make epochs short, .with_epoch(nbatches=n)"
            )
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
