"""IdMap: sample id -> small integer, as one gather where ids are dense and a binary search where not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError
from pyimportance.score import inputs

# A table indexed by id is built when it needs at most this many slots per sample.
SLOTS_PER_SAMPLE = 4


class IdMap:
    """Maps each of ``ids`` int64 [N] (unique, >= 0) to its int32 value; every other id maps to -1."""

    def __init__(self, ids: npt.NDArray[np.int64], values: npt.NDArray[np.int32]) -> None:
        top = int(ids.max(initial=-1)) + 1
        self._sorted: npt.NDArray[np.int64] | None = None
        if top <= SLOTS_PER_SAMPLE * ids.size + 1024:
            self._table = np.full(top + 1, -1, np.int32)  # the last slot answers for unknown ids
            self._table[ids] = values
        else:
            by_id = np.argsort(ids, kind="stable")
            self._sorted = ids[by_id]
            self._table = np.append(values[by_id], np.int32(-1)).astype(np.int32, copy=False)

    def __call__(self, ids: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """int32, the shape of ``ids`` (integers): the value of each id, -1 where it is unknown."""
        wanted = inputs.as_array("ids", ids)
        if wanted.size and wanted.dtype.kind not in "iu":
            raise ArgumentError(f"ids: {wanted.dtype}; sample ids are integers")
        wanted = wanted.astype(np.int64, copy=False)  # uint64 from 2**63 wraps to negative: unknown as well
        unknown = self._table.size - 1
        if self._sorted is None:
            slots = np.where((wanted >= 0) & (wanted < unknown), wanted, unknown)
        else:
            slots = np.minimum(np.searchsorted(self._sorted, wanted), unknown)
            found = self._sorted[np.minimum(slots, unknown - 1)] == wanted
            slots = np.where(found, slots, unknown)
        values: npt.NDArray[np.int32] = self._table[slots]
        return values
