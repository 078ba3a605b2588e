"""How `place` finds a placement: largest first, local search, the cross-entropy method; and a lower bound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Nodes = npt.NDArray[np.int32]

_DRAWS, _ELITE, _POLISHED, _GENERATIONS = 200, 20, 2, 20
_KEPT = 0.3  # of the old probabilities, from one generation to the next


@dataclass(frozen=True, eq=False)
class Problem:
    """bytes int64 [W] of the workers; read, storage, network, places (for workers) of the nodes, [n] each."""

    bytes: Ints
    read: Floats
    storage: Ints
    network: Floats
    places: Ints

    def load(self, node_of: Nodes) -> Ints:
        """int64 [n]: bytes of each node."""
        total = np.zeros(self.read.size, np.int64)
        np.add.at(total, node_of, self.bytes)
        return total

    def seconds(self, load: Ints) -> Floats:
        """The shape of ``load`` [.., n]: what reading so much takes each node; inf where it cannot."""
        local, remote = np.minimum(load, self.storage), np.maximum(load - self.storage, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            over = np.where(remote > 0, remote / self.network, 0.0)
        slower: Floats = np.maximum(local / self.read, over)
        return slower

    def cost(self, node_of: Nodes) -> tuple[int, float]:
        """What is to be small: bytes that fit nowhere, then the seconds of the slowest node."""
        homeless, slowest = self.costs(self.load(node_of))
        return int(homeless), float(slowest)

    def costs(self, load: Ints) -> tuple[Ints, Floats]:
        """The same of many loads [.., n]: int64 and float64 [..]."""
        homeless = np.where(self.network > 0, 0, np.maximum(load - self.storage, 0))
        return homeless.sum(axis=-1), self.seconds(load).max(axis=-1)

    def bound(self) -> float:
        """Seconds that no placement goes below."""
        alone = self.seconds(np.repeat(self.bytes[:, None], self.read.size, axis=1)).min(axis=1)
        low, high = 0.0, 1.0
        while self._reach(high) < self.bytes.sum():
            if high > 1e300:  # not even for ever
                return float("inf")
            low, high = high, 2 * high
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (middle, high) if self._reach(middle) < self.bytes.sum() else (low, middle)
        return max(low, float(alone.max(initial=0.0)))

    def _reach(self, seconds: float) -> float:
        """Bytes that all nodes together read in so long, if bytes could be divided at will."""
        full = self.read * seconds >= self.storage
        return float(np.where(full, self.storage + self.network * seconds, self.read * seconds).sum())


def round_robin(problem: Problem) -> Nodes:
    """Worker w on node w mod n, or the next one with a place left."""
    left, n = problem.places.copy(), problem.read.size
    node_of = np.empty(problem.bytes.size, np.int32)
    for worker in range(problem.bytes.size):
        node = next(at % n for at in range(worker, worker + n) if left[at % n])
        node_of[worker] = node
        left[node] -= 1
    return node_of


def largest_first(problem: Problem) -> Nodes:
    """The largest worker first, each on the node with a place left that ends soonest with it."""
    left, load = problem.places.copy(), np.zeros(problem.read.size, np.int64)
    node_of = np.empty(problem.bytes.size, np.int32)
    for worker in np.argsort(-problem.bytes, kind="stable").tolist():
        after = problem.seconds(load + problem.bytes[worker])
        open_to = np.flatnonzero(left)
        node = open_to[np.lexsort((load[open_to], after[open_to]))[0]]
        node_of[worker] = node
        left[node] -= 1
        load[node] += problem.bytes[worker]
    return node_of


def improve(problem: Problem, node_of: Nodes) -> Nodes:
    """Local search: while it makes the slowest node quicker and no other one as slow, a worker of it moves to
    a free place, or changes places with a worker of another node."""
    node_of = node_of.copy()
    load = problem.load(node_of)
    while True:
        seconds = problem.seconds(load)
        slow = int(seconds.argmax())
        mine, others = np.flatnonzero(node_of == slow), np.flatnonzero(node_of != slow)
        free = np.flatnonzero(np.bincount(node_of, minlength=load.size) < problem.places)
        free = free[free != slow]
        # What each worker here could be exchanged for: a worker elsewhere, or nothing.
        partner = np.concatenate([others, np.full(free.size, -1)])
        node = np.concatenate([node_of[others], free])
        size = np.concatenate([problem.bytes[others], np.zeros(free.size, np.int64)])
        if not (mine.size and partner.size):
            return node_of
        given = problem.bytes[mine][:, None] - size  # [mine, partners]
        here = _alone(problem, load[slow] - given, np.array(slow))
        there = _alone(problem, load[node] + given, node)
        worse = np.maximum(here, there)
        best = np.unravel_index(int(worse.argmin()), worse.shape)
        if np.isinf(seconds[slow]):  # first of all it has to fit: what is least of it does not
            best = np.unravel_index(int(np.where(np.isfinite(there), -given, 1).argmin()), given.shape)
            if not (np.isfinite(there[best]) and given[best] > 0):
                return node_of
        elif not worse[best] < seconds[slow]:
            return node_of
        worker, at = int(mine[best[0]]), int(best[1])
        load[slow] -= given[best]
        load[node[at]] += given[best]
        node_of[worker] = node[at]
        if partner[at] >= 0:
            node_of[partner[at]] = slow


def _alone(problem: Problem, load: Ints, node: Ints) -> Floats:
    """Seconds of node ``node`` (which has to broadcast) with ``load``, element by element."""
    part = Problem(
        problem.bytes, problem.read[node], problem.storage[node], problem.network[node], problem.places
    )  # fmt: skip
    return part.seconds(load)


def cross_entropy(problem: Problem, start: Nodes, seed: int) -> Nodes:
    """The best placement of `_GENERATIONS` times `_DRAWS` drawn ones, and ``start``.

    Workers draw their nodes in turn, the largest first, among those with places left. The probabilities, at
    first even, become those of each generation's best draws, the very best after a local search.
    """
    workers, n = problem.bytes.size, problem.read.size
    chance = np.full((workers, n), 1 / n)
    turn = np.argsort(-problem.bytes, kind="stable").tolist()
    best, cost = start, problem.cost(start)
    for generation in range(_GENERATIONS):
        words = np.random.PCG64(np.random.SeedSequence([seed, generation])).random_raw(_DRAWS * workers)
        uniform = ((words >> np.uint64(11)) * 2.0**-53).reshape(workers, _DRAWS)
        drawn = np.empty((_DRAWS, workers), np.int32)
        left = np.repeat(problem.places[None], _DRAWS, axis=0)
        every = np.arange(_DRAWS)
        for worker in turn:
            steps = np.cumsum(np.where(left > 0, chance[worker] + 1e-12, 0), axis=1)
            drawn[:, worker] = (steps <= uniform[worker][:, None] * steps[:, -1:]).sum(axis=1)
            left[every, drawn[:, worker]] -= 1
        load = np.zeros((_DRAWS, n), np.int64)
        np.add.at(load, (every[:, None], drawn), problem.bytes)
        homeless, slowest = problem.costs(load)
        elite = np.lexsort((slowest, homeless))[:_ELITE]
        for one in elite[:_POLISHED]:
            drawn[one] = improve(problem, drawn[one])
            if (found := problem.cost(drawn[one])) < cost:
                best, cost = drawn[one].copy(), found
        seen = np.stack([(drawn[elite] == node).mean(axis=0) for node in range(n)], axis=1)
        chance = _KEPT * chance + (1 - _KEPT) * seen
    return best
