"""Who reads what: workers' sequences dealt to ranks, in rounds of one batch per rank.

With W workers and R ranks there are gcd(W, R) groups, each of W/g workers and R/g ranks in a row. The
sequences of a group's workers are merged in proportion (merge.py) and the merge is cut into rounds; a round
gives each rank of the group one batch, and the last round shares what is left evenly. So

    R == W          rank r reads worker r
    R divides W     a rank interleaves its workers
    W divides R     ranks share a worker, dealt by batch
    else            workers are split between ranks: only with elastic=True. A rank's batch then takes its
                    own workers' samples first and fills up with others', which are not local to it.

With equalize="batch" the ranks of a group that holds more samples take larger batches, so that all have the
same number of batches although unequal workers hold unequal numbers of samples.

After every round a group has consumed a prefix of its merge, hence of every worker's sequence: that
prefix, one number per worker, is all that a loader's state has to hold, and any other shape of job can go
on from it. All lengths follow from the numbers of samples per worker, so ranks agree without talking.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyimportance.checks import check_flag, check_integer
from pyimportance.errors import ArgumentError
from pyimportance.load.merge import Ints, merge, taken

EQUALIZE = ("pad", "drop", "error", "batch")


@dataclass(frozen=True)
class Share:
    """What a reader yields, in order: worker int32 [n], position in its sequence int64 [n], pad bool [n].

    Arrays of one value may be broadcast from it: an epoch may be of hundreds of millions of samples.
    """

    worker: NDArray[np.int32]
    position: Ints
    pad: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.worker)

    def process(self, process: int, processes: int, batch_size: int) -> Share:
        """The part of loader process ``process`` of ``processes``: batches process, process + processes, ...

        A DataLoader takes batches from its processes in turn, so it sees the same batches for any number.
        """
        if processes <= 1:
            return self
        begins = np.arange(process * batch_size, len(self), processes * batch_size)
        mine = (begins[:, None] + np.arange(batch_size)).reshape(-1)
        return self.where(mine[: np.searchsorted(mine, len(self))])

    def by_worker(self) -> dict[int, Share]:
        """The part of each worker that has one, in order."""
        if len(self) and self.worker.strides == (0,):  # all are of one, and nobody has written that down
            return {int(self.worker[0]): self}
        order = np.argsort(self.worker, kind="stable")
        workers, starts = np.unique(self.worker[order], return_index=True)
        ends = starts + np.bincount(self.worker)[workers]
        return {
            w: self.where(order[a:b])
            for w, a, b in zip(workers.tolist(), starts.tolist(), ends.tolist(), strict=True)
        }

    def after(self, count: int) -> Share:
        """Without its first ``count``."""
        return self.where(slice(count, None))

    def where(self, which: NDArray[Any] | slice) -> Share:
        """The part at these places, or of a mask."""
        constant = self.worker.strides == (0,)
        position = self.position[which]
        worker = np.broadcast_to(self.worker[:1], len(position)) if constant else self.worker[which]
        return Share(worker, position, self.pad[which])


@dataclass(frozen=True)
class Deal:
    """The samples of one epoch, from ``consumed`` on, dealt to ``world_size`` ranks.

    sizes int64 [W]: samples per worker; consumed int64 [W]: how many of each were yielded before.
    batch_size: samples per batch, 1 where the caller makes none; with equalize="batch" at most so many on
    average over the ranks. Raises ArgumentError where ranks and workers
    do not fit without ``elastic``, where equalize="error" and ranks would get unequal numbers, and where
    equalize="drop" would leave a rank without any sample of an epoch.
    """

    sizes: Ints
    world_size: int
    batch_size: int = 1
    equalize: str = "pad"
    elastic: bool = False
    consumed: Ints = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        object.__setattr__(self, "world_size", check_integer("world_size", self.world_size, 1))
        object.__setattr__(self, "batch_size", check_integer("batch_size", self.batch_size, 1))
        object.__setattr__(self, "elastic", check_flag("elastic", self.elastic))
        if not len(self.consumed):
            object.__setattr__(self, "consumed", np.zeros(len(self.sizes), np.int64))
        workers, ranks = len(self.sizes), self.world_size
        if self.equalize not in EQUALIZE:
            raise ArgumentError(f"equalize={self.equalize!r}: allowed are {', '.join(EQUALIZE)}")
        if not self.elastic and workers % ranks and ranks % workers:
            raise ArgumentError(
                f"world_size {ranks} and {workers} workers: neither divides the other, so ranks would have "
                "to read samples that are not local to them; elastic=True allows it and counts those bytes"
            )
        lengths = self._dealt
        if self.equalize == "error" and lengths.min() != lengths.max():
            raise ArgumentError(
                f"equalize='error': {ranks} ranks would get {lengths.min()} to {lengths.max()} samples; "
                "'pad' repeats some, 'drop' leaves some out"
            )
        if self.equalize == "drop" and not lengths.min() and lengths.max() and not self.consumed.any():
            raise ArgumentError(
                f"equalize='drop': rank {int(lengths.argmin())} of {ranks} has no sample, so that every rank "
                "would get nothing; 'pad' lets it borrow"
            )

    @property
    def groups(self) -> int:
        return gcd(len(self.sizes), self.world_size)

    @cached_property
    def batch_sizes(self) -> Ints:
        """Samples per batch of each rank: int64 [R].

        With equalize="batch" those that give the fewest batches, of at most batch_size on average: the
        smallest number of batches is sought that whole epochs of all groups can be cut into.
        """
        if self.equalize != "batch":
            return np.full(self.world_size, self.batch_size, np.int64)
        ranks = self.world_size // self.groups
        samples = self.sizes.reshape(self.groups, -1).sum(axis=1)
        too_few, enough = 0, max(1, int(samples.max()))  # in one batch a sample, nobody needs more
        while enough - too_few > 1:
            batches = (too_few + enough) // 2
            fits = np.maximum(-(-samples // (batches * ranks)), 1).sum() <= self.groups * self.batch_size
            too_few, enough = (too_few, batches) if fits else (batches, enough)
        return np.repeat(np.maximum(-(-samples // (enough * ranks)), 1), ranks)

    @cached_property
    def lengths(self) -> Ints:
        """Samples that each rank yields: int64 [R]; the same for all, but for equalize="batch"."""
        if self.equalize == "batch":
            batches = int((-(-self._dealt // self.batch_sizes)).max())
            return np.maximum(self._dealt, (batches - 1) * self.batch_sizes + 1) if batches else self._dealt
        length = self._dealt.min() if self.equalize == "drop" else self._dealt.max()
        return np.full(self.world_size, length, np.int64)

    @property
    def length(self) -> int:
        """Samples that every rank yields; with equalize="batch", the most that one does."""
        return int(self.lengths.max())

    @property
    def batches(self) -> int:
        """Batches that every rank yields, the last of which may be smaller."""
        return int(-(-self.lengths[0] // self.batch_sizes[0]))

    def weight(self, rank: int, batch: int) -> float:
        """What the loss of a sample (of a pad: nothing) weighs in the mean over ``rank``'s batch number
        ``batch``, so that the mean over ranks, which is what DDP makes of their gradients, is that over the
        round's samples: with equalize="batch" the length of the batch by the ranks' average of samples."""
        if self.equalize != "batch":
            return 1.0
        start = batch * self.batch_sizes
        samples = np.clip(self._dealt - start, 0, self.batch_sizes)  # the pads come last
        length = min(self.batch_sizes[rank], self.lengths[rank] - start[rank])
        return float(length / samples.mean())

    def home(self, rank: int) -> range:
        """The workers whose samples are local to ``rank``."""
        workers, ranks = len(self.sizes) // self.groups, self.world_size // self.groups
        group, r = divmod(rank, ranks)
        local = range(r * workers // ranks, r * workers // ranks + 1)
        if workers > ranks:
            local = _members(r, workers, ranks)
        return range(group * workers + local.start, group * workers + local.stop)

    def share(self, rank: int) -> Share:
        """What ``rank`` yields."""
        group, r = divmod(rank, self.world_size // self.groups)
        length = int(self.lengths[rank])
        if self.world_size == len(self.sizes) and length <= self._dealt[rank]:  # its own worker's, in order
            begin = int(self.consumed[rank])
            only, no_pad = np.broadcast_to(np.int32(rank), length), np.broadcast_to(np.bool_(False), length)
            return Share(only, np.arange(begin, begin + length), no_pad)
        which, element = self._merged(group)
        mine = self._positions(which, r, int(self.batch_sizes[rank]))[:length]
        short = length - len(mine)
        worker, position = which[mine], element[mine]
        if short:
            borrowed, again = self._borrow(group, r, short)
            worker, position = np.concatenate([worker, borrowed]), np.concatenate([position, again])
        return Share(worker.astype(np.int32), position, np.arange(length) >= length - short)

    def after(self, yielded: int, rank: int = 0) -> Ints:
        """``consumed`` once ``rank`` has yielded ``yielded`` samples, the others as many batches: int64 [W].

        Raises ArgumentError for a position inside a batch, where ranks that share a worker have not
        consumed a prefix of its sequence, or ranks' batches differ in size.
        """
        if yielded >= self.lengths[rank]:
            return self.sizes.copy()
        ranks, batch = self.world_size // self.groups, int(self.batch_sizes[rank])
        batches, within = divmod(yielded, batch)
        if within and (ranks > 1 or (self.batch_sizes != batch).any()):
            raise ArgumentError(
                f"position: {yielded} samples is within a batch of {batch}, and ranks that share a "
                "worker, or have batches of other sizes, can only stop between batches"
            )
        totals = (batches * self.batch_sizes + within)[::ranks] * ranks
        ends = [
            taken(self._sizes_of(g), self._phases, self._part(self.consumed, g), int(totals[g]))
            for g in range(self.groups)
        ]
        return np.concatenate(ends)

    @cached_property
    def _dealt(self) -> Ints:
        """Samples per rank before they are made equal: int64 [R]."""
        ranks = self.world_size // self.groups
        rest = (self.sizes - self.consumed).reshape(self.groups, -1).sum(axis=1)
        batch = self.batch_sizes[::ranks]
        rounds, last = np.divmod(rest, ranks * batch)
        even = (last[:, None] + ranks - 1 - np.arange(ranks)) // ranks
        lengths: Ints = ((rounds * batch)[:, None] + even).reshape(-1)
        return lengths

    def _part(self, per_worker: Ints, group: int) -> Ints:
        part: Ints = per_worker.reshape(self.groups, -1)[group]
        return part

    def _sizes_of(self, group: int) -> Ints:
        return self._part(self.sizes, group)

    @property
    def _phases(self) -> NDArray[np.float64]:
        return np.full(len(self.sizes) // self.groups, 0.5)

    def _merged(self, group: int, *, whole: bool = False) -> tuple[NDArray[np.intp], Ints]:
        """(worker, position) of the rest of a group's merge, or of the whole epoch's."""
        sizes, start = self._sizes_of(group), self._part(self.consumed, group)
        which, element = merge(sizes, self._phases, start * 0 if whole else start, sizes)
        return which + group * len(sizes), element

    def _positions(self, which: NDArray[np.intp], r: int, batch_size: int) -> NDArray[np.intp]:
        """Which elements of the group's merge go to its rank ``r``, ascending within each batch."""
        ranks, workers = self.world_size // self.groups, len(self.sizes) // self.groups
        slots = _slots(len(which), ranks, r, batch_size)
        if ranks == 1 or workers == 1:
            return slots
        seats = _seat_at_home(which % workers, workers, ranks, batch_size)
        mine = seats[slots]
        return mine[np.lexsort((mine, np.arange(len(mine)) // batch_size))]

    def _borrow(self, group: int, r: int, count: int) -> tuple[NDArray[np.intp], Ints]:
        """``count`` samples to repeat: the group's earliest of the epoch, or everybody's if it has none."""
        ranks = self.world_size // self.groups
        which, element = self._merged(group, whole=True)
        if not len(which):
            every = [self._merged(g, whole=True) for g in range(self.groups)]
            which, element = (np.concatenate(column) for column in zip(*every, strict=True))
        pick = (r + ranks * np.arange(count)) % len(which)
        return which[pick], element[pick]


def _quota(total: int, ranks: int, batch_size: int) -> tuple[int, Ints]:
    """Full rounds, and what the last round gives each rank: int64 [ranks], evenly and the first ones more."""
    rounds, last = divmod(total, ranks * batch_size)
    return rounds, (last + ranks - 1 - np.arange(ranks)) // ranks


def _slots(total: int, ranks: int, r: int, batch_size: int) -> NDArray[np.intp]:
    """The seats of rank ``r``: each round has its seats in order of ranks."""
    rounds, last = _quota(total, ranks, batch_size)
    span = ranks * batch_size
    full = (np.arange(rounds)[:, None] * span + r * batch_size + np.arange(batch_size)).reshape(-1)
    begin = rounds * span + int(last[:r].sum())
    return np.concatenate([full, np.arange(begin, begin + int(last[r]))])


def _seat_at_home(which: NDArray[np.intp], workers: int, ranks: int, batch_size: int) -> NDArray[np.intp]:
    """seat -> element, where within each round as many samples as possible sit at a rank of their own.

    A home is a run of ranks: one rank with all its workers, or one worker with all its ranks, whichever
    are more. A sample takes the next free seat of its home; those of a full home take the seats left over.
    """
    homes = min(workers, ranks)
    home_of_worker = np.arange(workers) * homes // workers
    ranks_of_home = [len(_members(h, ranks, homes)) for h in range(homes)]
    last_rank = np.cumsum(ranks_of_home)
    first_rank = last_rank - ranks_of_home
    total, span = len(which), ranks * batch_size
    rounds, last = _quota(total, ranks, batch_size)
    begins = np.concatenate([[0], np.cumsum(last)])  # of the last round's ranks
    turn, home = np.arange(total) // span, home_of_worker[which]
    is_last = turn == rounds
    begin = np.where(is_last, begins[first_rank[home]], first_rank[home] * batch_size)
    capacity = np.where(is_last, begins[last_rank[home]], last_rank[home] * batch_size) - begin
    # The how manieth of its home in its round each element is.
    order = np.lexsort((home, turn))
    ordered = turn[order] * homes + home[order]
    nth = np.empty(total, np.intp)
    nth[order] = np.arange(total) - np.searchsorted(ordered, ordered)
    seated = nth < capacity
    seat = np.full(total, -1)
    seat[seated] = (turn * span + begin + nth)[seated]
    # Seats and elements left over are equally many in each round, and both are in order of rounds.
    seat[~seated] = np.setdiff1d(np.arange(total), seat[seated], assume_unique=True)
    element = np.empty(total, np.intp)
    element[seat] = np.arange(total)
    return element


def _members(h: int, many: int, few: int) -> range:
    """Which of ``many`` belong to the h-th of ``few``: those m with m * few // many == h."""
    return range(-(-h * many // few), -(-(h + 1) * many // few))
