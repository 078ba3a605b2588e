"""Batches, as ``batched=True`` yields them: columns that native code fills from windows of samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyimportance.load.fields import Field


class Batch:
    """A batch of ``size`` samples that is being filled; `columns` is what it becomes.

    ``__index__`` int64 [B], ``__weight__`` float32 [B] and ``__pad__`` bool [B] are arrays; keys, URLs and
    parts are lists, None where a sample lacks a part that others have; a field is a tensor [B, *shape].
    DataLoader(batch_size=None) turns the arrays into tensors; with collate_fn=dict it passes them on as they
    are, which is quicker.
    """

    def __init__(self, size: int, fields: tuple[Field, ...], *, pin_memory: bool) -> None:
        self.lists: dict[str, list[Any]] = {"__key__": [None] * size, "__url__": [None] * size}
        self.index = np.empty(size, np.int64)
        self.pad = np.empty(size, np.bool_)
        self.weight = np.ones(size, np.float32)
        self._fields = {
            f.extension: torch.empty((size, *f.shape), dtype=getattr(torch, f.dtype), pin_memory=pin_memory)
            for f in fields
        }
        self.arrays: list[NDArray[np.uint8]] = [
            t.reshape(size, -1).view(torch.uint8).numpy() for t in self._fields.values()
        ]

    def columns(self) -> dict[str, Any]:
        common = {"__index__": self.index, "__weight__": self.weight, "__pad__": self.pad}
        parts = {name: column for name, column in self.lists.items() if name not in ("__key__", "__url__")}
        names = {"__key__": self.lists["__key__"], "__url__": self.lists["__url__"]}
        return {**names, **common, **parts, **self._fields}
