"""Which of its samples a worker yields in an epoch, how often each, and with which weights.

``ids`` and ``keep`` leave out samples for good. What is left, a sampler draws from anew every epoch: any with

    count(num_samples, epoch) -> int | None     how many an epoch has, None where the scores decide
    sample(scores, epoch, seed) -> Draw         a pure function

such as those of pyimportance.samplers that go epoch by epoch. One that can count is asked about each worker's
samples by themselves, with a seed of the worker's own: ranks know all lengths without reading what others
hold. One that cannot is asked about all samples, and so are ``ids`` and rates of bins: then every rank reads
the indexes of all workers (tier "index"), once for a generation. So is one that draws or weighs a sample by
how its score compares with all others' (``compares = True``, as of ActiveSampling, ActiveWeighting and
WeightedSampling): of what it draws each worker has what it holds, and `equalize` makes ranks' shares even.

The weights of one that scales them batch by batch (``per_batch = True``, as of ActiveWeighting) have the mean
1 in each batch of ``batched=True``. Who batches samples gives theirs to samplers.batch_weights.

Samples that an epoch does not have are not read, unless they lie between two that it has and are smaller than
a page of the file, or than 16 KiB behind a URL (ahead.py). Who holds a window whole reads a sample once
however often it is there, and its copies are apart (plan.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt

from pyimportance.checks import check_fraction, check_integer, check_nonnegative
from pyimportance.errors import ArgumentError
from pyimportance.io.meter import Meter
from pyimportance.load.merge import Ints
from pyimportance.load.plan import kept, most_important
from pyimportance.load.tars import Tars
from pyimportance.order.checks import part_of
from pyimportance.order.samplers.active import batch_weights
from pyimportance.order.samplers.chance import Chance
from pyimportance.order.samplers.curriculum import Curriculum
from pyimportance.order.samplers.draw import Draw
from pyimportance.order.samplers.rs2 import RS2
from pyimportance.score.inputs import integers
from pyimportance.score.values import Scores
from pyimportance.shards.sample_index import SampleIndex
from pyimportance.shards.shard_set import ShardSet

Shards = ShardSet | Tars
CURRICULUM = "curriculum"  # a value of mix
MOST_RATE = 100  # an epoch with a sample more often would be several, and is held in memory as one


class Sampler(Protocol):
    """What `ImportanceDataset(sampler=)` takes; ``compares`` and ``per_batch`` are False where it lacks them.
    Its repr must say all that it goes by: a state of the loader is refused where that differs (a frozen
    dataclass does)."""

    def count(self, num_samples: int, epoch: int) -> int | None: ...
    def sample(self, scores: Scores, epoch: int, seed: int = 0) -> Draw: ...


class Held(NamedTuple):
    """What there is to choose from of a worker's samples."""

    ids: Ints
    score: npt.NDArray[np.float32] | None
    bin: npt.NDArray[np.int32]


@dataclass(frozen=True)
class Choosing:
    """The options by which samples are chosen, and what they come to for a generation of shards.

    rates: of every bin, how often a sample of it is there in an epoch, on average.
    Raises ArgumentError for options that are not allowed.
    """

    seed: int
    keep: float
    ids: Ints | None
    sampler: Sampler | None
    rates: tuple[float, ...] | None
    _latest: dict[str, tuple[Any, Any]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep", check_fraction("keep", self.keep, positive=True))
        if self.sampler is not None:
            if not all(callable(getattr(self.sampler, verb, None)) for verb in ("count", "sample")):
                raise ArgumentError(
                    f"sampler={self.sampler!r}: must draw an epoch at a time, by count(num_samples, epoch) "
                    "and sample(scores, epoch, seed), as pyimportance.samplers.RS2 does"
                )
            if self.rates is not None:
                raise ArgumentError("mix: rates of bins choose samples, and so does sampler=; give one")
        if self.rates is not None and not any(self.rates):
            raise ArgumentError("mix: all rates of bins are 0; nothing would be read")

    def __str__(self) -> str:
        """Tells these options from others, for a loader's state."""
        ids = "" if self.ids is None else hashlib.sha256(self.ids.tobytes()).hexdigest()
        return f"keep={self.keep} ids={ids} sampler={self.sampler!r} rates={self.rates}"

    @property
    def draws(self) -> bool:
        """Whether epochs differ in the samples they have."""
        return self.sampler is not None or self.rates is not None

    @property
    def has_gaps(self) -> bool:
        """Whether an epoch leaves out samples here and there; those that ``keep`` leaves lie together."""
        return self.ids is not None or self.sampler is not None or min(self.rates or (1,)) < 1

    @property
    def _compares(self) -> bool:
        return getattr(self.sampler, "compares", False) is True

    def weigh(self, weights: npt.NDArray[np.float32]) -> None:
        """Makes a batch's weights of those that were drawn, in place."""
        if getattr(self.sampler, "per_batch", False) is True:
            weights[:] = batch_weights(weights)

    @property
    def takes_all(self) -> bool:
        """Whether ``ids`` and ``keep`` leave every sample."""
        return self.ids is None and self.keep >= 1

    def rows(self, index: SampleIndex, *, descending: bool) -> npt.NDArray[np.intp]:
        """Rows of a worker's index, ascending, that ``ids`` and ``keep`` leave."""
        if self.ids is None:
            return most_important(index.score, index.ids, self.keep, descending=descending)
        rows = np.flatnonzero(np.isin(index.ids, self.ids))
        score = None if index.score is None else index.score[rows]
        return rows[most_important(score, index.ids[rows], self.keep, descending=descending)]

    def sizes(self, shards: Shards, epoch: int, meter: Meter) -> list[int]:
        """How many samples each worker's epoch has. ArgumentError where none has any of those there are."""
        left = self._left(shards)
        sizes = self._sizes(shards, left, epoch, meter)
        if any(left) and not any(sizes):
            what = (
                "mix: what rates leave"
                if self.rates is not None
                else f"sampler={self.sampler!r}: what it draws"
            )
            raise ArgumentError(f"{what} of {sum(left)} samples comes to none in epoch {epoch}")
        return sizes

    def _sizes(self, shards: Shards, left: list[int], epoch: int, meter: Meter) -> list[int]:
        if self.sampler is not None and not self._compares:
            counts = [self.sampler.count(n, epoch) for n in left]
            if None not in counts:
                return [check_integer("sampler: count", n, 0) for n in counts]
        if not self.draws:
            return left
        if self.rates is not None:
            return [sum(self._counts_by_rates(shards, held)) for held in self._every(shards, meter)]
        return [self.draw(shards, w, epoch, meter).num_samples for w in range(shards.workers)]

    def draw(self, shards: Shards, worker: int, epoch: int, meter: Meter) -> Draw:
        """What ``worker``'s epoch consists of; where `draws`."""
        if self.rates is not None:
            return self._by_rates(shards, worker, epoch, meter)
        sampler = cast(Sampler, self.sampler)
        count = None if self._compares else sampler.count(self._left(shards)[worker], epoch)
        if count is None:
            return self._of_all(shards, worker, epoch, meter)
        held = self._held(shards, worker, meter)
        draw = sampler.sample(_scores(shards, [held], sampler), epoch, self._seed_of(worker))
        if draw.num_samples != count:
            raise ArgumentError(
                f"sampler={sampler!r}: drew {draw.num_samples} samples of worker {worker} for epoch {epoch}; "
                f"its count says {count}"
            )
        return draw

    def try_out(self, shards: Shards, workers: Iterable[int], epoch: int, meter: Meter) -> None:
        """Raises what `draw` would of these workers' scores, before loader processes do."""
        for worker in workers if self.draws else ():
            self.draw(shards, worker, epoch, meter)

    def _left(self, shards: Shards) -> list[int]:
        """How many samples of each worker ``ids`` and ``keep`` leave."""
        left: list[int] = self._once("left", shards.digest, lambda: self._count_left(shards))
        return left

    def _count_left(self, shards: Shards) -> list[int]:
        held = list(shards.samples_per_worker)
        if self.ids is not None:
            workers = shards.worker_of(self.ids)
            if (unknown := np.flatnonzero(workers < 0)).size:
                raise ArgumentError(
                    f"ids: {unknown.size} of {len(self.ids)} are not in {shards.root}, sample "
                    f"{self.ids[unknown[0]]} for one"
                )
            held = np.bincount(workers, minlength=shards.workers).tolist()
        return [kept(n, self.keep) for n in held]

    def _of_all(self, shards: Shards, worker: int, epoch: int, meter: Meter) -> Draw:
        """``worker``'s samples of a draw from all."""
        sampler, every = cast(Sampler, self.sampler), self._every(shards, meter)

        def draw() -> Draw:
            return sampler.sample(_scores(shards, every, sampler), epoch, self.seed)

        drawn: Draw = self._once("draw", (shards.digest, epoch), draw)
        mine = np.isin(drawn.ids, every[worker].ids)
        return Draw(drawn.ids[mine], drawn.weights[mine], drawn.biased)

    def _held(self, shards: Shards, worker: int, meter: Meter) -> Held:
        index = shards.index(worker, meter)
        rows = self.rows(index, descending=shards.descending)
        bins = np.zeros(len(index), np.int32) if index.bin is None else index.bin
        return Held(index.ids[rows], None if index.score is None else index.score[rows], bins[rows])

    def _every(self, shards: Shards, meter: Meter) -> list[Held]:
        """What every worker holds, read once for a generation."""
        held: list[Held] = self._once(
            "held", shards.digest, lambda: [self._held(shards, w, meter) for w in range(shards.workers)]
        )
        return held

    def _once(self, name: str, what: Any, make: Callable[[], Any]) -> Any:
        """What ``make`` makes, kept until something else is asked for by that name."""
        if name not in self._latest or self._latest[name][0] != what:
            self._latest[name] = what, make()
        return self._latest[name][1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_latest": {}}

    def _by_rates(self, shards: Shards, worker: int, epoch: int, meter: Meter) -> Draw:
        """Of each bin's samples, all equally often, but for a random part of them."""
        held, chance = self._every(shards, meter)[worker], Chance("rates", self._seed_of(worker), epoch)
        drawn = [np.zeros(0, np.int64)]
        for b, count in enumerate(self._counts_by_rates(shards, held)):
            ids = np.sort(held.ids[held.bin == b])
            some = chance.permutation(len(ids))
            drawn.append(ids[some[np.arange(count) % max(1, len(ids))]])
        return Draw.plain(np.concatenate(drawn), biased=len(set(self.rates or ())) > 1)

    def _counts_by_rates(self, shards: Shards, held: Held) -> list[int]:
        """floor(rate * n + 1/2) of each bin's n samples."""
        rates = cast("tuple[float, ...]", self.rates)
        if len(rates) != shards.bins:
            raise ArgumentError(f"mix: {len(rates)} rates; {shards.root} has {shards.bins} bins")
        return [
            part_of(r, n)
            for r, n in zip(rates, np.bincount(held.bin, minlength=len(rates)).tolist(), strict=True)
        ]

    def _seed_of(self, worker: int) -> int:
        return self.seed + ((worker + 1) << 128)


def choosing(
    *,
    seed: int,
    keep: float,
    ids: npt.ArrayLike | None,
    mix: str | Sequence[float],
    sampler: Sampler | None,
    epochs: int | None,
) -> tuple[Choosing, str]:
    """The options as `ImportanceDataset` takes them: Choosing, and the mix that it leaves to do."""
    rates = None
    if hasattr(mix, "tolist"):  # an array
        mix = mix.tolist()
    if mix == CURRICULUM:
        if epochs is None:
            raise ArgumentError("mix='curriculum': give epochs, how many the training has")
        if sampler is not None:
            raise ArgumentError("mix='curriculum' chooses samples, and so does sampler=; give one")
        sampler = Curriculum(epochs)
    elif epochs is not None:
        raise ArgumentError(f"epochs={epochs}: is for mix='curriculum'")
    elif isinstance(mix, list | tuple):
        rates = tuple(check_nonnegative(f"mix: rate of bin {b}", rate) for b, rate in enumerate(mix))
        if max(rates, default=0) > MOST_RATE:
            raise ArgumentError(f"mix: a rate of {max(rates)}; at most {MOST_RATE} are allowed")
    if ids is not None:
        numbers = integers("ids", ids)
        ids = np.unique(numbers)
        if not len(ids):
            raise ArgumentError("ids: there are none; nothing would be read")
        if len(ids) != len(numbers):
            raise ArgumentError(f"ids: {len(numbers) - len(ids)} are there twice")
    chosen = Choosing(seed, keep, ids, sampler, rates)
    return chosen, "stratified" if mix == CURRICULUM or rates is not None else cast(str, mix)


def _scores(shards: Shards, held: list[Held], sampler: Sampler) -> Scores:
    """Those of the samples held. RS2 is blind to them, and content without any."""
    ids = np.concatenate([some.ids for some in held])
    order = np.argsort(ids)
    known = [some.score for some in held if some.score is not None]
    if len(known) < len(held):
        if not isinstance(sampler, RS2):
            raise ArgumentError(f"sampler={sampler!r}: {shards.root} carries no scores to draw by")
        known = [np.full(len(ids), np.nan, np.float32)]
    return Scores(np.concatenate(known)[order], ids[order], shards.measure, shards.descending)
