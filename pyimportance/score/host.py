"""A tracker's state in the memory of the host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pyimportance import _C
from pyimportance.score import inputs, state
from pyimportance.score.batch import ids_and_mask, make_batch
from pyimportance.score.history import ROW, UNSEEN, Rows, blank_rows
from pyimportance.threads import default_threads

if TYPE_CHECKING:
    from pyimportance.score.engine import Packed


class HostEngine:
    """See Engine. What is wrong with a batch is raised at once, and nothing of it recorded."""

    def __init__(self, num_samples: int) -> None:
        self.skipped = 0
        self._threads = default_threads()  # asked for once an epoch: that takes as long as a small batch
        self._columns: state.Columns = {"count": np.zeros(num_samples, np.int32)}
        self._rows = blank_rows(num_samples)
        self._scratch = blank_rows(0)

    def observe(  # noqa: PLR0917
        self, ids: Any, logits: Any, targets: Any, features: Any, mask: Any, ignore_index: Any, skip: bool
    ) -> int:
        batch = make_batch(ids, logits, targets, features, mask, ignore_index)
        scratch = self._scratch_for(batch.scratch_rows)
        self.skipped += batch.record(skip, scratch, self._rows, self._threads)
        return batch.classes

    def observe_loss(self, ids: Any, loss: Any, mask: Any, skip: bool) -> None:
        sample, live = ids_and_mask(ids, mask)
        losses = inputs.floats("loss", loss, (sample.size,))
        wide = np.ascontiguousarray(losses, dtype=np.float64)
        scratch = self._scratch_for(sample.size)
        self.skipped += _C.observe_losses(sample, wide, live, skip, scratch, self._rows, self._threads)

    def _scratch_for(self, rows: int) -> Rows:
        if self._scratch.size < rows:
            self._scratch = blank_rows(rows)
        return self._scratch

    def check(self) -> None:
        pass

    def begun(self) -> bool:
        return bool(self.skipped or (self._rows["code"] != UNSEEN).any())

    def columns(self) -> state.Columns:
        return self._columns

    def set_columns(self, columns: state.Columns) -> None:
        self._columns = columns

    def rows(self) -> Rows:
        return self._rows

    def load(self, columns: state.Columns, rows: Rows, skipped: int) -> None:
        self._columns, self._rows, self.skipped = columns, rows, skipped

    def fold(self, epoch: int, quantities: tuple[str, ...]) -> None:
        if missing := set(state.names(quantities)) - self._columns.keys():
            fresh = state.zeros(self._rows.size, quantities)
            self._columns |= {name: fresh[name] for name in missing}
        self._threads = default_threads()
        _C.fold(self._columns, self._rows, epoch, self._threads)
        self._rows.view(np.uint8).fill(0)

    def packed(self) -> Packed:
        import torch

        ids = np.flatnonzero(self._rows["code"] != UNSEEN)
        rows = self._rows[ids].view(np.uint8).reshape(ids.size, ROW.itemsize)
        return torch.from_numpy(ids), torch.from_numpy(rows)

    def replace(self, parts: list[Packed]) -> None:
        self._rows[np.flatnonzero(self._rows["code"] != UNSEEN)] = np.zeros((), dtype=ROW)
        for ids, rows in parts:
            packed = rows.cpu().numpy().view(ROW).reshape(-1)
            _C.commit_rows(ids.cpu().numpy(), packed, self._rows, self._threads)
