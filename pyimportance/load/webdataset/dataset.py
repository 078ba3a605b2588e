"""WebDataset: one changed line for a user of webdataset."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from math import prod
from typing import Any, TypeVar

import numpy.typing as npt
import torch.utils.data

from pyimportance.checks import check_flag, check_integer
from pyimportance.errors import ArgumentError, PyimportanceError
from pyimportance.load.callers import check_iteration
from pyimportance.load.choosing import Sampler
from pyimportance.load.dataset import ImportanceDataset
from pyimportance.load.deal import Deal
from pyimportance.load.opening import raising
from pyimportance.load.plan import SHARDS
from pyimportance.load.reader import Yielded
from pyimportance.load.shared import Pass
from pyimportance.load.tars import Tars
from pyimportance.load.webdataset.applied import filling, through
from pyimportance.load.webdataset.fluent import Fluent
from pyimportance.load.webdataset.passes import Iteration, Rule
from pyimportance.load.webdataset.sources import check_like, check_others, on_error, opened
from pyimportance.load.webdataset.stages import Batched, Stage, reraise
from pyimportance.load.webdataset.turns import Turns
from pyimportance.shards.shard_set import ShardSet

Self = TypeVar("Self", bound="WebDataset")


class WebDataset(Fluent, ImportanceDataset):
    """webdataset's class of that name: its arguments, methods and samples, read by `ImportanceDataset`.

        dataset = WebDataset("data-{000..099}.tar", shardshuffle=True).shuffle(1000).decode("pil")
        dataset = dataset.to_tuple("jpg", "cls").batched(64)
        loader = DataLoader(dataset, batch_size=None, num_workers=4)

    Every iteration is an epoch, each in another order, unless `set_epoch` says which the next one is. Ranks
    yield equally many samples and batches, by the rules of `ImportanceDataset`; where stages leave samples
    out, neighbours take their places if there are several ranks (see `Fluent`). Samples are dicts:
    ``__key__ __url__ __index__ __weight__ __pad__``, and bytes by extension.

    Args:
        urls: tars (a path, folder, URL, pattern, braces, ``::``, a list), which are indexed first, by one
            pass over their headers; a SampleIndex (see `index`); a ShardSet, or the path or URL of one.
        shardshuffle: tars, or shards, in random order; `shuffle` shuffles samples. seed: by default 0.
        resampled, repeat: epochs without an end, one after the other; see `with_epoch`.
        select_files, keep, mix, ids, sampler, epochs, equalize, elastic, rank, world_size, window_bytes,
            cache_dir, cache_size, batch_size (not where `batched` makes batches): see `ImportanceDataset`.
        handler: webdataset's reraise_exception, or its warn_and_continue or ignore_and_continue, which skip
            samples in error (``on_error="skip"``), at most ``max_skipped`` of them.
        mode, detshuffle, nodesplitter, workersplitter, empty_check, verbose: for webdataset's sake. Orders
            are functions of the seed, all ranks read their share, and there must be a sample.

    Raises ArgumentError for others, saying what to use instead; and as `index`, `ImportanceDataset` do.
    """

    def __init__(
        self,
        urls: Any,
        *,
        handler: Any = reraise,
        mode: str | None = None,
        resampled: bool = False,
        repeat: bool = False,
        shardshuffle: bool | int | None = None,
        detshuffle: bool = False,
        nodesplitter: Any = None,
        workersplitter: Any = None,
        select_files: Callable[[str], bool] | None = None,
        empty_check: bool = True,
        verbose: bool = False,
        seed: int | None = None,
        batch_size: int | None = None,
        keep: float = 1.0,
        mix: str | Sequence[float] = "stratified",
        ids: npt.ArrayLike | None = None,
        sampler: Sampler | None = None,
        epochs: int | None = None,
        equalize: str = "pad",
        elastic: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
        window_bytes: int = 32 * 2**20,
        max_skipped: int = 100,
        cache_dir: str | os.PathLike[str] | None = None,
        cache_size: int | None = -1,
        **others: Any,
    ) -> None:
        check_others(others)
        splitters = {"nodesplitter": nodesplitter, "workersplitter": workersplitter}
        check_like(mode, **splitters, detshuffle=detshuffle, empty_check=empty_check, verbose=verbose)
        endless = check_flag("resampled", resampled) or check_flag("repeat", repeat) or mode is not None
        if not isinstance(shardshuffle, bool | None):
            shardshuffle = check_integer("shardshuffle", shardshuffle, 0) > 0
        sharded = resampled or mode is not None or bool(shardshuffle)
        super().__init__(
            urls,
            batch_size=batch_size,
            rank=rank,
            world_size=world_size,
            shuffle=SHARDS if sharded else False,
            seed=0 if seed is None else seed,
            keep=keep,
            mix=mix,
            ids=ids,
            sampler=sampler,
            epochs=epochs,
            equalize=equalize,
            elastic=elastic,
            select_files=select_files,
            window_bytes=window_bytes,
            on_error=on_error(handler),
            max_skipped=max_skipped,
            cache_dir=cache_dir,
            cache_bytes=None if cache_size == -1 else cache_size,
        )
        if equalize == "batch":
            raise ArgumentError("equalize='batch': batches are made by ImportanceDataset(batched=True)")
        self._stages: tuple[Stage, ...] = ()
        self._turns = Turns()
        self._passes_each: int | None = None if endless else 1  # over the data, in an iteration; None: no end
        self._outputs_each: int | None = None  # at most, of a process in an iteration
        self._stated_length: int | None = None
        self._at: Iteration | None = None  # the latest iteration of this process
        self._loaded: Iteration | None = None  # where a loader process's state told it to go on

    def _opened(self, shards: Any) -> ShardSet | Tars:
        return opened(shards, self._shared.meter(), self._cache)

    # -- pipeline -------------------------------------------------------------------------------------------

    def _copy(self: Self) -> Self:
        other = copy.copy(self)
        other._shared, other._skips = copy.copy(self._shared), copy.copy(self._skips)
        other._turns = Turns()
        other._at = other._loaded = None
        return other

    def _with(self: Self, stage: Stage) -> Self:
        other = self._copy()
        other._stages = (*self._stages, stage)
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

    def with_epoch(self: Self, nsamples: int = -1, nbatches: int = -1) -> Self:
        """Epochs of so many outputs of each loader process, each going on where the one before ended, over as
        many passes as that takes. Where stages leave samples out, it begins where that one would have ended
        had they not. Ranks then yield equally much, whatever is left out."""
        outputs = max(nsamples, nbatches)
        if outputs > 0:
            self._no_slice("with_epoch")
            self._outputs_each = check_integer("nsamples", outputs, 1)
        self._passes_each = None
        return self

    def repeat(self: Self, nepochs: int = -1, nbatches: int = -1) -> Self:
        """Epochs of ``nepochs`` passes over the data, or without an end; of ``nbatches`` outputs at most."""
        self._no_slice("repeat")
        self._passes_each = nepochs if nepochs > 0 else None
        self._outputs_each = nbatches if nbatches > 0 else None
        return self

    def _no_slice(self, name: str) -> None:
        if any(type(stage.run).__name__ == "Sliced" for stage in self._stages):
            raise ArgumentError(
                f"{name}: after .slice() it would have nothing to go on with; keep= is a part of all"
            )

    def with_length(self: Self, n: int, silent: bool = True) -> Self:
        """Makes this the length, whatever is yielded; needed only where `len` raises."""
        self._stated_length = check_integer("n", n, 0)
        return self

    # -- how much of it -------------------------------------------------------------------------------------

    @property
    def _ratio(self) -> int:
        """Samples that make an output, as far as that is known."""
        return prod(stage.takes or 1 for stage in self._stages)

    @property
    def _unit(self) -> int:
        """Samples that make a batch of the training loop, dealt to loader processes as a whole."""
        return self._ratio * (self.batch_size or 1)

    def __len__(self) -> int:
        """Outputs of the next iteration on this rank, over all loader processes: the same on every rank.

        Raises TypeError, as what has no length does, where that depends on the samples, or where epochs are
        of a number of outputs of each process; `with_length` states one.
        """
        if self._stated_length is not None:
            return self._stated_length
        if self._outputs_each is not None or self._passes_each is None:
            raise TypeError(
                "a WebDataset of endless epochs, or of with_epoch(), has no length; with_length(n) states one"
            )
        if any(stage.takes is None for stage in self._stages):
            raise TypeError(
                "how much these stages yield depends on the samples; with_length(n) states a length"
            )
        turn = self._turns.latest(self._told.serial)[0]
        consumed, epoch = self._told.consumed if turn < 0 else None, self.epoch
        samples = int(self._pass(epoch, consumed).lengths[self.rank])
        samples += (self._passes_each - 1) * int(self._pass(epoch, None).lengths[self.rank])
        whole = all(stage.partial for stage in self._stages)
        return -(-samples // self._ratio) if whole else samples // self._ratio

    def _pass(self, number: int, consumed: tuple[int, ...] | None) -> Deal:
        if self._passes_each != 1 and self._choosing.sampler is not None:
            raise ArgumentError(
                "sampler=: says what an epoch has, so that with_epoch(), repeat() and resampled=True have "
                "nothing to make epochs of"
            )
        # Ranks that share a worker take whole batches of it; but not where an epoch may end within one.
        return self._deal_of(self._source, number, consumed, 1 if self._passes_each != 1 else self._unit)

    @property
    def makes_batches(self) -> bool:
        return any(isinstance(stage.run, Batched) for stage in self._stages)

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
        at = self._at = at or self._from_turn(self._turns.take(self._told.serial))
        before, ratio, count, even = at.pulled, self._ratio, Yielded(), True
        rule = Rule(self._passes_each, self._outputs_each, ratio, self._unit)

        def samples(at: Iteration, process: int, processes: int, count: Yielded) -> Iterator[Any]:
            for epoch, share in rule.shares(at, self._pass, self.rank, process, processes):
                for some in self._reading(share, self._shared.meter(), epoch).samples():
                    yield from count.each(some)

        start, fill = Iteration(at.epoch, (0,) * self._source.workers), None
        if self.world_size > 1 and self._passes_each is not None:
            fill = filling(self._stages, partial(samples, start, 0, 1, Yielded()), self._shared, process)
        seed = f"{self._recipe.seed} {at.epoch} {self.rank} {process}"
        outputs = through(self._stages, samples(at, process, processes, count), seed, fill)
        if self._outputs_each is not None:
            outputs = islice(outputs, max(0, self._outputs_each - at.outputs))
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

    def _begin_in(self, info: Any) -> Iteration:
        """Where the iteration of a loader process begins."""
        self._passes += 1
        this = Pass(info.seed - info.id, info.id, self._passes)
        if self._passes == 1:
            self._shared.note(this, self._told.serial)
        else:
            self._follow(self._shared.follow(this))
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

    # -- position -------------------------------------------------------------------------------------------

    def state_dict(self, *, batches: int | None = None, epoch: int | None = None) -> dict[str, Any]:
        """The position, as `ImportanceDataset.state_dict` gives it: which samples went into the pipeline.

        batches: how many the training loop has consumed of the current iteration; counted here without loader
        processes. An iteration that is over is the beginning of the next epoch. In a loader process it is of
        that process alone, for StatefulDataLoader, which knows what stages left out.
        Raises ArgumentError where a stage cannot go on from a position (a shuffle after `batched`,
        `unbatched`, `rsample`, `slice`, `compose`); with `with_epoch` and `repeat`, outside of
        StatefulDataLoader; and for ``batches`` where stages leave samples out.
        """
        if held := [type(s.run).__name__ for s in self._stages if not s.exact]:
            raise ArgumentError(
                f"state_dict: the stage {held[0]!r} remembers samples, or gives them bit by bit, and so "
                "cannot go on in the middle of an epoch; shuffle before batched(), and do the others in the "
                "training loop"
            )
        at = self._at
        if (info := torch.utils.data.get_worker_info()) is not None:
            at = self._loaded or at or self._from_turn(0)
            state = self._state_here(info, at.epoch, list(at.consumed), at.pulled)
            return {**state, "outputs": at.outputs}
        if epoch is not None:
            return super().state_dict(batches=batches, epoch=epoch)
        if self._passes_each != 1:
            raise ArgumentError(
                "state_dict: epochs of with_epoch() and repeat() resume in torchdata's StatefulDataLoader "
                "with loader processes; elsewhere between epochs, state_dict(epoch=)"
            )
        turn, processes = self._turns.latest(self._told.serial)
        if turn < 0:
            if batches:
                raise ArgumentError(f"batches={batches}: no iteration has begun")
            return self._state(self._told.epoch, list(self._told.consumed))
        begin = self._told.consumed if turn == 0 else (0,) * self._source.workers
        now = self._told.epoch + turn
        deal = self._pass(now, begin)
        length = int(deal.lengths[self.rank])
        if batches is not None:
            pulled = self._counted(check_integer("batches", batches, 0), length)
            over = pulled >= length
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
        if any(stage.takes is None for stage in self._stages) or self._turns.uneven:
            raise ArgumentError(
                "state_dict: stages left samples out, so that batches do not tell how many were read; "
                "torchdata's StatefulDataLoader asks the loader processes"
            )
        if self.batch_size is None and not any(stage.mixes for stage in self._stages):
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
