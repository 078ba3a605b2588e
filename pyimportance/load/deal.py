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
from functools import cached_property, partial
from math import gcd

import numpy as np
from numpy.typing import NDArray

from pyimportance.checks import check_flag, check_integer
from pyimportance.errors import ArgumentError
from pyimportance.load.merge import Ints, Seeds, merge, taken
from pyimportance.load.share import Piece, Share, joined

EQUALIZE = ("pad", "drop", "error", "batch")


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
        group, ranks = rank // (self.world_size // self.groups), self.world_size // self.groups
        home = None
        if 1 in (ranks, len(self.sizes) // self.groups) and self._sizes_of(group).any():
            home = tuple(w for w in self.home(rank) if self.sizes[w])
        return Share(
            partial(self._piece, rank),
            int(self.lengths[rank]),
            home=home,
            period=int(self.batch_sizes[rank]),
        )

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
            taken(self._sizes_of(g), self._seeds_of(g), self._part(self.consumed, g), int(totals[g]))
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

    def _seeds_of(self, group: int) -> Seeds:
        """Of the merge of a group's workers: their numbers, in every epoch."""
        return self._part(np.arange(len(self.sizes)), group).astype(np.uint64)

    def _elements(self, group: int, start: Ints, begin: int, end: int) -> tuple[Ints, Ints]:
        """(worker, position) of the elements begin .. end - 1 of a group's merge from ``start`` on."""
        sizes, seeds = self._sizes_of(group), self._seeds_of(group)
        first, last = (taken(sizes, seeds, start, total) for total in (begin, end))
        which, element = merge(sizes, seeds, first, last)
        return which + group * len(sizes), element

    def _piece(self, rank: int, begin: int, end: int) -> Piece:
        """What ``rank`` yields, from its sample number ``begin`` to ``end`` - 1."""
        group, r = divmod(rank, self.world_size // self.groups)
        own = int(self._dealt[rank])
        if begin >= own:
            return self._borrowed(group, r, begin - own, end - own)
        piece = self._own(rank, begin, min(own, end))
        return piece if end <= own else joined([piece, self._borrowed(group, r, 0, end - own)])

    def _own(self, rank: int, begin: int, end: int) -> Piece:
        ranks, workers = self.world_size // self.groups, len(self.sizes) // self.groups
        (group, r), size = divmod(rank, ranks), int(self.batch_sizes[rank])
        start, no_pad = self._part(self.consumed, group), np.broadcast_to(np.bool_(False), end - begin)
        total = int((self._sizes_of(group) - start).sum())
        if workers == 1:
            only = np.broadcast_to(np.int32(group), end - begin)
            slots = _slots(total, ranks, r, size, np.arange(begin, end))
            return Piece(only, int(start[0]) + slots, no_pad)
        if ranks == 1:
            worker, position = self._elements(group, start, begin, end)
            return Piece(worker.astype(np.int32), position, no_pad)
        # The rounds in which these samples are, whole.
        first, last = begin // size, -(-end // size)
        before = first * ranks * size
        total = min(total, last * ranks * size) - before
        number = np.arange(min(last * size, int(self._dealt[rank])) - first * size)
        worker, position = self._elements(group, start, before, before + total)
        seats = _seat_at_home(worker % workers, workers, ranks, size)
        mine = seats[_slots(total, ranks, r, size, number)]
        mine = mine[np.lexsort((mine, number // size))][begin - first * size :][: end - begin]
        return Piece(worker[mine].astype(np.int32), position[mine], no_pad)

    def _borrowed(self, group: int, r: int, begin: int, end: int) -> Piece:
        """The pads number begin .. end - 1 of the group's rank ``r``: it repeats the group's earliest samples
        of the epoch, or everybody's if it has none, those that the other ranks do not.
        """
        lenders = range(group, group + 1) if self._sizes_of(group).any() else range(self.groups)
        ends = np.cumsum([self._sizes_of(g).sum() for g in lenders])
        pick = (r + self.world_size // self.groups * np.arange(begin, end)) % ends[-1]
        worker, position = np.empty(len(pick), np.int32), np.empty(len(pick), np.int64)
        for g, total in zip(lenders, ends.tolist(), strict=True):
            own = self._sizes_of(g)
            some = np.flatnonzero((pick < total) & (pick >= total - own.sum()))
            if len(some):
                element = pick[some] - (total - int(own.sum()))
                first = int(element.min())
                columns = self._elements(g, own * 0, first, int(element.max()) + 1)
                worker[some], position[some] = (column[element - first] for column in columns)
        return Piece(worker, position, np.broadcast_to(np.bool_(True), len(pick)))


def _quota(total: int, ranks: int, batch_size: int) -> tuple[int, Ints]:
    """Full rounds, and what the last round gives each rank: int64 [ranks], evenly and the first ones more."""
    rounds, last = divmod(total, ranks * batch_size)
    return rounds, (last + ranks - 1 - np.arange(ranks)) // ranks


def _slots(total: int, ranks: int, r: int, batch_size: int, number: Ints) -> Ints:
    """The seats of rank ``r``'s samples of these numbers: each round has its seats in order of ranks."""
    rounds, last = _quota(total, ranks, batch_size)
    seat = number + (number // batch_size * (ranks - 1) + r) * batch_size
    late = rounds * batch_size  # the last round's begins here
    return np.where(number < late, seat, number + rounds * (ranks - 1) * batch_size + int(last[:r].sum()))


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
