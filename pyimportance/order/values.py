"""Partition: which worker owns which samples, in which bins."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from os import PathLike
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pyimportance.checks import check_integer
from pyimportance.errors import ArgumentError
from pyimportance.order.checks import check_groups, check_sizes
from pyimportance.order.lookup import SLOTS_PER_SAMPLE, IdMap
from pyimportance.order.moves import Moves, holdings
from pyimportance.score import inputs


class HasOwners(Protocol):
    """Anything that knows who owns a sample: a Partition, a ShardSet."""

    def worker_of(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """int32, the shape of ``ids``: the owning worker, -1 where nobody owns the sample."""


@dataclass(frozen=True, eq=False, repr=False)
class Partition:
    """Samples divided over workers and, within each worker, over bins of importance.

    Group g = w * bins + b (worker w, bin b) is ``order[offsets[g]:offsets[g + 1]]``: sample ids, the most
    important first, bin 0 before bin 1. Groups may be empty, and samples may be nobody's (not in ``order``).

    workers, bins   how many, both >= 1
    order           int64 [N], unique sample ids >= 0
    offsets         int64 [workers * bins + 1], from 0 to N, never falling
    values          float32 [N], the score of ``order[i]``; None where unknown
    measure         what the scores measure
    descending      whether a high score is the more important
    policy, seed    how the partition came about, for the record: "sticky(k=16)"

    The arrays are read-only. Raises ArgumentError where a field is not as described.
    """

    workers: int
    bins: int
    order: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32] | None = None
    measure: str = ""
    descending: bool = True
    policy: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        self._settle()
        self._check_ids()

    @classmethod
    def of_unique(cls, **given: Any) -> Partition:
        """As the constructor, from whoever knows that ids are unique and >= 0: to see it takes longer than
        to divide the samples."""
        partition = object.__new__(cls)
        for name, value in given.items():
            object.__setattr__(partition, name, value)  # the dataclass is frozen; defaults are the class's
        partition._settle()
        return partition

    def _settle(self) -> None:
        workers, bins = check_groups(self.workers, self.bins)
        seed = check_integer("seed", self.seed, 0)
        for name, value in (("workers", workers), ("bins", bins), ("seed", seed)):
            object.__setattr__(self, name, value)  # the dataclass is frozen
        self._freeze("order", np.int64)
        self._freeze("offsets", np.int64)
        if self.values is not None:
            self._freeze("values", np.float32)
            if self.values.shape != self.order.shape:
                raise ArgumentError(
                    f"values: {self.values.size} of them for {self.order.size} samples in order"
                )
        self._check_offsets()

    def _freeze(self, name: str, dtype: type[np.generic]) -> None:
        array = inputs.as_array(name, getattr(self, name))
        if array.dtype != dtype or array.ndim != 1:
            raise ArgumentError(
                f"{name}: {array.dtype} with {array.ndim} axes; must be {np.dtype(dtype).name} with one axis"
            )
        view = np.ascontiguousarray(array).view()
        view.flags.writeable = False
        object.__setattr__(self, name, view)

    def _check_offsets(self) -> None:
        groups = self.workers * self.bins
        if self.offsets.size != groups + 1:
            raise ArgumentError(
                f"offsets: {self.offsets.size} of them; {self.workers} workers of {self.bins} bins "
                f"need {groups + 1}"
            )
        if self.offsets[0] != 0 or self.offsets[-1] != self.order.size or (np.diff(self.offsets) < 0).any():
            raise ArgumentError(f"offsets must rise from 0 to the number of samples, {self.order.size}")

    def _check_ids(self) -> None:
        if self.order.size and self.order.min() < 0:
            raise ArgumentError(f"order: sample id {self.order.min()} is negative")
        top = int(self.order.max(initial=-1)) + 1
        if top <= SLOTS_PER_SAMPLE * self.order.size + 1024:  # a byte each: less than the ids themselves
            seen = np.zeros(top, np.bool_)
            seen[self.order] = True
            if np.count_nonzero(seen) == self.order.size:
                return
        if (twice := np.diff(self.ids) == 0).any():
            raise ArgumentError(f"order: sample id {self.ids[twice.argmax()]} occurs more than once")

    @property
    def num_samples(self) -> int:
        """N, the samples that some worker owns."""
        return int(self.order.size)

    @cached_property
    def ids(self) -> npt.NDArray[np.int64]:
        """int64 [N]: the sample ids, ascending."""
        ids = np.sort(self.order)
        ids.flags.writeable = False
        return ids

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """int64 [workers, bins]: samples per group."""
        return np.diff(self.offsets).reshape(self.workers, self.bins)

    def group(self, worker: int, bin: int) -> npt.NDArray[np.int64]:
        """The sample ids of one bin of one worker, int64, most important first (a read-only view)."""
        if not (0 <= worker < self.workers and 0 <= bin < self.bins):
            raise ArgumentError(
                f"worker {worker}, bin {bin}: there are {self.workers} workers of {self.bins} bins, "
                "counted from 0"
            )
        g = worker * self.bins + bin
        return self.order[self.offsets[g] : self.offsets[g + 1]]

    def worker(self, worker: int) -> npt.NDArray[np.int64]:
        """The sample ids of one worker, int64, most important first (a read-only view)."""
        if not 0 <= worker < self.workers:
            raise ArgumentError(f"worker {worker}: there are {self.workers}, counted from 0")
        return self.order[self.offsets[worker * self.bins] : self.offsets[(worker + 1) * self.bins]]

    @cached_property
    def _group_of(self) -> IdMap:
        groups = np.repeat(np.arange(self.offsets.size - 1, dtype=np.int32), np.diff(self.offsets))
        return IdMap(self.order, groups)

    def worker_of(self, ids: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """int32, the shape of ``ids``: each sample's worker, -1 where nobody owns it."""
        return self._group_of(ids) // np.int32(self.bins)  # floor division keeps -1 as it is

    def bin_of(self, ids: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """int32, the shape of ``ids``: each sample's bin within its worker, -1 where nobody owns it."""
        groups = self._group_of(ids)
        return np.where(groups < 0, np.int32(-1), groups % np.int32(self.bins))

    def moved_from(self, other: Partition, sizes: npt.ArrayLike | None = None) -> Moves:
        """What changed hands since ``other``.

        sizes: bytes of each sample, int64 [N], in ascending order of sample id (as in ``ids``).
        """
        nbytes = None if sizes is None else check_sizes(sizes, self.num_samples)
        before, now = other.worker_of(self.ids), self.worker_of(self.ids)
        shape = (other.workers, self.workers)
        samples = holdings(before, now, shape)
        if nbytes is None:
            return Moves(samples[:-1], None, samples[-1], None)
        size = holdings(before, now, shape, nbytes)
        return Moves(samples[:-1], size[:-1], samples[-1], size[-1])

    def save(self, path: str | PathLike[str]) -> None:
        """Write a Parquet file (columns id, worker, bin, score; the scalars in its schema metadata)."""
        from pyimportance.order.parquet import save_partition

        save_partition(self, path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Partition:
        """Read what ``save`` wrote. Raises DataError, naming the file, where it is anything else."""
        from pyimportance.order.parquet import load_partition

        return load_partition(path)

    def __reduce__(self) -> tuple[type[Partition], tuple[object, ...]]:
        # Pickled by its fields: the other process gets read-only arrays as well, and no look-up tables.
        return Partition, tuple(getattr(self, field.name) for field in fields(self))

    def __repr__(self) -> str:
        return (
            f"Partition({self.num_samples} samples, workers={self.workers}, bins={self.bins}, "
            f"policy={self.policy!r}, measure={self.measure!r}, seed={self.seed})"
        )
