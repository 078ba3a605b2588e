"""WebDataset: one changed line for a user of webdataset."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

import numpy.typing as npt

from pyimportance.checks import check_flag, check_integer
from pyimportance.errors import ArgumentError
from pyimportance.load.choosing import Sampler
from pyimportance.load.plan import SHARDS
from pyimportance.load.tars import Tars
from pyimportance.load.webdataset.arguments import cache_options, check_functions, check_like
from pyimportance.load.webdataset.fluent import Fluent
from pyimportance.load.webdataset.sources import opened
from pyimportance.load.webdataset.stages import Handler, reraise
from pyimportance.shards.shard_set import ShardSet

Self = TypeVar("Self", bound="WebDataset")


class WebDataset(Fluent):
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
            Where one may, there is no length, and within an epoch no position that ranks have in common.
        select_files: as there; of tars, samples of which it leaves nothing are left out.
        rename_files: called with the name of each member of the tars, as the index has it (its extension in
            lower case), once; samples are what the new names make them (see `renamed`).
        handler: called with a DataError for each tar that cannot be indexed (missing, no tar, cut off), when
            the data set is made. True leaves the tar out, all of it; false leaves out those behind it too.
            Every rank asks of all tars, and so reads the same ones, unless one alone cannot read what others
            can, which no rank finds out. Afterwards it is called where a sample cannot be read. True: its
            neighbour takes its place, so that ranks stay equal (``on_error="skip"``), for at most
            ``max_skipped`` samples; or it raises what it likes. False ends the iteration of its process,
            which one rank of several may not, but with equalize="join".
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
        super().__init__(
            urls,
            handler=handler,
            rounds=None if endless else 1,
            may_differ=equalize == "join",
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
            max_skipped=max_skipped,
            **cache_options(cache_dir, cache_size),
        )
        if equalize == "batch":
            raise ArgumentError("equalize='batch': batches are made by ImportanceDataset(batched=True)")

    def _opened(self, shards: Any) -> ShardSet | Tars:
        how: Any = {"rename_files": self._rename_files, "select_files": self._select_files}
        return opened(shards, self._shared.meter(), self._cache, handler=self._faults.handler, **how)
