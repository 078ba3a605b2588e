"""Batches, as ``batched=True`` yields them: columns that native code fills, before they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyimportance.load.fields import Field
from pyimportance.load.making import Making
from pyimportance.load.merge import Ints

Memory = Callable[[int], NDArray[np.uint8]]
"""Uninitialised bytes, that somebody may get again when all that was made of them is gone."""


class Batch:
    """A batch of ``size`` samples that is being filled; `columns` is what it becomes.

    ``__index__`` int64 [B], ``__weight__`` float32 [B] and ``__pad__`` bool [B] are arrays; keys, URLs and
    parts are lists, None where a sample lacks a part that others have; a field is a tensor [B, *shape].
    DataLoader(batch_size=None) turns the arrays into tensors; with collate_fn=dict it passes them on as they
    are, which is quicker.
    """

    def __init__(
        self, size: int, fields: tuple[Field, ...], *, pin_memory: bool = False, memory: Memory
    ) -> None:
        self.lists: dict[str, list[Any]] = {"__key__": [None] * size, "__url__": [None] * size}
        self.index = np.empty(size, np.int64)
        self.pad = np.empty(size, np.bool_)
        self.weight = np.ones(size, np.float32)
        self._fields: dict[str, torch.Tensor] = {}
        self.arrays: list[NDArray[np.uint8]] = []
        for field in fields:
            if pin_memory:
                data = torch.empty(size * field.nbytes, dtype=torch.uint8, pin_memory=True)
            else:
                data = torch.from_numpy(memory(size * field.nbytes))
            self._fields[field.extension] = data.view(getattr(torch, field.dtype)).view(size, *field.shape)
            self.arrays.append(data.numpy())

    def columns(self) -> dict[str, Any]:
        common = {"__index__": self.index, "__weight__": self.weight, "__pad__": self.pad}
        parts = {name: column for name, column in self.lists.items() if name not in ("__key__", "__url__")}
        names = {"__key__": self.lists["__key__"], "__url__": self.lists["__url__"]}
        return {**names, **common, **parts, **self._fields}


Seats = tuple[Batch, Ints]
"""A batch, and those of its places that the next samples of a stream take."""


class Batches:
    """The batches of a share whose samples are of these workers: ``size`` samples each, and what is left.

    One is made when the first of its samples begins to be read, so that it is read to where it belongs.
    """

    def __init__(self, worker: NDArray[np.int32], size: int, making: Making, memory: Memory) -> None:
        self._size, self._total, self._making, self._memory = size, len(worker), making, memory
        self._made: dict[int, Batch] = {}
        order = np.argsort(worker, kind="stable")
        workers, starts = np.unique(worker[order], return_index=True)
        self._places: dict[int, Ints] = dict(
            zip(workers.tolist(), np.split(order.astype(np.int64), starts[1:]), strict=True)
        )

    def seats(self, worker: int, begin: int, end: int) -> Iterator[Seats]:
        """Where the samples begin .. end - 1 of a worker go."""
        number, slot = np.divmod(self._places[worker][begin:end], self._size)
        edges = np.flatnonzero(np.diff(number, prepend=-1, append=-1)).tolist()
        for a, b in pairwise(edges):
            yield self._batch(int(number[a])), slot[a:b]

    def __iter__(self) -> Iterator[tuple[Batch, dict[int, Ints]]]:
        """Each batch, to be filled now, and the places in it that each worker's samples take."""
        for number, first in enumerate(range(0, self._total, self._size)):
            slots = {}
            for w, places in self._places.items():
                a, b = np.searchsorted(places, (first, first + self._size)).tolist()
                if a < b:
                    slots[w] = places[a:b] - first
            yield self._batch(number), slots
            del self._made[number]

    def _batch(self, number: int) -> Batch:
        if number not in self._made:
            size, making = min(self._size, self._total - number * self._size), self._making
            self._made[number] = Batch(size, making.fields, pin_memory=making.pin_memory, memory=self._memory)
        return self._made[number]
