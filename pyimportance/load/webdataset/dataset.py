"""WebDataset: one changed line for a user of webdataset."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import numpy.typing as npt
import torch.utils.data

from pyimportance.checks import check_flag, check_integer
from pyimportance.errors import ArgumentError, DataError, PyimportanceError
from pyimportance.load.callers import check_iteration
from pyimportance.load.choosing import Sampler
from pyimportance.load.deal import Deal
from pyimportance.load.merge import Ints
from pyimportance.load.opening import raising
from pyimportance.load.plan import SHARDS
from pyimportance.load.reader import Yielded
from pyimportance.load.tars import Tars
from pyimportance.load.webdataset.arguments import cache_options, check_functions, check_like
from pyimportance.load.webdataset.barren import Barren
from pyimportance.load.webdataset.faults import Faults
from pyimportance.load.webdataset.fluent import Fluent
from pyimportance.load.webdataset.pipeline import Fill, Pipeline
from pyimportance.load.webdataset.resuming import Resuming
from pyimportance.load.webdataset.rounds import Iteration, Rule
from pyimportance.load.webdataset.sources import opened
from pyimportance.load.webdataset.stages import Handler, Sliced, Stage, reraise
from pyimportance.load.webdataset.turns import Turns
from pyimportance.shards.shard_set import ShardSet

Self = TypeVar("Self", bound="WebDataset")


class WebDataset(Fluent, Resuming):
    """webdataset's class of that name: its arguments, methods and samples, read by `ImportanceDataset`.

        dataset = WebDataset("data-{000..099}.tar", shardshuffle=True).shuffle(1000).decode("pil")
        dataset = dataset.to_tuple("jpg", "cls").batched(64)
        loader = DataLoader(dataset, batch_size=None, num_workers=4)

    Every iteration is an epoch, each in another order, unless `set_epoch` says which the next one is, as it
    must on all ranks where one of them alone began an iteration more. Ranks yield equally many samples and
    batches, by the rules of `ImportanceDataset`; where stages leave samples out, neighbours take their places
    if there are several ranks (see `Fluent`). Samples are dicts: ``__key__ __url__ __index__ __weight__
    __pad__``, and bytes by extension.

    Args:
        urls: tars (a path, folder, URL, pattern, braces, ``::``, a list), which are indexed first, by one
            pass over their headers (what a list names twice is read twice, under ids of its own); a
            SampleIndex (see `index`); a ShardSet, or the path or URL of one.
        shardshuffle: tars, or shards, in random order; `shuffle` shuffles samples. seed: by default 0.
        resampled, repeat: epochs without an end, one after the other; see `with_epoch`.
        keep, mix, ids, sampler, epochs, elastic, rank, world_size, window_bytes, batch_size (not where
            `batched` makes batches): see `ImportanceDataset`.
        cache_dir, cache_size: its cache_dir and cache_bytes, by default what WDS_CACHE and WDS_CACHE_SIZE of
            the environment say.
        equalize: "pad", "drop" and "error" as there, and "join" where ranks may yield unequally much, as the
            training loop lets them end one after the other (torch's Join): what stages leave out is left out.
        select_files: as there; of tars, samples of which it leaves nothing are left out.
        rename_files: called with the name of each member of the tars, as the index has it (its extension in
            lower case), once; samples are what the new names make them (see `renamed`).
        handler: called with a DataError for each tar that cannot be indexed (missing, no tar, cut off), when
            the data set is made. True leaves the tar out, all of it; false leaves out those behind it too.
            Every rank asks of all tars, and so reads the same ones, unless one alone cannot read what others
            can, which no rank finds out. Afterwards it is called where a sample cannot be read. True: its
            neighbour takes its place, so that ranks stay equal (``on_error="skip"``), for at most
            ``max_skipped`` samples; or it raises what it likes. False ends the iteration of its process,
            which one rank of several may not.
        mode, detshuffle, nodesplitter, workersplitter, empty_check, verbose, url_to_name: for webdataset's
            sake. Orders are functions of the seed, all ranks read their share, there must be a sample, and
            what is cached has names of its own.

    Raises ArgumentError for values that mean nothing here, saying what to use instead; and as `index` and
    `ImportanceDataset` do.
    """

    def __init__(  # noqa: PLR0917  # webdataset's arguments, in its order
        self,
        urls: Any,
        handler: Handler = reraise,
        mode: str | None = None,
        resampled: bool = False,
        repeat: bool = False,
        shardshuffle: bool | int | None = None,
        cache_size: int = -1,
        cache_dir: str | os.PathLike[str] | None = None,
        url_to_name: Callable[[str], str] | None = None,
        detshuffle: bool = False,
        nodesplitter: Any = None,
        workersplitter: Any = None,
        select_files: Callable[[str], bool] | Collection[str] | None = None,
        rename_files: Callable[[str], str] | None = None,
        empty_check: bool = True,
        verbose: bool = False,
        seed: int | None = None,
        *,
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
    ) -> None:
        splitters = {"nodesplitter": nodesplitter, "workersplitter": workersplitter}
        check_like(mode, **splitters, detshuffle=detshuffle, empty_check=empty_check, verbose=verbose)
        check_functions(url_to_name=url_to_name, rename_files=rename_files)
        endless = check_flag("resampled", resampled) or check_flag("repeat", repeat) or mode is not None
        if not isinstance(shardshuffle, bool | None):
            shardshuffle = check_integer("shardshuffle", shardshuffle, 0) > 0
        sharded = resampled or mode is not None or bool(shardshuffle)
        self._rename_files = rename_files
        self._faults = Faults(handler)
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
            equalize="pad" if equalize == "join" else equalize,
            elastic=elastic,
            select_files=select_files,
            window_bytes=window_bytes,
            on_error="skip",  # where the handler says so
            max_skipped=max_skipped,
            **cache_options(cache_dir, cache_size),
        )
        self._faults.check_may_stop(self.world_size)
        if equalize == "batch":
            raise ArgumentError("equalize='batch': batches are made by ImportanceDataset(batched=True)")
        self._pipeline, self._join = Pipeline(), equalize == "join"
        self._turns = Turns()
        self._rounds = None if endless else 1  # in an iteration; None: no end
        self._outputs: int | None = None  # at most, of a process in an iteration
        self._stated_length: int | None = None
        self._at: Iteration | None = None  # the latest iteration of this process
        self._loaded: Iteration | None = None  # where a loader process's state told it to go on

    def _opened(self, shards: Any) -> ShardSet | Tars:
        how: Any = {"rename_files": self._rename_files, "select_files": self._select_files}
        return opened(shards, self._shared.meter(), self._cache, handler=self._faults.handler, **how)

    def _may_skip(self, ids: Ints, row: int, error: DataError) -> bool:
        return self._faults.skips(error, self.world_size) and super()._may_skip(ids, row, error)

    # -- pipeline -------------------------------------------------------------------------------------------

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

    def with_epoch(self: Self, nsamples: int = -1, nbatches: int = -1) -> Self:
        """Epochs of so many outputs of each loader process, each going on where the one before ended, over as
        many rounds of the data as that takes; a batch may have the end of one and the beginning of the next.
        Where stages leave samples out, it begins where that one would have ended had they not. Ranks then
        yield equally much, whatever is left out; a stage that leaves out all, round after round, is an
        ArgumentError, here and in other epochs without an end."""
        outputs = max(nsamples, nbatches)
        if outputs > 0:
            self._no_slice("with_epoch")
            self._outputs = check_integer("nsamples", outputs, 1)
        self._rounds = None
        return self

    def repeat(self: Self, nepochs: int = -1, nbatches: int = -1) -> Self:
        """Epochs of ``nepochs`` rounds of the data, or without an end; of ``nbatches`` outputs at most."""
        self._no_slice("repeat")
        self._rounds = nepochs if nepochs > 0 else None
        self._outputs = nbatches if nbatches > 0 else None
        return self

    def _no_slice(self, name: str) -> None:
        if any(isinstance(stage, Sliced) for stage in self._pipeline.stages):
            raise ArgumentError(
                f"{name}: after .slice() it would have nothing to go on with; keep= is a part of all"
            )

    def with_length(self: Self, n: int, silent: bool = True) -> Self:
        """Makes this the length, whatever is yielded; needed only where `len` raises."""
        self._stated_length = check_integer("n", n, 0)
        return self

    # -- how much of it -------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Outputs of the next iteration on this rank, over all loader processes: the same on every rank.

        Raises TypeError, as what has no length does, where that depends on the samples (on one rank alone
        once a stage has left out any), or where epochs are of a number of outputs of each process;
        `with_length` states one.
        """
        if self._stated_length is not None:
            return self._stated_length
        if self._outputs is not None or self._rounds is None:
            raise TypeError(
                "a WebDataset of endless epochs, or of with_epoch(), has no length; with_length(n) states one"
            )
        if not self._pipeline.is_counted or self._turns.uneven:
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
        if self.world_size == 1 or self._rounds is None or self._join:
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
