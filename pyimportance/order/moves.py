"""Moves: what changed hands between two partitions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Moves:
    """Samples (and bytes) by old and new holder; the diagonal is what stayed.

    ``samples`` int64 [from, to]: held by worker ``from`` before and by ``to`` now. ``bytes`` likewise, None
    where sizes were not given. ``new_samples`` and ``new_bytes`` int64 [to]: samples nobody held before.
    """

    samples: npt.NDArray[np.int64]
    bytes: npt.NDArray[np.int64] | None
    new_samples: npt.NDArray[np.int64]
    new_bytes: npt.NDArray[np.int64] | None

    @property
    def moved_samples(self) -> int:
        """Samples that went from one worker to another (those nobody held before are not among them)."""
        return int(self.samples.sum() - np.trace(self.samples))

    @property
    def moved_bytes(self) -> int | None:
        """Bytes of ``moved_samples``; None where sizes were not given."""
        return None if self.bytes is None else int(self.bytes.sum() - np.trace(self.bytes))


def holdings(
    before: npt.NDArray[np.int32],
    now: npt.NDArray[np.int32],
    shape: tuple[int, int],
    sizes: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.int64]:
    """int64 [workers before + 1, workers now]: samples (or bytes) by holder; the last row is nobody's.

    ``before`` and ``now`` int32 [N] name each sample's holder; a ``before`` outside the shape is nobody.
    """
    rows, columns = shape
    row = np.where((before >= 0) & (before < rows), before, rows).astype(np.int64)
    cell = row * columns + now
    if sizes is None:
        return np.bincount(cell, minlength=(rows + 1) * columns).reshape(rows + 1, columns).astype(np.int64)
    table = np.zeros((rows + 1) * columns, np.int64)
    np.add.at(table, cell, sizes)  # exact in int64, where bincount's weights pass through float
    return table.reshape(rows + 1, columns)
