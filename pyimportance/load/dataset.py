"""ImportanceDataset: importance-grouped shards as a torch IterableDataset."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import tee
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch.utils.data

from pyimportance.checks import check_integer
from pyimportance.errors import ArgumentError, PyimportanceError
from pyimportance.io.meter import Meter
from pyimportance.load import sending
from pyimportance.load.accounts import Accounts
from pyimportance.load.ahead import ReadAhead
from pyimportance.load.callers import check_iteration, check_sent, in_order
from pyimportance.load.choosing import Sampler, choosing
from pyimportance.load.deal import Deal
from pyimportance.load.fields import check_fields
from pyimportance.load.holding import Holding, Planned
from pyimportance.load.making import Making
from pyimportance.load.opening import cache_of, opened, opened_again, origin_of, raising
from pyimportance.load.plan import Recipe
from pyimportance.load.rank import placement
from pyimportance.load.reader import Reading, Stream, Yielded
from pyimportance.load.share import Share
from pyimportance.load.shared import Assignment, Shared, Start
from pyimportance.load.skips import Skips
from pyimportance.load.state import Position, ProcessPosition, check_claim, check_consumed
from pyimportance.load.tars import Tars, check_select
from pyimportance.shards.shard_set import ShardSet


class ImportanceDataset(Accounts, torch.utils.data.IterableDataset[dict[str, Any]]):
    """Each rank reads its own workers' shards; all ranks yield the same number of samples and batches.

        dataset = ImportanceDataset("shards", batch_size=64)
        loader = DataLoader(dataset, batch_size=64, num_workers=2, persistent_workers=True)
        for epoch in range(epochs):
            dataset.set_epoch(epoch)
            for batch in loader: ...

    A sample is a dict: ``__key__`` str, ``__url__`` str (path of its shard), ``__index__`` int (the sample
    id, what Tracker.observe takes), ``__weight__`` float, ``__pad__`` bool (repeated only to make ranks
    equal), and extension -> bytes. What a worker yields in an epoch is a function of (generation, seed,
    epoch, worker); ranks, batch size and loader processes only divide it (load/deal.py).

    Args:
        shards: a ShardSet, or the path or URL of one (its current generation).
        batch_size: the DataLoader's batch size B. Whole batches are dealt to loader processes, so that the
            DataLoader sees the same batches for any number of them, none but the last is short, and each has
            every bin in proportion. None deals samples one by one to processes and to ranks that share a
            worker, as a random draw of the bins would be: give it wherever the DataLoader makes batches.
        batched: yield whole batches (load/batch.py says what is in one) for a DataLoader(batch_size=None).
        rank, world_size: by default those of torch.distributed if it is initialised, else of the environment
            (RANK, WORLD_SIZE), else 0 of 1. World size and workers must divide one another, else ``elastic``.
        shuffle: False reads every bin in storage order, in every epoch the same; "shards" shuffles a bin's
            shards and leaves each in storage order.
        seed: of the shuffling.
        keep: read only the ceil(keep * n) most important samples of each worker, 0 < keep <= 1.
        mix: "stratified" draws every batch from all bins in proportion; "sequential" reads bin after bin,
            the most important first. "curriculum" is samplers.Curriculum(epochs), the easy samples first. A
            list of numbers, one for each bin: how often an epoch has a sample of it on average, 0.5 half of
            them and 2 each one twice (100 at most), batches drawn from all bins in that proportion.
        ids: read these samples only.
        sampler: draws every epoch anew from what ``keep`` and ``ids`` leave, such as samplers.RS2(0.3) or
            samplers.InfoBatch(epochs=90); ``__weight__`` is the weight that it gives (load/choosing.py).
        equalize: where ranks' shares differ, "pad" repeats samples of the short ones (marked), "drop" cuts
            all to the shortest, "error" raises. "batch", which needs batched=True, is for partitions with a
            capacity: each rank's batches are in proportion to its share, of at most batch_size on average.
            ``__weight__`` is the length of the batch by the ranks' average (0 for a pad), so that the ranks'
            ``(losses * batch["__weight__"]).mean()`` average to the mean over all samples of their batches,
            short last ones included. ``own_batch_size`` says how large this rank's are.
        elastic: allow ranks that do not fit the workers; samples from others' shards count as "origin".
        select_files: the extensions (in lower case, without the first dot) of the parts that are wanted, or
            a function that is called with the name of each part (key, dot, extension), once, which takes a
            second for two million. Other parts are left out, and not read unless they are small and lie
            between two that are. The order does not depend on it. A sample of which nothing would be left is
            an ArgumentError.
        window_bytes: samples are shuffled, and held in memory, about so many bytes at a time; a process holds
            two such windows (or two samples that are larger), one of which threads read ahead, and keeps the
            memory for the next iteration. A larger one makes fewer, larger requests: blocks are a 64th of it.
            Of compressed shards it holds 64 MiB of frames besides, or what the next window needs, if more.
        fields: ``{"x": ("uint8", (32, 32, 3))}``, with batched=True: parts that hold such an array and
            nothing else come as one tensor [B, 32, 32, 3] a batch. pin_memory: in pinned memory; with
            loader processes, where it raises ArgumentError, give it to the DataLoader instead.
        parts: "memoryview": the others are read-only views of what a window was read into (load/making.py).
        on_error: "raise" raises DataError at a sample that is in error. "skip" repeats a neighbour in its
            window in its place, marked as a pad, logs it, and counts it in ``skipped``; ranks stay equal.
            One more than ``max_skipped`` different samples of this rank is raised: the others then wait for
            it until their launcher or process group ends them. A resumed job finds, and counts, them anew.
        cache_dir, cache_bytes: a folder on this node's disk for what is fetched of shards and indexes behind
            a URL, and its size at most (None: a twentieth of the disk stays free; load/opening.py). Without
            one, every epoch fetches what it reads. A process holds 64 MiB besides of what is on its way.

    Raises ArgumentError for options that are not allowed or do not fit the shards, DataError for shards that
    are not sound; both at once, in the training process, and before a batch was yielded.
    """

    def __init__(
        self,
        shards: ShardSet | str | os.PathLike[str],
        *,
        batch_size: int | None = None,
        batched: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
        shuffle: bool | str = True,
        seed: int = 0,
        keep: float = 1.0,
        mix: str | Sequence[float] = "stratified",
        ids: npt.ArrayLike | None = None,
        sampler: Sampler | None = None,
        epochs: int | None = None,
        equalize: str = "pad",
        elastic: bool = False,
        select_files: Callable[[str], bool] | Collection[str] | None = None,
        window_bytes: int = 32 * 2**20,
        fields: Mapping[str, tuple[str, Sequence[int]]] | None = None,
        pin_memory: bool = False,
        parts: str = "bytes",
        on_error: str = "raise",
        max_skipped: int = 100,
        cache_dir: str | os.PathLike[str] | None = None,
        cache_bytes: int | None = None,
    ) -> None:
        super().__init__()
        self._cache = cache_of(cache_dir, cache_bytes)
        self._making = Making(batched, check_fields(fields), pin_memory, parts, on_error, max_skipped)
        self._batched = self._making.batched
        self.batch_size = None if batch_size is None else check_integer("batch_size", batch_size, 1)
        if self._batched and batch_size is None:
            raise ArgumentError("batched=True: give batch_size, the number of samples per batch")
        if equalize == "batch" and not self._batched:
            raise ArgumentError(
                "equalize='batch': batches differ between ranks; let them be made here, batched=True"
            )
        (self.rank, self.world_size), self._given = placement(rank, world_size), (rank, world_size)
        self._choosing, mix = choosing(seed=seed, keep=keep, ids=ids, mix=mix, sampler=sampler, epochs=epochs)
        self._recipe = Recipe(seed, shuffle, mix, window_bytes, str(self._choosing))
        self.equalize, self._elastic = equalize, elastic
        self._select_files = check_select(select_files)
        self._shared, self._skips = Shared(), Skips()
        self._starts, self._in_order = 0, True  # of a loader process's copy
        self._skip = 0  # samples of its share that this loader process had yielded when its state was saved
        self._ended: tuple[int, bool] | None = None
        self._holdings: dict[int, Holding] = {}
        self._shards: ShardSet | Tars | None = None
        self._told = Assignment(0, "", -1, "", 0, ())
        self._take_up(self._opened(shards), 0, None)

    # -- what to read -------------------------------------------------------------------------------------

    @property
    def shards(self) -> ShardSet:
        """The generation being read."""
        return cast(ShardSet, self._source)

    @property
    def _source(self) -> ShardSet | Tars:
        if self._shards is None:  # a copy was sent elsewhere without it
            self._shards = opened_again(self._told, self._shared.meter(), self._cache)
        return self._shards

    @property
    def home(self) -> range:
        """The workers whose samples are local to this rank."""
        return self._deal.home(self.rank)

    @property
    def own_batch_size(self) -> int:
        """Samples in a batch of this rank; other than ``batch_size`` with equalize="batch" only."""
        return int(self._deal.batch_sizes[self.rank])

    @property
    def makes_batches(self) -> bool:
        """Whether it yields batches, for a DataLoader(batch_size=None)."""
        return self._batched

    @property
    def epoch(self) -> int:
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next iteration reads, in loader processes as well, persistent ones included.

        A position from `load_state_dict` stays while the epoch is the one it was saved in.
        """
        epoch = check_integer("epoch", epoch, 0)
        if epoch != self._epoch:
            self._take_up(self._source, epoch, None)

    def set_shards(self, shards: ShardSet | str | os.PathLike[str]) -> None:
        """Reads another generation (what `repartition` returned) from the next iteration on; same epoch."""
        self._take_up(self._opened(shards), self._epoch, None)

    def _take_up(self, shards: ShardSet | Tars, epoch: int, consumed: list[int] | None) -> None:
        """Checks everything first, so that an error leaves the dataset as it was. In a loader process it
        changes this copy alone."""
        deal, holdings = self._deal_of(shards, epoch, consumed), self._holdings
        if self._shards is None or shards.digest != self._shards.digest:
            # Opened here as well as in spawned loader processes: errors show at once, forked ones inherit.
            holdings = {w: self._hold(shards, w, self._shared.meter()) for w in deal.home(self.rank)}
            self._choosing.try_out(shards, deal.home(self.rank), epoch, self._shared.meter())
        if torch.utils.data.get_worker_info() is None or not self._shared.is_of_another_process:
            serial, position = self._told.serial + 1, tuple(deal.consumed.tolist())
            told = Assignment(serial, shards.root, shards.generation, shards.digest, epoch, position)
            self._shared.assign(told)
            self._told = told
        self._epoch, self._skip, self._ended = epoch, 0, None
        self._yielded, self._begun = Yielded(), False  # begun: by this process
        self._shards, self._holdings, self._deal = shards, holdings, deal

    def _opened(self, shards: Any) -> ShardSet | Tars:
        return opened(shards, self._shared.meter(), self._cache)

    def _hold(self, shards: ShardSet | Tars, worker: int, meter: Meter) -> Holding:
        how: Any = {"select_files": self._select_files, "making": self._making}
        return Holding(shards, worker, self._recipe, self._choosing, meter, **how)

    def _deal_of(
        self,
        shards: ShardSet | Tars,
        epoch: int,
        consumed: list[int] | tuple[int, ...] | None,
        batch: int | None = None,
    ) -> Deal:
        sizes = np.array(self._choosing.sizes(shards, epoch, self._shared.meter()), np.int64)
        start = np.zeros_like(sizes) if consumed is None else np.array(consumed, np.int64)
        batch = batch or self.batch_size or 1
        return Deal(sizes, self.world_size, batch, self.equalize, self._elastic, start)

    # -- reading it ---------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Samples (batches where ``batched``) that the next iteration yields on this and on every rank."""
        return self._deal.batches if self._batched else int(self._deal.lengths[self.rank])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = torch.utils.data.get_worker_info()
        check_iteration(self)
        if info is None:
            self._leave_the_end()
            return self._iterate(None, 0, 1)
        try:
            self._start(info)
            share = self._deal.share(self.rank).process(info.id, info.num_workers, self.own_batch_size)
            self._yielded, self._skip = Yielded(self._skip), 0
            return self._iterate(share.after(self._yielded.count), info.id, info.num_workers)
        except PyimportanceError as error:  # a DataLoader passes on what `next` raises, not what `iter` does
            return raising(error)

    def _start(self, info: Any) -> Start:
        """A loader process iterates; a persistent one takes up what the training process assigned since."""
        self._starts += 1
        # The seeds of a DataLoader's processes are a random number of its own and their number in it.
        pool, ordered = info.seed - info.id, self._in_order and in_order()
        this = Start(pool, info.id, self._starts, ordered)
        told = self._shared.start(this, self._told)
        if told is self._told:
            return this
        if told.digest != self._told.digest:
            self._shards, self._holdings = opened_again(told, self._shared.meter(), self._cache), {}
        self._told, self._epoch = told, told.epoch
        self._deal = self._deal_of(self._source, told.epoch, told.consumed)
        return this

    def _leave_the_end(self) -> None:
        """What is left at a loaded position where nothing is left: one iteration, and then the epoch that was
        set before it was loaded. (torchdata's StatefulDataLoader begins an epoch that it finds finished, and
        then begins again.)"""
        if self._ended is not None:
            epoch, begun = self._ended
            if begun:
                self._take_up(self._source, epoch, None)
            else:
                self._ended = epoch, True

    def _reading(self, share: Share, meter: Meter, epoch: int) -> Reading:
        """Opens what ``share`` is read from, now; it is read as the samples are taken."""
        sending.begin(self._shared)
        ahead = ReadAhead(meter, origin_of(self._source, self._cache, share))
        workers, streams = share.workers, {}
        room = max(1, self._recipe.window_bytes // max(1, len(workers)))
        pieces, *each = tee(share.pieces(), 1 + len(workers))  # each is worked out once, for all of them
        for w, some in zip(workers, each, strict=True):
            holding, plan = self._planned(w, epoch, meter)
            runs, tier = holding.runs(plan, some, room), self._source.tier if w in self.home else "origin"
            skips: Any = {"may_skip": partial(self._may_skip, holding.index.ids), "others": plan.each_row()}
            streams[w] = Stream(holding.columns, runs, ahead, tier, **skips)
        return Reading(pieces, streams, ahead)

    def _planned(self, worker: int, epoch: int, meter: Meter) -> tuple[Holding, Planned]:
        if worker not in self._holdings:
            self._holdings[worker] = self._hold(self._source, worker, meter)
        draw = self._choosing.draw(self._source, worker, epoch, meter) if self._choosing.draws else None
        return self._holdings[worker], self._holdings[worker].plan(epoch, draw)

    def planned_ids(self) -> npt.NDArray[np.int64]:
        """The sample ids that the next iteration yields on this rank, pads included, in order: int64 [n]."""
        whole, meter = self._deal.share(self.rank).whole(), self._shared.meter()
        ids = np.empty(len(whole), np.int64)
        for w, places in whole.places.items():
            holding, plan = self._planned(w, self._epoch, meter)
            ids[places] = holding.index.ids[holding.rows(plan, [whole])]
        return ids

    def _iterate(self, share: Share | None, process: int, processes: int) -> Iterator[dict[str, Any]]:
        if share is None:  # in the training process: what is set when its first sample is asked for
            self._yielded, self._begun, share = Yielded(), True, self._deal.share(self.rank)
        yielded, deal = self._yielded, self._deal
        reading = self._reading(share, self._shared.meter(), self._epoch)
        if self._batched:
            size = self.own_batch_size
            for n, batch in enumerate(reading.batches(size, self._making), yielded.count // size):
                self._choosing.weigh(batch["__weight__"])
                if self.equalize == "batch":
                    weight = np.float32(deal.weight(self.rank, process + n * processes))
                    batch["__weight__"] *= np.where(batch["__pad__"], np.float32(0), weight)
                yielded.add(len(batch["__index__"]))
                yield batch
        else:
            for some in reading.samples():
                yield from yielded.each(some)

    # -- position and accounts ----------------------------------------------------------------------------

    def state_dict(self, *, batches: int | None = None, epoch: int | None = None) -> dict[str, Any]:
        """The position as a small dict of plain values, the same on every rank (load/state.py).

        batches: how many batches of the current iteration the training loop has consumed. Needed where loader
        processes read ahead of it, else counted here. Ranks are taken to be in step, as DDP keeps them.
        Raises ArgumentError where none has begun since epoch, position or generation were set, and within
        the epoch of a DataLoader(in_order=False).
        epoch: the start of this epoch instead, for a loop that is between two.

        In a loader process it is the position of that process alone, which torchdata's StatefulDataLoader
        asks for after every batch, and which goes back to the same process of as many.
        """
        if (info := torch.utils.data.get_worker_info()) is not None:
            return self._state_here(info, self._epoch, self._deal.consumed.tolist(), self._yielded.count)
        if epoch is not None:
            if batches is not None:
                raise ArgumentError("state_dict: give batches= within an epoch, or epoch= between two")
            return self._state(check_integer("epoch", epoch, 0), [0] * self._source.workers)
        yielded, processes = self._yielded.count, self._shared.noted(self._told.serial)
        if batches is not None:
            batches = check_integer("batches", batches, 0)
            if self.batch_size is None:
                raise ArgumentError("state_dict: batches= needs the batch_size argument of ImportanceDataset")
            if batches > self._deal.batches:
                raise ArgumentError(f"batches={batches}: an iteration has {self._deal.batches}")
            ordered = batches == self._deal.batches or self._shared.in_order(self._told.serial)
            check_consumed(batches, begun=self._begun or processes, in_order=ordered)
            yielded = min(batches * self.own_batch_size, int(self._deal.lengths[self.rank]))
            if not processes:
                check_claim(batches, yielded, self._yielded.count)
        elif processes:
            raise ArgumentError(
                "state_dict: loader processes read ahead of the training loop; say how many batches it "
                "consumed, state_dict(batches=n)"
            )
        consumed = self._deal.after(yielded, self.rank).tolist() if yielded else self._deal.consumed.tolist()
        return self._state(self._epoch, consumed)

    def _state(self, epoch: int, consumed: list[int]) -> dict[str, Any]:
        shards = self._source
        return Position(shards.generation, shards.digest, epoch, tuple(consumed)).to_state(self._recipe)

    def _state_here(self, process: Any, epoch: int, consumed: list[int], yielded: int) -> dict[str, Any]:
        """That of a loader process."""
        place = ProcessPosition(self.rank, self.world_size, process.id, process.num_workers, yielded)
        return {**self._state(epoch, consumed), **place.to_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state_dict` was taken, on any world size, batch size and number of loader processes.

        Over the whole job, every sample of the epoch is yielded exactly once, but for pads, which may be
        others. The next iteration, and `len`, cover the rest of the epoch. Reads the generation that the
        state was saved on, from the folder that this data set reads, whichever it reads now and whatever came
        after. Raises ArgumentError for a state of other shards or options, DataError where that generation
        is gone.
        """
        position, shards = Position.from_state(state, self._recipe), self._source
        place = ProcessPosition.from_state(state)
        if place is not None:
            place.check(self.rank, self.world_size, torch.utils.data.get_worker_info())
        if position.generation != shards.generation:
            meter, cache = self._shared.meter(), self._cache
            shards = ShardSet.open(shards.root, generation=position.generation, meter=meter, cache=cache)
        before, sizes = self._epoch, self._choosing.sizes(shards, position.epoch, self._shared.meter())
        position.check(shards.root, shards.digest, sizes)
        self._take_up(shards, position.epoch, list(position.consumed))
        if place is not None:
            self._skip = place.yielded
        elif list(position.consumed) == sizes:
            self._ended = before, False

    def __getstate__(self) -> dict[str, Any]:
        # A spawned loader process opens the shards itself, told where by the shared assignment.
        check_sent(self)
        shards = self._shards if isinstance(self._shards, Tars) else None
        return {**self.__dict__, "_shards": shards, "_holdings": {}, "_in_order": in_order()}
