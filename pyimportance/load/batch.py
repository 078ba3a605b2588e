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
from pyimportance.load.share import Piece

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
    """Batches of ``size`` samples each, and of what is left at the end, where alone a piece ends within one.

    One is made when the first of its samples begins to be read, so that it is read to where it belongs.
    """

    def __init__(self, size: int, making: Making, memory: Memory) -> None:
        self._size, self._making, self._memory = size, making, memory
        self._made: dict[int, Batch] = {}

    def seats(self, worker: int, pieces: Iterator[Piece]) -> Callable[[int], list[Seats]]:
        """Says where the next so many samples of a worker go, whenever it is called."""
        coming, left = self._coming(worker, pieces), list[Seats]()

        def take(count: int) -> list[Seats]:
            taken = []
            while count:
                batch, slots = left.pop() if left else next(coming)
                if len(slots) > count:
                    left.append((batch, slots[count:]))
                taken.append((batch, slots[:count]))
                count -= len(taken[-1][1])
            return taken

        return take

    def _coming(self, worker: int, pieces: Iterator[Piece]) -> Iterator[Seats]:
        before = 0
        for piece in pieces:
            number, slot = np.divmod(piece.places.get(worker, np.zeros(0, np.int64)), self._size)
            edges = np.flatnonzero(np.diff(number, prepend=-1, append=-1)).tolist()
            for a, b in pairwise(edges):
                yield self._batch(before + int(number[a]), piece, int(number[a])), slot[a:b]
            before += -(-len(piece) // self._size)

    def of(self, pieces: Iterator[Piece]) -> Iterator[tuple[Batch, dict[int, Ints]]]:
        """Each batch, to be filled now, and the places in it that each worker's samples take."""
        before = 0
        for piece in pieces:
            for number, first in enumerate(range(0, len(piece), self._size)):
                slots = {}
                for w, places in piece.places.items():
                    a, b = np.searchsorted(places, (first, first + self._size)).tolist()
                    if a < b:
                        slots[w] = places[a:b] - first
                yield self._batch(before + number, piece, number), slots
                del self._made[before + number]
            before += -(-len(piece) // self._size)

    def _batch(self, number: int, piece: Piece, within: int) -> Batch:
        """Batch ``number``, which is the one of that number ``within`` a piece."""
        if number not in self._made:
            size, making = min(self._size, len(piece) - within * self._size), self._making
            self._made[number] = Batch(size, making.fields, pin_memory=making.pin_memory, memory=self._memory)
        return self._made[number]
