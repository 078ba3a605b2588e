"""place: which node each worker of a partition runs on, so that the slowest node's epoch is short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyimportance.checks import check_integer, check_nonnegative, check_positive
from pyimportance.errors import ArgumentError
from pyimportance.order.checks import check_sizes
from pyimportance.order.placing import Problem, cross_entropy, improve, largest_first, round_robin
from pyimportance.order.values import Partition

METHODS = ("lpt", "cross-entropy")


@dataclass(frozen=True)
class Node:
    """A machine that workers share.

    read     bytes a second from its own storage, > 0
    storage  bytes it can hold, >= 0
    network  bytes a second from the origin, >= 0. What does not fit the storage is read from there in every
             epoch; with 0 nothing is, and what does not fit is not placed here
    workers  how many it can run; None: any number

    Raises ArgumentError where a field is not as described.
    """

    read: float
    storage: int
    network: float = 0.0
    workers: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "read", check_positive("read", self.read))  # the dataclass is frozen
        object.__setattr__(self, "storage", check_integer("storage", self.storage, 0))
        object.__setattr__(self, "network", check_nonnegative("network", self.network))
        if self.workers is not None:
            object.__setattr__(self, "workers", check_integer("workers", self.workers, 0))


@dataclass(frozen=True, eq=False)
class Placement:
    """Workers on nodes.

    node_of      int32 [workers]: the node of each
    bytes        int64 [nodes]: what the workers of each node read in an epoch
    remote       int64 [nodes]: of these, what its storage does not hold
    seconds      float64 [nodes]: max((bytes - remote) / read, remote / network), as both go on at once
    bound        no placement has a slowest node below it: neither if bytes could be divided at will, nor
                 for the largest worker on the node that suits it best
    round_robin  seconds of the slowest node if worker w ran on node w mod n (the next one with a place left);
                 inf where that does not fit the storage
    """

    node_of: npt.NDArray[np.int32]
    bytes: npt.NDArray[np.int64]
    remote: npt.NDArray[np.int64]
    seconds: npt.NDArray[np.float64]
    bound: float
    round_robin: float

    @property
    def slowest(self) -> float:
        """Seconds of the slowest node: how long an epoch takes to read."""
        return float(self.seconds.max())


def place(
    partition: Partition,
    nodes: Sequence[Node],
    *,
    sizes: npt.ArrayLike | None = None,
    method: str = "lpt",
    seed: int = 0,
) -> Placement:
    """Workers to nodes, the slowest of which is to read its epoch as soon as possible.

    partition  whose workers are placed; all samples of one are on its node
    nodes      what there is
    sizes      bytes of each sample, integers >= 0 [N] in ascending order of sample id; without, a sample
               counts as a byte (and ``read`` and ``network`` are in samples a second)
    method     "lpt": the largest worker first, each where it ends soonest (longest processing time, Graham
               1969), then single workers move and pairs change places while that helps the slowest node.
               "cross-entropy": what it finds is where that method starts from (Rubinstein 1999): placements
               are drawn, the best tenth of them make the next ones likelier; then the same local search
    seed       >= 0, of the draws

    Never slower than round-robin. Deterministic. Raises ArgumentError where an argument is not as described,
    where there are more workers than places, or where no placement was found that the storage holds.
    """
    if method not in METHODS:
        raise ArgumentError(f"method {method!r} is unknown; allowed are {', '.join(METHODS)}")
    problem = _problem(partition, nodes, sizes)
    seed = check_integer("seed", seed, 0)
    in_turn = round_robin(problem)
    found = min(
        (improve(problem, start) for start in (largest_first(problem), in_turn)), key=problem.cost
    )  # fmt: skip
    if method == "cross-entropy":
        found = min((found, improve(problem, cross_entropy(problem, found, seed))), key=problem.cost)
    load = problem.load(found)
    seconds = problem.seconds(load)
    if not np.isfinite(seconds).all():
        raise ArgumentError(
            f"nodes: found no placement of {problem.bytes.size} workers with {int(problem.bytes.sum())} bytes"
            f" (the largest has {int(problem.bytes.max())}) that storage holds where there is no network"
        )
    remote = np.maximum(load - problem.storage, 0)
    slowest_in_turn = float(problem.seconds(problem.load(in_turn)).max())
    return Placement(
        found, load, remote, seconds, min(problem.bound(), float(seconds.max())), slowest_in_turn
    )  # fmt: skip


def _problem(partition: Partition, nodes: Sequence[Node], sizes: npt.ArrayLike | None) -> Problem:
    if not nodes or not all(isinstance(node, Node) for node in nodes):
        raise ArgumentError("nodes: must be one Node or more")
    workers = partition.workers
    places = np.array([workers if n.workers is None else min(n.workers, workers) for n in nodes], np.int64)
    if places.sum() < workers:
        raise ArgumentError(
            f"nodes: have places for {int(places.sum())} workers; the partition has {workers}"
        )
    load = np.zeros(workers, np.int64)
    nbytes = np.ones(partition.num_samples, np.int64)
    if sizes is not None:
        nbytes = check_sizes(sizes, partition.num_samples)
    np.add.at(load, partition.worker_of(partition.ids), nbytes)
    storage = np.array([min(node.storage, 2**63 - 1) for node in nodes], np.int64)
    network = np.array([node.network for node in nodes])
    if not network.any() and storage.astype(object).sum() < load.sum():
        raise ArgumentError(
            f"nodes: hold {storage.astype(object).sum()} bytes in all and have no network; "
            f"the partition has {load.sum()}"
        )
    return Problem(load, np.array([node.read for node in nodes]), storage, network, places)
