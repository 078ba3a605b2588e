"""The fluent methods: each gives a pipeline with one more stage, and leaves the one it was called on."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from pyimportance.checks import check_fraction, check_integer
from pyimportance.errors import ArgumentError
from pyimportance.load.webdataset import functions as functions_of
from pyimportance.load.webdataset import stages
from pyimportance.load.webdataset.applied import Applied
from pyimportance.load.webdataset.decoders import Decode, Decoder
from pyimportance.load.webdataset.functions import (
    ExtractKeys,
    MapDict,
    MapTuple,
    Rename,
    RenameKeys,
    ToTuple,
    names_of,
)
from pyimportance.load.webdataset.piped import Piped
from pyimportance.load.webdataset.stages import Handler, reraise

Self = TypeVar("Self", bound="Fluent")


class Fluent(Piped):
    """What `WebDataset` can do with samples. ``handler``, where it is taken, is called with an exception:
    true leaves the sample out, false ends the epoch; by default it is raised again. It is not asked about
    what is wrong with the pipeline: a pickle that was not asked for, a package that is not installed.

    Where there are several ranks, and epochs are rounds of the data, a sample that is left out would leave
    one of them waiting for the others: the one before it (or after it) is repeated in its place, and marked
    as a pad. A handler's false is an ArgumentError then, and so are `select`, `rsample`, `compose`, and what
    takes lists and batches apart that `listed` and `batched` did not make right before: how many these yield
    is for the samples of each rank to say. `with_epoch` evens that out, and ``equalize="join"`` allows it."""

    def close(self) -> None:
        """Nothing is open between iterations."""

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -- one sample for one ---------------------------------------------------------------------------------

    def map(self: Self, f: Callable[[Any], Any], handler: Handler = reraise) -> Self:
        """f(sample) for each; where f returns None the sample is left out. See `select` for a choice."""
        return self._with(Applied("map", f, handler, keyed=True))

    def decode(
        self: Self,
        *args: str | Decode,
        pre: Iterable[Decode] | None = None,
        post: Iterable[Decode] | None = None,
        only: str | Iterable[str] | None = None,
        partial: bool = False,
        handler: Handler = reraise,
        unsafe_pickle: bool = False,
    ) -> Self:
        """Decodes the parts by their extensions; see `decoders.Decoder`."""
        decoder = Decoder(args, pre=pre, post=post, only=only, partial=partial, unsafe_pickle=unsafe_pickle)
        return self._with(Applied("decode", decoder, handler))

    def xdecode(
        self: Self,
        *decoders: tuple[str, Callable[[Any], Any] | bool],
        must_decode: bool = True,
        defaults: Iterable[tuple[str, Callable[[Any], Any] | bool]] | None = None,
        unsafe_pickle: bool = False,
        **functions: Callable[[Any], Any] | bool,
    ) -> Self:
        """``xdecode(("*.jpg", f), png=g)``: functions of a stream of the bytes, by pattern or extension, the
        last that matches. By default .bin stays bytes and .txt becomes text; other parts are errors, unless
        must_decode=False."""
        usual: Any = defaults
        if defaults is None:
            pickled = functions_of.unpickled if unsafe_pickle else functions_of.refused_pickle
            usual = (("*.bin", functions_of.as_bytes), ("*.txt", functions_of.as_text), ("*.pyd", pickled))
        named = ((f"*.{extension}", f) for extension, f in functions.items())
        return self._with(Applied("xdecode", functions_of.XDecode((*usual, *decoders, *named), must_decode)))

    def map_dict(self: Self, handler: Handler = reraise, **functions: Callable[[Any], Any]) -> Self:
        """``map_dict(jpg=f)``: f of that part."""
        if not functions:
            raise ArgumentError("map_dict: name a part, map_dict(jpg=f)")
        return self._with(Applied("map_dict", MapDict(functions), handler))

    def map_tuple(self: Self, *functions: Callable[[Any], Any] | None, handler: Handler = reraise) -> Self:
        """The i-th function of the i-th value; None leaves it as it is."""
        return self._with(Applied("map_tuple", MapTuple(functions), handler))

    def to_tuple(
        self: Self,
        *names: str | Iterable[str],
        handler: Handler = reraise,
        missing_is_error: bool = True,
        none_is_error: bool | None = None,
    ) -> Self:
        """``to_tuple("jpg;png", "cls")``: of each, the first that the sample has."""
        if len(names) == 1 and isinstance(names[0], str):
            names = tuple(names[0].split())
        if not names:
            raise ArgumentError("to_tuple: name a part, to_tuple('jpg', 'cls')")
        strict = missing_is_error if none_is_error is None else none_is_error
        function = ToTuple(tuple(map(names_of, names)), missing_is_error, strict)
        return self._with(Applied("to_tuple", function, handler))

    def rename(self: Self, handler: Handler = reraise, keep: bool = True, **new: str | Iterable[str]) -> Self:
        """``rename(image="jpg;png")``. keep: parts that are not named stay."""
        function = Rename({name: names_of(old) for name, old in new.items()}, keep)
        return self._with(Applied("rename", function, handler))

    def rename_keys(
        self: Self,
        *pairs: tuple[str, str],
        keep_unselected: bool = False,
        must_match: bool = True,
        duplicate_is_error: bool = True,
        **new: str,
    ) -> Self:
        """``rename_keys(image="*.jpg")``: of parts by pattern; where several match, the last decides. What no
        pattern matches is gone unless ``keep_unselected``, ``__key__`` and the likes of it too."""
        patterns = tuple((pattern, name) for name, pattern in [*pairs, *new.items()])
        function = RenameKeys(patterns, keep_unselected, must_match, duplicate_is_error)
        return self._with(Applied("rename_keys", function))

    def extract_keys(
        self: Self,
        *patterns: str | Iterable[str],
        duplicate_is_error: bool = True,
        ignore_missing: bool = False,
    ) -> Self:
        """``extract_keys("*.jpg", "*.cls;*.txt")``: a tuple of the parts that match."""
        function = ExtractKeys(tuple(map(names_of, patterns)), duplicate_is_error, ignore_missing)
        return self._with(Applied("extract_keys", function))

    # -- fewer, or others -----------------------------------------------------------------------------------

    def select(self: Self, predicate: Callable[[Any], Any]) -> Self:
        """The samples for which predicate(sample) is true."""
        return self._with(stages.Selected(predicate))

    def rsample(self: Self, p: float = 0.5) -> Self:
        """Each sample with probability p, drawn anew in each epoch, by its seed."""
        return self._with(stages.Sampled(check_fraction("p", p)))

    def slice(self: Self, *bounds: int | None) -> Self:
        """As itertools.islice: of what each loader process yields in an epoch."""
        return self._with(stages.Sliced(slice(*bounds)))

    def shuffle(
        self: Self,
        size: int,
        *,
        initial: int = 100,
        seed: int | None = None,
        rng: random.Random | None = None,
        handler: Any = None,
    ) -> Self:
        """Shuffles by the seed, in every epoch otherwise. Before samples are batched or counted off, the
        whole epoch is planned so (load/plan.py), in windows of ``size`` samples at least, and nothing is held
        back: positions are exact. Later, it is a buffer of ``size`` in each process, which has no position.

        size: below 1 leaves the order as it is. seed: by default the data set's. rng: gives the seed; not of
        several ranks, which have to agree on an order. handler: webdataset takes one, and asks it nothing.
        """
        if size < 1:
            return self
        size = check_integer("size", size, 1)
        if rng is not None:
            if seed is not None or not isinstance(rng, random.Random):
                raise ArgumentError(f"shuffle: rng={rng!r}: must be a random.Random, without seed=")
            if self.world_size > 1 and not self._pipeline.mixes:
                raise ArgumentError(
                    f"shuffle: rng=: {self.world_size} ranks share one order, which each would draw by its "
                    "own; give seed=, the same on all"
                )
            seed = rng.getrandbits(32)
        if not self._pipeline.mixes:
            return self._shuffled(size, seed)
        return self._with(stages.Buffered(size, check_integer("initial", initial, 1), seed))

    # -- batches --------------------------------------------------------------------------------------------

    def batched(
        self: Self,
        batchsize: int,
        collation_fn: Callable[[list[Any]], Any] | None = stages.collated,
        partial: bool = True,
    ) -> Self:
        """Batches, made by collation_fn (None: lists) of so many samples; partial: the last may be short."""
        size = check_integer("batchsize", batchsize, 1)
        return self._with(stages.Batched(size, collation_fn, partial))

    def listed(self: Self, batchsize: int, partial: bool = True) -> Self:
        """Batches as lists."""
        return self.batched(batchsize, None, partial)

    def unbatched(self: Self) -> Self:
        """The samples of batches, which are tuples or dicts of columns."""
        return self._with(stages.Unbatched())

    def unlisted(self: Self) -> Self:
        """The samples of batches that are lists."""
        return self._with(stages.Unlisted())

    # -- epochs --------------------------------------------------------------------------------------------

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
        if any(isinstance(stage, stages.Sliced) for stage in self._pipeline.stages):
            raise ArgumentError(
                f"{name}: after .slice() it would have nothing to go on with; keep= is a part of all"
            )

    def with_length(self: Self, n: int, silent: bool = True) -> Self:
        """Makes this the length, whatever is yielded; needed only where `len` raises."""
        self._stated_length = check_integer("n", n, 0)
        return self

    # -- anything -------------------------------------------------------------------------------------------

    def compose(self: Self, *functions: Callable[[Iterator[Any]], Iterable[Any]]) -> Self:
        """Functions of an iterator that give one: own ones, and webdataset's filters. What they hold back is
        not known, so a pipeline with them has no `state_dict`, and no length."""
        result = self
        for f in functions:
            if not callable(f) and not hasattr(f, "run"):
                raise ArgumentError(f"compose({f!r}): must be a function of an iterator")
            result = result._with(stages.Each(f))
        return result

    def append(self, f: Callable[[Iterator[Any]], Iterable[Any]]) -> None:
        """`compose`, of this pipeline itself."""
        self._pipeline = self.compose(f)._pipeline

    def log_keys(self: Self, logfile: str | os.PathLike[str] | None = None) -> Self:
        """Adds a line for each sample to a file: its number in this process, its key, its sample id."""
        return self if not logfile else self._with(stages.Logged(os.fspath(logfile)))

    def mcached(self: Self) -> Self:
        raise ArgumentError(
            "mcached: not taken, as it keeps one epoch's order for ever; the system's page cache keeps tars"
        )

    def lmdb_cached(self: Self, *args: Any, **kw: Any) -> Self:
        raise ArgumentError(
            "lmdb_cached: not taken, as it stores pickles and one epoch's order; see write_shards"
        )
