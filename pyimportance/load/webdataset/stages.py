"""The stages of a pipeline: iterator -> iterator, each of which takes no more input than its output needs.

What stages hold back between outputs decides what a position means: these hold back nothing, but for
`Buffered`, and for `Unbatched`, which gives what one input holds bit by bit.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from pyimportance.errors import ArgumentError
from pyimportance.io.lock import append_line

Handler = Callable[[Exception], Any]
"""Called with an exception: true leaves the sample out and goes on, false ends the epoch; or it raises."""


def reraise(error: Exception) -> bool:
    raise error


def always_raises(handler: Handler) -> bool:
    """Whether it is known to: ours, and webdataset's."""
    return handler is reraise or getattr(handler, "__name__", None) == "reraise_exception"


class RefusedError(ArgumentError):
    """What is wrong with the pipeline, not with a sample: no handler is asked, which would leave all out."""


class Stage(ABC):
    """A step of a pipeline: (inputs, seed) -> outputs; seed: of this epoch, rank and loader process.

    name: the method that makes it.
    takes: how many inputs make an output, None where that cannot be known beforehand.
    exact: whether it can go on in the middle of an epoch from how many inputs it took alone: all of them went
        into the outputs given so far, or were left out, and it has no other memory of them.
    mixes: whether shuffling what comes out differs from shuffling what goes in.
    chooses: whether which inputs come out, and so how many, is for the stage to say.
    """

    name: str
    exact = True
    mixes = False
    chooses = False

    @property
    def takes(self) -> int | None:
        return 1

    @abstractmethod
    def __call__(self, inputs: Iterator[Any], seed: str) -> Iterator[Any]: ...


@dataclass(frozen=True)
class Each(Stage):
    """Any function of an iterator, of webdataset's filters too."""

    f: Callable[[Iterator[Any]], Iterable[Any]]

    name, takes, exact, mixes, chooses = "compose", None, False, True, True

    def __call__(self, inputs: Iterator[Any], seed: str) -> Iterator[Any]:
        run = getattr(self.f, "run", self.f)  # how webdataset's own stages that are classes are called
        return iter(run(inputs))


@dataclass(frozen=True)
class Selected(Stage):
    predicate: Callable[[Any], Any]

    name, takes, chooses = "select", None, True

    def __call__(self, inputs: Iterator[Any], seed: str) -> Iterator[Any]:
        return (sample for sample in inputs if self.predicate(sample))


@dataclass(frozen=True)
class Sampled(Stage):
    """Each with probability p, the same ones whenever the epoch is read by as many processes."""

    p: float

    name, takes, exact, chooses = "rsample", None, False, True

    def __call__(self, inputs: Iterator[Any], seed: str) -> Iterator[Any]:
        draw = random.Random(f"rsample {seed}")
        return (sample for sample in inputs if draw.random() < self.p)


@dataclass(frozen=True)
class Sliced(Stage):
    bounds: slice

    name, takes, exact, mixes = "slice", None, False, True

    def __call__(self, inputs: Iterator[Any], seed: str) -> Iterator[Any]:
        return islice(inputs, self.bounds.start, self.bounds.stop, self.bounds.step)


@dataclass(frozen=True)
class Buffered(Stage):
    """A random one of the ``size`` that are held; ``initial`` are read before the first. seed: of its own."""

    size: int
    initial: int
    seed: int | None = None

    name, exact, mixes = "shuffle", False, True

    def __call__(self, inputs: Iterator[Any], seed: str) -> Iterator[Any]:
        draw = random.Random(f"shuffle {seed}" if self.seed is None else f"shuffle {seed} {self.seed}")
        held = list(islice(inputs, min(self.initial, self.size)))
        while held:
            held.extend(islice(inputs, min(2, self.size - len(held) + 1)))
            place = draw.randrange(len(held))
            held[place], held[-1] = held[-1], held[place]
            yield held.pop()


@dataclass(frozen=True)
class Batched(Stage):
    """``size`` inputs make an output: ``collate`` of their list, or the list. partial: so do fewer."""

    size: int
    collate: Callable[[list[Any]], Any] | None
    partial: bool

    name, mixes = "batched", True

    @property
    def takes(self) -> int:
        return self.size

    def __call__(self, inputs: Iterator[Any], seed: str) -> Iterator[Any]:
        while batch := list(islice(inputs, self.size)):
            if len(batch) == self.size or self.partial:
                yield batch if self.collate is None else self.collate(batch)


@dataclass(frozen=True)
class Unlisted(Stage):
    """What is in each input, a list."""

    name, takes, exact, mixes, chooses = "unlisted", None, False, True, True

    def __call__(self, inputs: Iterator[Any], seed: str) -> Iterator[Any]:
        for batch in inputs:
            yield from batch

    def undoes(self, batched: Batched) -> bool:
        """Whether as much comes out as went into that one, whatever it was."""
        return batched.collate is None


@dataclass(frozen=True)
class Unbatched(Unlisted):
    """The samples of a batch: of a tuple of columns, or of a dict of columns."""

    name = "unbatched"

    def __call__(self, inputs: Iterator[Any], seed: str) -> Iterator[Any]:
        for batch in inputs:
            if isinstance(batch, list | tuple):
                yield from zip(*batch, strict=True)
            elif isinstance(batch, dict):
                columns = zip(*batch.values(), strict=True)
                yield from (dict(zip(batch, row, strict=True)) for row in columns)
            else:
                raise ArgumentError(f"unbatched: a batch is a tuple or dict of columns, got {type(batch)}")

    def undoes(self, batched: Batched) -> bool:
        return batched.collate is collated


@dataclass(frozen=True)
class Logged(Stage):
    """A line per sample in a file: number, key, id."""

    path: str

    name = "log_keys"

    def __call__(self, inputs: Iterator[Any], seed: str) -> Iterator[Any]:
        for number, sample in enumerate(inputs):
            append_line(self.path, f"{number}\t{sample.get('__key__')}\t{sample.get('__index__')}")
            yield sample


def collated(samples: Sequence[Any]) -> Any:
    """Tuples or dicts of samples -> one of columns: numbers and arrays as an array, tensors stacked, else a
    list. Raises ArgumentError where samples differ in their fields, or arrays and tensors in shape.
    """
    first = samples[0]
    if isinstance(first, dict):
        if any(sample.keys() != first.keys() for sample in samples):
            names = sorted({name for sample in samples for name in sample.keys() ^ first.keys()})
            raise ArgumentError(
                f"batched: {', '.join(names)} is not in all samples of a batch; .to_tuple takes "
                "the same of each"
            )
        return {name: _column([sample[name] for sample in samples], name) for name in first}
    if not isinstance(first, list | tuple):
        raise ArgumentError(
            f"batched: samples are dicts or tuples, got {type(first).__name__}; give collation_fn="
        )
    if len({len(sample) for sample in samples}) > 1:
        raise ArgumentError("batched: tuples of different lengths in a batch")
    return tuple(_column(list(values), i) for i, values in enumerate(zip(*samples, strict=True)))


def _column(values: list[Any], name: str | int) -> Any:
    if isinstance(values[0], int | float):
        return np.array(values)
    if isinstance(values[0], np.ndarray) or hasattr(values[0], "is_sparse"):
        if len({value.shape for value in values}) > 1:
            shapes = sorted({tuple(value.shape) for value in values})
            raise ArgumentError(
                f"batched: field {name!r} has shapes {shapes} in one batch; resize, or collation_fn="
            )
        if isinstance(values[0], np.ndarray):
            return np.array(values)
        import torch

        return torch.stack(values)
    return values


def first_of(sample: Mapping[str, Any], names: Sequence[str], *, missing_is_error: bool = True) -> Any:
    """The value of the first of ``names`` that the sample has."""
    for name in names:
        if name in sample:
            return sample[name]
    if missing_is_error:
        raise ArgumentError(
            f"sample {sample.get('__key__')!r} has no {' or '.join(names)}; it has {', '.join(sample)}"
        )
    return None
