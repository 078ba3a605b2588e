"""sticky(tolerance=e): the fewest moved bytes that keep every worker's scores within distance e of all.

Worker w, of c samples in all, has P(r) of the first r ranks. Its Kolmogorov-Smirnov distance to the whole is
at most e where |P(r) / c - r / N| <= e at every r at which the score changes: P has to stay within a band
around a straight line, and a sample that moves lifts one worker's P from its rank on and lowers another's.
Which ones to move, in bytes, is a minimum-cost flow:

    each sample ──> (block of ranks, worker) ──P, within the band──> (next block, worker)
                        │ for its bytes  ▲ free
                        └───> (block) ───┘

That is exact where a block is a single rank (workers * N <= MOST_CELLS). In more samples a block is a run of
ranks; the band is narrowed by how far P strays between its ends, and so the result can be a little above the
least. `fewest` is a bound below it: the same flow, held to the band at the blocks' ends only. Where the band
is but a few samples wide and blocks are longer, strata take over, which move more than need be.

Bytes are exact up to 2**40 in a sample and 2**61 in all; beyond, they are counted in larger units.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pyimportance import _C
from pyimportance.order.argsort import argsort
from pyimportance.order.distance import ks_distances, steps, tie_ends
from pyimportance.order.policies.keep import keep_most
from pyimportance.order.policies.task import Task
from pyimportance.order.policies.turns import count_by_stratum, turns

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MOST_CELLS = 2**15  # of workers times blocks: what the flow is solved for in about a second
_FEWEST_PRICES = 4  # for the bytes of one worker's samples in one block; more where there are few blocks
_LARGEST_PRICE, _LARGEST_COST = 2**40, 2**61  # the one times nodes below 2**62 (csrc/order/flow.h)


def assign_within(task: Task, tolerance: float) -> npt.NDArray[np.int32]:
    """Owners int32 [N] by rank; ``task`` has current holders.

    Counts differ by at most one (the larger ones are of those who hold most now), or are as given. Every
    worker's distance is at most ``tolerance``, or where that is more 1 / c, a sample of its c; by strata, if
    it has to be, 1 / (2 c) + 3 W / (2 N), which is two samples. Samples whose score is NaN are dealt by exact
    shares: no distribution counts them.
    """
    assert task.current is not None
    whole = replace(task, counts=_counts(task) if task.counts is None else task.counts)
    scored = task.num_samples
    if task.values is not None:
        scored -= int(np.count_nonzero(np.isnan(task.values)))
    if scored == task.num_samples:
        return _within(whole, tolerance)
    shares = count_by_stratum(turns(whole), np.array([0, scored, task.num_samples]), task.workers)
    parts = [whole.part(slice(0, scored), shares[0]), whole.part(slice(scored, None), shares[1])]
    without = keep_most(parts[1], np.array([0, parts[1].num_samples]), shares[1:])
    return np.concatenate([_within(parts[0], tolerance) if scored else np.zeros(0, np.int32), without])


def fewest(task: Task, tolerance: float) -> int:
    """A bound below the bytes (without sizes: samples) that move in any division within ``tolerance``.

    For the counts that `assign_within` gives the workers; ``task`` has current holders and no NaN. Where
    sizes differ, a block's samples count in groups, at the mean of each: then it is near the bound, no more.
    """
    whole = replace(task, counts=_counts(task) if task.counts is None else task.counts)
    _, moved = Band.of(whole, tolerance, narrow=False).solve()
    return moved


def _counts(task: Task) -> Ints:
    """int64 [workers]: as even as can be, the larger ones for those that hold most."""
    assert task.current is not None
    base, larger = divmod(task.num_samples, task.workers)
    counts = np.full(task.workers, base, np.int64)
    held = np.bincount(task.current[task.current >= 0], minlength=task.workers)
    counts[np.argsort(-held, kind="stable")[:larger]] += 1
    return counts


def _within(task: Task, tolerance: float) -> npt.NDArray[np.int32]:
    """Owners of samples that all have a score, with given counts."""
    assert task.counts is not None
    ends, limit = tie_ends(task.values, task.num_samples), tolerance
    allowed = np.maximum(tolerance, 1 / np.maximum(task.counts, 1))
    for _ in range(3):
        band = Band.of(task, limit, narrow=True)
        owners = keep_most(task, band.edges, band.solve()[0])
        excess = float(np.nanmax(ks_distances(owners, ends, task.workers) - allowed))
        if excess <= 1e-12:
            return owners
        limit = max(0.0, limit - excess)
    # Blocks are too long for so narrow a band. Strata of k keep within it by their length, k W / N, and by
    # how far turns stray from the line at their ends: half a sample, and half of one of each a round.
    k = max(1, int(tolerance * task.num_samples / task.workers))
    while True:
        edges = np.append(np.arange(0, task.num_samples, k * task.workers, dtype=np.int64), task.num_samples)
        owners = keep_most(task, edges, count_by_stratum(turns(task), edges, task.workers))
        if k == 1 or np.nanmax(ks_distances(owners, ends, task.workers) - allowed) <= 1e-12:
            return owners
        k //= 2


@dataclass(frozen=True, eq=False)
class Band:
    """Blocks of ranks and how many samples each worker may have by their ends.

    edges         int64 [G + 1]: block g is ranks edges[g] .. edges[g + 1] - 1; no score lies in two blocks
    lower, upper  int64 [G, W]: limits of the number of samples of the blocks up to g
    holds         int64 [G, W]: what each worker holds of block g now
    """

    task: Task
    edges: Ints
    lower: Ints
    upper: Ints
    holds: Ints

    @classmethod
    def of(cls, task: Task, limit: float, *, narrow: bool) -> Band:
        """``narrow``: by how far the samples held now stray from the line within a block."""
        assert task.current is not None
        assert task.counts is not None
        n, c = task.num_samples, task.counts
        ends = tie_ends(task.values, n)
        wanted = np.arange(0, n, max(1, -(-n * task.workers // MOST_CELLS)), dtype=np.int64)
        edges = (
            np.unique(np.append(0, ends[np.searchsorted(ends, wanted[1:])])) if wanted.size > 1 else wanted
        )
        edges = np.append(edges[edges < n], n)
        whole, rest = np.divmod(edges[1:, None] * c, n)  # of the line
        slack = limit * c
        lower, upper = whole + np.ceil(rest / n - slack), whole + np.floor(rest / n + slack)
        holds = count_by_stratum(task.current, edges, task.workers)
        if narrow:
            low, high = _strays(task, ends, edges)
            held = np.cumsum(holds, axis=0)
            lower = np.maximum(lower, held - np.floor(low + slack))
            upper = np.minimum(upper, held + np.floor(slack - high))
        # With all numbers rounded up or down from the line there is always a division (Tijdeman 1980).
        lower = np.clip(np.minimum(lower, whole), 0, c)
        upper = np.clip(np.maximum(upper, whole + (rest > 0)), 0, c)
        lower[-1] = upper[-1] = c
        return cls(task, edges, lower.astype(np.int64), upper.astype(np.int64), holds)

    def solve(self) -> tuple[Ints, int]:
        """int64 [G, W] shares of the blocks, and about how many bytes (samples, without sizes) they move."""
        (G, W), holds = self.holds.shape, self.holds
        cell = np.arange(G * W, dtype=np.int32)
        block = (cell // W + G * W).astype(np.int32)
        priced, room, price, scale = self._prices()
        chain = cell[:-W]
        supply = np.zeros(G * W + G, np.int64)
        free = np.diff(self.edges) - holds.sum(axis=1)
        supply[G * W :] = free
        # Flows along a chain are what is above the lower limit.
        net = holds - self.lower
        net[1:] += self.lower[:-1]
        supply[: G * W] = net.ravel()
        lazy = self._lazy()[:-1] - self.lower[:-1]
        flow, cost = _C.cheapest_flow(
            np.concatenate([priced, block, chain]),
            np.concatenate([block[priced], cell, chain + np.int32(W)]),
            np.concatenate([room, np.repeat(np.diff(self.edges), W), (self.upper - self.lower)[:-1].ravel()]),
            np.concatenate([price, np.zeros(cell.size + chain.size, np.int64)]),
            supply,
            np.concatenate([np.zeros(priced.size + cell.size, np.int64), lazy.ravel()]),
        )
        released = np.bincount(priced, flow[: priced.size], minlength=G * W).astype(np.int64)
        received = flow[priced.size : priced.size + cell.size]
        return holds - (released - received).reshape(G, W), round(cost * scale)

    def _lazy(self) -> Ints:
        """int64 [G, W]: samples of the blocks up to g if each worker moved only what its own limits make it,
        when they do, and found givers and takers whenever it needs them: where the search starts."""
        level, levels = np.zeros(self.holds.shape[1], np.int64), np.empty_like(self.holds)
        for g, held in enumerate(self.holds):
            level = np.clip(level + held, self.lower[g], self.upper[g])
            levels[g] = level
        return levels

    def _prices(self) -> tuple[npt.NDArray[np.int32], Ints, Ints, float]:
        """(cell, samples, price): what it costs each worker to give up samples, the smallest first; and the
        bytes that a price of 1 stands for."""
        G, W = self.holds.shape
        sizes, current = self.task.sizes, self.task.current
        assert current is not None
        if sizes is None:
            return np.arange(G * W, dtype=np.int32), self.holds.ravel(), np.ones(G * W, np.int64), 1.0
        scale = max(1.0, float(sizes.max(initial=0)) / _LARGEST_PRICE, float(sizes.sum()) / _LARGEST_COST)
        block = np.repeat(np.arange(G, dtype=np.int64), np.diff(self.edges))
        cells = np.where(current < 0, -1, block * W + current)
        by_size = argsort(sizes, descending=False)
        by_cell = by_size[argsort(cells[by_size], descending=False)][np.count_nonzero(current < 0) :]
        held = self.holds.ravel()
        nth = np.arange(by_cell.size, dtype=np.int64) - np.repeat(np.cumsum(held) - held, held)
        groups = np.minimum(held, max(_FEWEST_PRICES, MOST_CELLS // held.size))
        group = nth * np.repeat(groups, held) // np.repeat(held, held)
        number = np.repeat(np.cumsum(groups) - groups, held) + group
        room = np.bincount(number, minlength=int(groups.sum())).astype(np.int64)
        mean = np.bincount(number, sizes[by_cell] / scale, minlength=room.size) / np.maximum(room, 1)
        return (
            np.repeat(np.arange(G * W, dtype=np.int32), groups),
            room,
            np.rint(mean).astype(np.int64),
            scale,
        )


def _strays(task: Task, ends: Ints, edges: Ints) -> tuple[Floats, Floats]:
    """float64 [G, W] each, by the end of a block: the least and the most that a worker holds of the first
    ranks, less the line there, over all ranks of the blocks before and after that end."""
    assert task.current is not None
    assert task.counts is not None
    G, W, n = edges.size - 1, task.workers, task.num_samples
    at = steps(task.current, ends)
    slope = task.counts[at.worker] / n
    cell = at.worker * G + np.searchsorted(edges, at.first, side="right") - 1
    extremes = []
    line = task.counts[:, None] * edges / n
    held = np.zeros((W, G + 1))
    held[:, 1:] = np.cumsum(count_by_stratum(task.current, edges, W), axis=0).T
    for pick, count, rank in ((np.minimum, at.before, at.first), (np.maximum, at.after, at.last)):
        inside = pick(held - line, np.roll(held - line, -1, axis=1))[:, :-1].ravel()
        pick.at(inside, cell, count - slope * rank)
        both = pick(inside.reshape(W, G), np.roll(inside.reshape(W, G), -1, axis=1))
        both[:, -1] = inside.reshape(W, G)[:, -1]
        extremes.append(both.T)
    low, high = extremes
    return low, high
