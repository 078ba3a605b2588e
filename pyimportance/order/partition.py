"""partition: divide the samples over workers, by their scores and a policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.checks import check_integer
from pyimportance.errors import ArgumentError
from pyimportance.order.argsort import regroup
from pyimportance.order.capacity import apportion
from pyimportance.order.checks import check_classes, check_groups, check_sizes
from pyimportance.order.matching import match
from pyimportance.order.policies.classes import assign_inside
from pyimportance.order.policies.registry import Policy, resolve
from pyimportance.order.policies.task import Task
from pyimportance.order.ranking import Positions, rank
from pyimportance.order.values import HasOwners, Partition
from pyimportance.score import inputs
from pyimportance.score.values import Scores

__all__ = ["Partition", "partition"]


def partition(
    scores: Scores,
    workers: int,
    *,
    policy: str = "stripes",
    bins: int = 1,
    seed: int = 0,
    current: HasOwners | npt.ArrayLike | None = None,
    sizes: npt.ArrayLike | None = None,
    classes: npt.ArrayLike | None = None,
    capacity: npt.ArrayLike | None = None,
    **options: Any,
) -> Partition:
    """Give every sample to one of ``workers`` workers, and sort each worker's samples into ``bins`` bins.

    scores   their ``descending`` says which end is important; ties go by ascending sample id. NaN scores
             come last, with a NaNScoresWarning that counts them
    policy   who gets which ranks of the order of importance (rank 0: the most important of N)
               random       a seeded permutation dealt in turn, blind to the scores
               stripes      rank mod workers
               blocks       ranks [floor(i N / workers), floor((i + 1) N / workers)) to worker i
               snake        0..n-1, n-1..0, and so on
               sticky(k=16) the same share of each stratum of k * workers consecutive ranks to everyone;
                            no division with these shares moves fewer bytes
               sticky(tolerance=e)
                            the fewest bytes move that keep every worker's scores within Kolmogorov-Smirnov
                            distance e of all (or two samples of it or of the average worker, where that is
                            more); how near to the fewest is in order/policies/tolerance.py
               balanced     one of each stratum of ``workers`` consecutive ranks to everyone, bytes nearly
                            even (longest processing time first); needs ``sizes``
             the numbers of samples of any two workers differ by at most one
    bins     runs of a worker's own order, equal in number to within one; bin 0 is the most important
    seed     >= 0, used by "random"
    current  who holds the samples now: a Partition, a ShardSet, or integers [N] in ascending order of
             sample id, -1 for nobody. Workers beyond ``workers`` count as nobody. With it, the groups are
             labelled so that as many bytes as possible stay where they are; without it sticky is stripes
    sizes    bytes (or cost) of each sample, integers >= 0 [N] in ascending order of sample id; without, all
             count the same
    classes  of each sample, integers [N] in ascending order of sample id. With them the policy runs inside
             each class ("stratified(stripes)"), and in each, as in all, numbers differ by at most one
    capacity of each worker, numbers >= 0 [workers], for unequal machines: the numbers of samples follow it
             by largest remainder (order/capacity.py), and inside each class to within rounding

    Deterministic: equal arguments give equal partitions on any machine.
    Memory: at most 20 bytes a sample, those of the scores and of the result among them, for "stripes",
    "blocks" and "snake" of at most 2048 workers, implicit ids, and none of the arguments that are [N]. So a
    billion memory-mapped scores take 20 GB. Scores on a device: order/device.py.
    Raises ArgumentError where an argument is not as described.
    """
    workers, bins = check_groups(workers, bins)
    seed = check_integer("seed", seed, 0)
    chosen, arguments, policy_text = resolve(policy, options)
    ranking = rank(scores)
    counts = None if capacity is None else apportion(capacity, workers, scores.num_samples)
    order, values = ranking.sort()
    owners = _owners(scores, order, values, workers, seed, current, sizes, classes, counts, chosen, arguments)
    offsets = group_offsets(_count(owners, workers), bins)
    values = regroup(values, owners)  # one after the other: 4 bytes a sample less at a time
    order = regroup(order, owners)
    del owners
    return Partition.of_unique(
        workers=workers,
        bins=bins,
        order=order.astype(np.int64, copy=False) if scores.ids is None else scores.ids[order],
        offsets=offsets,
        values=values,
        measure=scores.measure,
        descending=scores.descending,
        policy=policy_text if classes is None else f"stratified({policy_text})",
        seed=seed,
    )


def _owners(  # noqa: PLR0917
    scores: Scores,
    order: Positions,
    values: npt.NDArray[np.float32],
    workers: int,
    seed: int,
    current: HasOwners | npt.ArrayLike | None,
    sizes: npt.ArrayLike | None,
    classes: npt.ArrayLike | None,
    counts: npt.NDArray[np.int64] | None,
    policy: Policy,
    options: Mapping[str, Any],
) -> npt.NDArray[np.int32]:
    """int32 [N] by rank, of which ``order`` has the positions and ``values`` the scores."""
    task = Task(
        order,
        workers,
        seed,
        None if current is None else _holders(current, scores.sample_ids(), workers)[order],
        None if sizes is None else check_sizes(sizes, order.size)[order],
        counts,
        None if options.get("tolerance") is None else values,
    )
    if classes is None:
        owners = policy.assign(task, **options)
    else:
        owners = assign_inside(check_classes(classes, order.size)[order], policy.assign, task, **options)
    if task.current is not None:
        owners = match(owners, task.current, workers, task.sizes, counts)
    return owners


def _count(owners: npt.NDArray[np.int32], workers: int) -> npt.NDArray[np.int64]:
    """int64 [workers]: samples of each. In parts that a cache holds, as bincount widens what it is given."""
    counts, part = np.zeros(workers, np.int64), max(2**16, 4 * workers)
    for start in range(0, owners.size, part):
        counts += np.bincount(owners[start : start + part], minlength=workers)
    return counts


def _holders(
    current: HasOwners | npt.ArrayLike, ids: npt.NDArray[np.int64], workers: int
) -> npt.NDArray[np.int32]:
    """int32 [N]: who of the ``workers`` holds each id now, -1 nobody (or a worker there no longer is)."""
    held = current.worker_of(ids) if hasattr(current, "worker_of") else inputs.as_array("current", current)
    if held.dtype.kind not in "iu" or held.shape != ids.shape:
        raise ArgumentError(
            f"current: {held.dtype} of shape {list(held.shape)}; must be a Partition, a ShardSet or one "
            f"integer (a worker, -1 for nobody) for each of {ids.size} samples"
        )
    if held.size and held.min() < -1:
        raise ArgumentError(
            f"current: {held.min()} at position {int(held.argmin())}; workers are >= 0, nobody is -1"
        )
    return np.where(held < workers, held, -1).astype(np.int32)


def group_offsets(counts: npt.NDArray[np.int64], bins: int) -> npt.NDArray[np.int64]:
    """int64 [workers * bins + 1]: worker w's counts[w] samples cut at floor(b counts[w] / bins)."""
    starts = np.cumsum(counts) - counts
    cuts = starts[:, None] + np.arange(bins, dtype=np.int64) * counts[:, None] // bins
    return np.append(cuts.ravel(), counts.sum()).astype(np.int64)
