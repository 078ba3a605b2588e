"""Accounts: what a data set, and its copies in loader processes, have read and skipped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyimportance.errors import DataError
from pyimportance.load.making import Making
from pyimportance.load.merge import Ints
from pyimportance.load.shared import Shared
from pyimportance.load.skips import Skips

if TYPE_CHECKING:
    from pyimportance.account.report import IOReport


class Accounts:
    """Of a data set."""

    _shared: Shared
    _skips: Skips
    _making: Making
    rank: int

    @property
    def skipped(self) -> int:
        """Places whose samples were in error and skipped so far, by loader processes as well: in each epoch
        anew, where ``max_skipped`` goes by how many samples these are."""
        return self._shared.skipped()

    def _may_skip(self, ids: Ints, row: int, error: DataError) -> bool:
        may = self._making.on_error == "skip" and self._skips.may(int(ids[row]), self._making.max_skipped)
        if may:
            self._shared.note_skipped()
        return may

    def counts(self) -> NDArray[np.int64]:
        """int64 [4, 2]: bytes and requests by tier (io.meter.TIERS) so far, of loader processes as well."""
        return self._shared.counts()

    def io_report(self) -> IOReport:
        """`counts` of this rank as an IOReport."""
        from pyimportance.account.report import IOReport

        return IOReport(self.counts()[None], (self.rank,))
