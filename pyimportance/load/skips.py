"""Which samples were skipped: each is one, in however many epochs and loader processes it is met."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyimportance.load.mapped import Mapped

_ROOM = 2**20  # samples that are told apart; memory is taken by those that there are


class Skips(Mapped):
    """Sample ids, int64, behind their number; shared with the copies in loader processes."""

    nbytes = 8 * (1 + _ROOM)

    def may(self, sample: int, most: int) -> bool:
        """Whether ``sample`` may be skipped, as it was already or as the ``most``-th one or before that."""
        with self._locked():
            values: NDArray[np.int64] = np.frombuffer(self._memory, np.int64)
            known = int(values[0])
            if (values[1 : 1 + min(known, _ROOM)] == sample).any():
                return True
            if known >= most:
                return False
            changed = np.array([known + 1], np.int64).tobytes()
            self._memory[:8] = changed
            if known < _ROOM:
                self._memory[8 * (1 + known) : 8 * (2 + known)] = np.array([sample], np.int64).tobytes()
        return True
