"""The sequence that one worker yields in an epoch, window by window.

It is a function of (generation digest, seed, epoch, worker) and the options below, and of nothing else:
ranks, world size, batch size and loader processes only cut it up (deal.py).

An epoch is cut into windows of about ``window_bytes``, the unit a reader holds in memory. The samples of
a bin, in storage order, form blocks of contiguous bytes; blocks are shuffled over the whole epoch and
samples within a window. So a window reads few, long ranges, whichever blocks they come from, and data
that fit one window are shuffled perfectly.

In compressed tars blocks are of whole frames, as one that is cut would be read twice. Where samples of
several bins lie in the same frames, the blocks of those have the same place in each bin's order, and so are
mostly in one window, or in two that follow one another, which read a frame once (carried.py).

Copies of a sample that the epoch has several times belong to one block, so that one read is enough, and
are spread over the window: a batch holds two only where there are more than three for four batches of it.

mix="stratified": the bins are merged in proportion (merge.py), so that every batch draws from all bins,
window edges or not. mix="sequential": bins one after the other, the most important first.
shuffle=False: every bin in storage order, which in a compact generation is the order of importance.
shuffle="shards": a bin's shards in random order, the samples of each in storage order.

Random numbers are raw words of PCG64 that sort the samples: unlike the methods of numpy.random.Generator,
bit streams never change between NumPy versions, and an epoch must be the same on every rank.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pyimportance import _C
from pyimportance.checks import check_flag, check_integer
from pyimportance.errors import ArgumentError
from pyimportance.load.merge import Ints, Seeds, merged, taken

MIXES = ("stratified", "sequential")
SHARDS = "shards"  # a value of shuffle
BLOCKS_PER_WINDOW = 64
_MOST = np.uint64(2**64 - 1)


@dataclass(frozen=True)
class Stock:
    """What a worker holds, a row per sample: file int32 [n], offset and nbytes int64 [n], bin int32 [n].

    frame: int32 [n] where files are compressed, the frame that each begins in.
    """

    file: NDArray[np.int32]
    offset: Ints
    nbytes: Ints
    bin: NDArray[np.int32]
    frame: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        columns = (self.file, self.offset, self.nbytes, self.bin, self.frame)
        lengths = {len(column) for column in columns if column is not None}
        if len(lengths) != 1:
            raise ArgumentError(f"stock: columns of different lengths {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.file)

    @cached_property
    def storage_order(self) -> Ints | None:
        """Rows by (bin, file, offset); None where they are in that order, as in a compact generation."""
        if _C.in_storage_order(self.bin, self.file, self.offset):
            return None
        return np.lexsort((self.offset, self.file, self.bin)).astype(np.int64)

    def rows(self, places: Ints) -> Ints:
        """The rows at these places of the storage order."""
        return places if self.storage_order is None else self.storage_order[places]

    @cached_property
    def has_copies(self) -> bool:
        """Whether a sample is there more than once."""
        rows = slice(None) if self.storage_order is None else self.storage_order
        return bool(_copies(self.file[rows], self.offset[rows]).any())

    def some(self, rows: Ints) -> Stock:
        """These rows; one may be there more than once."""
        frame = None if self.frame is None else self.frame[rows]
        return Stock(self.file[rows], self.offset[rows], self.nbytes[rows], self.bin[rows], frame)

    def blocks(self, nbytes: int) -> Blocks:
        """Storage order cut into runs of a bin's samples in one file, each about ``nbytes`` long; none
        begins with a copy of the sample before. What is compressed, into the bins' shares of runs of whole
        frames that are about as long.
        """
        bin, columns = self.bin, (self.offset, self.frame, self.nbytes)
        if self.frame is None:
            start = _C.block_starts(self.storage_order, bin, self.file, *columns, nbytes)
            place = np.arange(len(start))
        else:
            order = np.lexsort((self.offset, self.file))
            start = _C.block_starts(order, np.zeros_like(bin), self.file, *columns, nbytes)
            run = np.empty(len(self), np.int32)
            run[order] = np.repeat(np.arange(len(start)), np.diff(start, append=len(self)))
            start = _C.block_starts(self.storage_order, bin, run, *columns, sys.maxsize)
            place = run[self.rows(start)].astype(np.int64)
        return Blocks(start, np.append(start[1:], len(self)), bin[self.rows(start)], place)


@dataclass(frozen=True)
class Blocks:
    """Runs start[i] .. end[i] - 1 of the storage order, each of one bin; those of the same frames have the
    same place, int64 [i], which is less than their number.
    """

    start: Ints
    end: Ints
    bin: NDArray[np.int32]
    place: Ints


@dataclass(frozen=True)
class Recipe:
    """The options that decide a worker's sequence; a loader's state carries their digest.

    chosen: those by which its samples are chosen, in words.
    """

    seed: int = 0
    shuffle: bool | str = True
    mix: str = "stratified"
    window_bytes: int = 32 * 2**20
    chosen: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", check_integer("seed", self.seed, 0))
        object.__setattr__(self, "window_bytes", check_integer("window_bytes", self.window_bytes, 1))
        if self.shuffle != SHARDS:
            if isinstance(self.shuffle, str):
                raise ArgumentError(f"shuffle={self.shuffle!r}: must be True, False or {SHARDS!r}")
            object.__setattr__(self, "shuffle", check_flag("shuffle", self.shuffle))
        if self.mix not in MIXES:
            allowed = f"{', '.join(MIXES)}, curriculum, or a list of a rate for each bin"
            raise ArgumentError(f"mix={self.mix!r}: allowed are {allowed}")


class EpochPlan:
    """One worker's sequence in one epoch: positions 0 .. len - 1, in windows.

    ``bounds`` int64 [windows + 1]: window k holds the positions bounds[k] .. bounds[k + 1] - 1, and
    ``window(k)`` gives their rows in the stock. Only the window that is asked for is worked out.
    """

    def __init__(self, stock: Stock, recipe: Recipe, *, digest: str, epoch: int, worker: int) -> None:
        self._recipe = recipe
        # 128 bits of the generation's digest are plenty to tell generations apart.
        words = [int(digest[i : i + 8], 16) for i in range(0, min(len(digest), 32), 8)]
        self._entropy = [recipe.seed, epoch, worker, *words]
        block_bytes = sys.maxsize if recipe.shuffle == SHARDS else recipe.window_bytes // BLOCKS_PER_WINDOW
        self._stock, blocks = stock, stock.blocks(max(block_bytes, 1))
        bins = int(blocks.bin.max(initial=0)) + 1
        self._seeds: Seeds = np.arange(bins, dtype=np.uint64)
        order = np.arange(len(blocks.start))
        if recipe.shuffle:
            raw = self._random(0, bins + len(blocks.start))
            self._seeds = raw[:bins]
            order = np.lexsort((raw[bins:][blocks.place], blocks.bin))
        # Blocks in their new order, each with its samples in storage order: where each ends in the epoch, and
        # how far it is from a place there to that in storage order.
        counts = (blocks.end - blocks.start)[order]
        self._ends = np.cumsum(counts)
        self._shift = blocks.start[order] - (self._ends - counts)
        self._sizes = np.zeros(bins, np.int64)
        np.add.at(self._sizes, blocks.bin[order], counts)
        self._first = np.cumsum(self._sizes) - self._sizes
        windows = max(1, -(-int(stock.nbytes.sum()) // recipe.window_bytes))
        windows = max(1, min(windows, len(stock)))
        self.bounds: Ints = np.arange(windows + 1, dtype=np.int64) * len(stock) // windows

    def __len__(self) -> int:
        return len(self._stock)

    @property
    def windows(self) -> int:
        return len(self.bounds) - 1

    @property
    def bins(self) -> int:
        return len(self._sizes)

    def windows_of(self, positions: Ints) -> Ints:
        """The windows of these positions: int64 [n]."""
        return np.searchsorted(self.bounds, positions, side="right") - 1

    def window(self, k: int) -> Ints:
        """Rows of the stock at positions bounds[k] .. bounds[k + 1] - 1, in the order they are yielded."""
        start, end = self._reach(int(self.bounds[k])), self._reach(int(self.bounds[k + 1]))
        pool = np.concatenate(
            [self._pool(first + a, first + b) for first, a, b in zip(self._first, start, end, strict=True)]
        )
        if self._recipe.shuffle is True:
            # Samples of a bin are shuffled among the bin's own places in the window.
            words = self._random(k + 1, len(pool))
            if self._stock.has_copies:
                words = _apart(words, _copies(self._stock.file[pool], self._stock.offset[pool]))
            pool = pool[_C.mix_shuffle(words, end - start)]
        if self._recipe.mix == "sequential":
            return pool
        return pool[merged(self._sizes, self._seeds, start, end)]

    def _pool(self, begin: int, end: int) -> Ints:
        """Rows begin .. end - 1 of the blocks in their new order."""
        first = int(np.searchsorted(self._ends, begin, side="right"))
        last = int(np.searchsorted(self._ends, end, side="left")) + 1
        ends = np.minimum(self._ends[first:last], end)
        begins = np.append(begin, ends[:-1])[: len(ends)]
        return self._stock.rows(np.arange(begin, end) + np.repeat(self._shift[first:last], ends - begins))

    def _reach(self, total: int) -> Ints:
        if self._recipe.mix == "sequential":
            ends: Ints = np.clip(total - self._first, 0, self._sizes)
            return ends
        return taken(self._sizes, self._seeds, np.zeros_like(self._sizes), total)

    def _random(self, stream: int, count: int) -> NDArray[np.uint64]:
        words: NDArray[np.uint64] = np.random.PCG64(
            np.random.SeedSequence(self._entropy, spawn_key=(stream,))
        ).random_raw(count)
        return words


def _copies(file: NDArray[np.int32], offset: Ints) -> NDArray[np.bool_]:
    """Which samples are the same as the one before."""
    same = np.zeros(len(offset), np.bool_)
    np.logical_and(offset[1:] == offset[:-1], file[1:] == file[:-1], out=same[1:])
    return same


def _apart(words: NDArray[np.uint64], copies: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Random words for samples, some of them copies of the one before: those of k copies are a k-th of all
    words there are from one another, give or take a quarter of that, so that no batch is like another one.
    """
    first = np.flatnonzero(~copies)
    many = np.diff(first, append=len(words))
    c = (np.arange(len(words)) - np.repeat(first, many)).astype(np.uint64)
    k = np.repeat(many, many).astype(np.uint64)
    of_all = words[first] << np.uint64(32) | words[first] >> np.uint64(32)  # other bits than a copy's own
    apart: NDArray[np.uint64] = np.repeat(of_all, many) // k + c * (_MOST // k) + words // (4 * k)
    return np.where(k == 1, words, apart)  # beyond the last word is the first one


def most_important(
    score: NDArray[np.float32] | None, ids: Ints, fraction: float, *, descending: bool
) -> NDArray[np.intp]:
    """The rows of the ceil(fraction * n) most important samples, in their old order.

    score float32 [n], ids int64 [n]; descending: a high score is the more important. Ties go to the
    smaller id and NaN comes last. Raises ArgumentError where there are no scores to choose by.
    """
    if fraction >= 1:
        return np.arange(len(ids))
    if score is None:
        raise ArgumentError(f"keep={fraction}: these shards carry no scores to choose by")
    key = -score if descending else score  # NumPy sorts NaN last, as its negative is NaN too
    return np.sort(np.lexsort((ids, key))[: kept(len(ids), fraction)])


def kept(samples: int, fraction: float) -> int:
    """ceil(fraction * samples), and 0.1 * 30 is 3: the rounding of the product must not add a sample."""
    return min(samples, max(1, int(np.ceil(fraction * samples - 1e-6))))
