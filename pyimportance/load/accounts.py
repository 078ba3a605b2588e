"""Accounts: what a data set, and its copies in loader processes, have read and skipped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyimportance.load.shared import Shared

if TYPE_CHECKING:
    from pyimportance.account.report import IOReport


class Accounts:
    """Of a data set, which has ``_shared`` and ``rank``."""

    _shared: Shared
    rank: int

    @property
    def skipped(self) -> int:
        """Places whose samples were in error and skipped so far, by loader processes as well."""
        return self._shared.skipped()

    def counts(self) -> NDArray[np.int64]:
        """int64 [4, 2]: bytes and requests by tier (io.meter.TIERS) so far, of loader processes as well."""
        return self._shared.counts()

    def io_report(self) -> IOReport:
        """`counts` of this rank as an IOReport."""
        from pyimportance.account.report import IOReport

        return IOReport(self.counts()[None], (self.rank,))
