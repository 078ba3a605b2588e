"""The fluent methods: each gives a pipeline with one more stage, and leaves the one it was called on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from pyimportance.checks import check_fraction, check_integer
from pyimportance.errors import ArgumentError
from pyimportance.load.webdataset import stages
from pyimportance.load.webdataset.applied import Applied
from pyimportance.load.webdataset.decoders import Decode, Decoder
from pyimportance.load.webdataset.stages import Handler, Stage, first_of, reraise

Self = TypeVar("Self", bound="Fluent")
Names = "str | Iterable[str]"


class Fluent:
    """What `WebDataset` can do with samples. ``handler``, where it is taken, is called with an exception:
    true leaves the sample out, false ends the epoch; by default it is raised again.

    Where there are several ranks, and epochs are passes over the data, a sample that is left out would leave
    one of them waiting for the others: the one before it (or after it) is repeated in its place, and marked
    as a pad. A handler's false is an ArgumentError then."""

    _stages: tuple[Stage, ...]

    def _with(self: Self, stage: Stage) -> Self:
        raise NotImplementedError

    def _shuffled(self: Self, samples: int, seed: int | None) -> Self:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is open between iterations."""

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -- one sample for one ---------------------------------------------------------------------------------

    def map(self: Self, f: Callable[[Any], Any], handler: Handler = reraise) -> Self:
        """f(sample) for each; where f returns None the sample is left out. See `select` for a choice."""
        return self._with(Stage(Applied(f, handler, keyed=True)))

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
        return self.map(decoder, handler)

    def map_dict(self: Self, handler: Handler = reraise, **functions: Callable[[Any], Any]) -> Self:
        """``map_dict(jpg=f)``: f of that part."""
        if not functions:
            raise ArgumentError("map_dict: name a part, map_dict(jpg=f)")
        return self._with(Stage(Applied(_MapDict(functions), handler)))

    def map_tuple(self: Self, *functions: Callable[[Any], Any] | None, handler: Handler = reraise) -> Self:
        """The i-th function of the i-th value; None leaves it as it is."""
        return self._with(Stage(Applied(_MapTuple(functions), handler)))

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
        return self._with(
            Stage(Applied(_ToTuple(tuple(map(_names, names)), missing_is_error, strict), handler))
        )

    def rename(self: Self, handler: Handler = reraise, keep: bool = True, **new: str | Iterable[str]) -> Self:
        """``rename(image="jpg;png")``. keep: parts that are not named stay."""
        return self._with(
            Stage(Applied(_Rename({name: _names(old) for name, old in new.items()}, keep), handler))
        )

    def rename_keys(
        self: Self,
        *pairs: tuple[str, str],
        keep_unselected: bool = False,
        must_match: bool = True,
        duplicate_is_error: bool = True,
        **new: str,
    ) -> Self:
        """``rename_keys(image="*.jpg")``: of parts by pattern; where several match, the last decides."""
        patterns = tuple((pattern, name) for name, pattern in [*pairs, *new.items()])
        return self._with(
            Stage(Applied(_RenameKeys(patterns, keep_unselected, must_match, duplicate_is_error)))
        )

    def extract_keys(
        self: Self,
        *patterns: str | Iterable[str],
        duplicate_is_error: bool = True,
        ignore_missing: bool = False,
    ) -> Self:
        """``extract_keys("*.jpg", "*.cls;*.txt")``: a tuple of the parts that match."""
        return self._with(
            Stage(Applied(_ExtractKeys(tuple(map(_names, patterns)), duplicate_is_error, ignore_missing)))
        )

    # -- fewer, or others -----------------------------------------------------------------------------------

    def select(self: Self, predicate: Callable[[Any], Any]) -> Self:
        """The samples for which predicate(sample) is true. Ranks then differ in length: see `with_epoch`."""
        return self._with(Stage(stages.Selected(predicate), takes=None, chooses=True))

    def rsample(self: Self, p: float = 0.5) -> Self:
        """Each sample with probability p, drawn anew in each epoch, by its seed."""
        return self._with(
            Stage(stages.Sampled(check_fraction("p", p)), takes=None, exact=False, chooses=True)
        )

    def slice(self: Self, *bounds: int | None) -> Self:
        """As itertools.islice: of what each loader process yields in an epoch."""
        return self._with(Stage(stages.Sliced(slice(*bounds)), takes=None, exact=False, mixes=True))

    def shuffle(self: Self, size: int, *, initial: int = 100, seed: int | None = None, **others: Any) -> Self:
        """Shuffles by the seed, in every epoch otherwise. Before samples are batched or counted off, the
        whole epoch is planned so (load/plan.py), in windows of ``size`` samples at least, and nothing is held
        back: positions are exact. Later, it is a buffer of ``size`` in each process, which has no position.
        """
        for name in others:
            raise ArgumentError(f"shuffle: {name}= is not taken; the order is that of seed=, in any process")
        if check_integer("size", size, 0) < 1:
            return self
        if not any(stage.mixes for stage in self._stages):
            return self._shuffled(size, seed)
        if seed is not None:
            raise ArgumentError("shuffle: a buffer is seeded by the data set's seed; give WebDataset(seed=)")
        buffer = stages.Buffered(size, check_integer("initial", initial, 1))
        return self._with(Stage(buffer, exact=False, mixes=True))

    # -- batches --------------------------------------------------------------------------------------------

    def batched(
        self: Self,
        batchsize: int,
        collation_fn: Callable[[list[Any]], Any] | None = stages.collated,
        partial: bool = True,
    ) -> Self:
        """Batches, made by collation_fn (None: lists) of so many samples; partial: the last may be short."""
        size = check_integer("batchsize", batchsize, 1)
        stage = stages.Batched(size, collation_fn, partial)
        return self._with(Stage(stage, takes=size, mixes=True, partial=partial))

    def listed(self: Self, batchsize: int, partial: bool = True) -> Self:
        """Batches as lists."""
        return self.batched(batchsize, None, partial)

    def unbatched(self: Self) -> Self:
        """The samples of batches, which are tuples or dicts of columns."""
        return self._with(Stage(stages.Unbatched(lists=False), takes=None, exact=False, mixes=True))

    def unlisted(self: Self) -> Self:
        """The samples of batches that are lists."""
        return self._with(Stage(stages.Unbatched(lists=True), takes=None, exact=False, mixes=True))

    # -- anything -------------------------------------------------------------------------------------------

    def compose(self: Self, *functions: Callable[[Iterator[Any]], Iterable[Any]]) -> Self:
        """Functions of an iterator that give one: own ones, and webdataset's filters. What they hold back is
        not known, so a pipeline with them has no `state_dict`, and no length."""
        result = self
        for f in functions:
            if not callable(f) and not hasattr(f, "run"):
                raise ArgumentError(f"compose({f!r}): must be a function of an iterator")
            result = result._with(Stage(stages.Each(f), takes=None, exact=False, mixes=True, chooses=True))
        return result

    def append(self, f: Callable[[Iterator[Any]], Iterable[Any]]) -> None:
        """`compose`, of this pipeline itself."""
        self._stages = self.compose(f)._stages

    def log_keys(self: Self, logfile: str | os.PathLike[str] | None = None) -> Self:
        """Adds a line for each sample to a file: its number in this process, its key, its sample id."""
        return self if not logfile else self._with(Stage(stages.Logged(os.fspath(logfile))))

    def xdecode(self: Self, *args: Any, **kw: Any) -> Self:
        raise ArgumentError("xdecode: not taken, as it unpickles; use decode, or map_dict(jpg=f)")

    def mcached(self: Self) -> Self:
        raise ArgumentError(
            "mcached: not taken, as it keeps one epoch's order for ever; the system's page cache keeps tars"
        )

    def lmdb_cached(self: Self, *args: Any, **kw: Any) -> Self:
        raise ArgumentError(
            "lmdb_cached: not taken, as it stores pickles and one epoch's order; see write_shards"
        )


def _names(names: str | Iterable[str]) -> tuple[str, ...]:
    return tuple(names.split(";") if isinstance(names, str) else names)


@dataclass(frozen=True)
class _MapDict:
    functions: Mapping[str, Callable[[Any], Any]]

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        return {**sample, **{name: f(first_of(sample, (name,))) for name, f in self.functions.items()}}


@dataclass(frozen=True)
class _MapTuple:
    functions: tuple[Callable[[Any], Any] | None, ...]

    def __call__(self, sample: Any) -> tuple[Any, ...]:
        functions = [*self.functions[: len(sample)], *[None] * (len(sample) - len(self.functions))]
        return tuple(v if f is None else f(v) for f, v in zip(functions, sample, strict=True))


@dataclass(frozen=True)
class _ToTuple:
    names: tuple[tuple[str, ...], ...]
    missing_is_error: bool
    none_is_error: bool

    def __call__(self, sample: dict[str, Any]) -> tuple[Any, ...]:
        values = tuple(first_of(sample, n, missing_is_error=self.missing_is_error) for n in self.names)
        if self.none_is_error and any(value is None for value in values):
            raise ArgumentError(f"to_tuple: a part of sample {sample.get('__key__')!r} is None")
        return values


@dataclass(frozen=True)
class _Rename:
    names: Mapping[str, tuple[str, ...]]
    keep: bool

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        gone = {old for names in self.names.values() for old in names}
        rest = {name: value for name, value in sample.items() if name not in gone} if self.keep else {}
        return {**rest, **{name: first_of(sample, old) for name, old in self.names.items()}}


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, p) or fnmatchcase(f".{name}", p) for p in patterns)


@dataclass(frozen=True)
class _RenameKeys:
    patterns: tuple[tuple[str, str], ...]
    keep_unselected: bool
    must_match: bool
    duplicate_is_error: bool

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        matched = set()
        for old, value in sample.items():
            found = next(
                ((p, new) for p, new in reversed(self.patterns) if _matches(old.lower(), (p,))), None
            )
            if found is None:
                if self.keep_unselected or old.startswith("__"):
                    result[old] = value
                continue
            matched.add(found[0])
            if found[1] not in result:
                result[found[1]] = value
            elif self.duplicate_is_error:
                raise ArgumentError(
                    f"rename_keys: two parts of {sample.get('__key__')!r} become {found[1]!r}"
                )
        missing = [p for p, _ in self.patterns if p not in matched]
        if self.must_match and missing:
            raise ArgumentError(f"rename_keys: nothing in {sample.get('__key__')!r} matches {missing[0]!r}")
        return result


@dataclass(frozen=True)
class _ExtractKeys:
    patterns: tuple[tuple[str, ...], ...]
    duplicate_is_error: bool
    ignore_missing: bool

    def __call__(self, sample: dict[str, Any]) -> tuple[Any, ...]:
        values = []
        for patterns in self.patterns:
            found = [name for name in sample if _matches(name, patterns)]
            if not found and not self.ignore_missing:
                raise ArgumentError(
                    f"extract_keys: nothing in {sample.get('__key__')!r} matches {';'.join(patterns)}"
                )
            if len(found) > 1 and self.duplicate_is_error:
                raise ArgumentError(
                    f"extract_keys: {', '.join(found)} in {sample.get('__key__')!r} "
                    f"match {';'.join(patterns)}"
                )
            values += [sample[name] for name in found[:1]]
        return tuple(values)
