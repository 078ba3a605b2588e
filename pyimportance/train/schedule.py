"""Schedule: which epochs warm up, are observed, and end with a score and a repartition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pyimportance.checks import check_integer
from pyimportance.errors import ArgumentError


@dataclass(frozen=True)
class Schedule:
    """Warm up, then train in periods; before each period the samples are scored and partitioned anew.

    warmup      W >= 1 epochs before the first scores
    interval    I >= 1 epochs per period
    ignore      the first ``ignore`` < W epochs are not observed, so the first scores know nothing of them
    total       T >= W epochs in all; None: training goes on until the caller stops it
    warmup_on   "local": the warm-up trains on the random partition that each worker holds from the start,
                which fetches nothing twice; "vanilla": it reshuffles the whole data set over the ranks each
                epoch, as published

    Epochs count from 0. The last period takes the remainder: there is no repartition with fewer than I epochs
    to follow, except that after the warm-up there is always one if any epoch follows (so that I > T - W means
    one period of T - W epochs). This is the schedule of DAIS (Sheikholeslami 2023).

    ``Schedule(warmup=3, interval=2, ignore=1, total=8)``:

        epoch                     0  1  2  3  4  5  6  7
        warms_up                  x  x  x
        observes                     x  x  x  x  x  x  x
        repartitions_after              x     x
        period_of                -1 -1 -1  0  0  1  1  1

    Raises ArgumentError where a field is not as described.
    """

    warmup: int
    interval: int
    ignore: int = 0
    total: int | None = None
    warmup_on: Literal["local", "vanilla"] = "local"

    def __post_init__(self) -> None:
        for name, least in (("warmup", 1), ("interval", 1), ("ignore", 0)):
            self._set(name, check_integer(name, getattr(self, name), least))
        if self.ignore >= self.warmup:
            raise ArgumentError(
                f"ignore={self.ignore}: must be below warmup={self.warmup}, or nothing is left to score"
            )
        if self.total is not None:
            self._set("total", check_integer("total", self.total, self.warmup))
        if self.warmup_on not in ("local", "vanilla"):
            raise ArgumentError(f"warmup_on={self.warmup_on!r}: allowed are 'local' and 'vanilla'")

    def _set(self, name: str, value: int) -> None:
        object.__setattr__(self, name, value)  # the dataclass is frozen

    @property
    def periods(self) -> int | None:
        """Periods after the warm-up, each begun by a repartition; None while ``total`` is None."""
        if self.total is None:
            return None
        after = self.total - self.warmup
        return max(after // self.interval, min(after, 1))

    def warms_up(self, epoch: int) -> bool:
        """Whether the epoch is one of the first ``warmup``."""
        return self._epoch(epoch) < self.warmup

    def reshuffles(self, epoch: int) -> bool:
        """Whether the epoch deals the whole data set anew over the ranks (a "vanilla" warm-up)."""
        return self.warms_up(epoch) and self.warmup_on == "vanilla"

    def observes(self, epoch: int) -> bool:
        """Whether the epoch's dynamics are tracked: all but the first ``ignore``."""
        return self._epoch(epoch) >= self.ignore

    def repartitions_after(self, epoch: int) -> bool:
        """Whether the samples are scored and partitioned anew between this epoch and the next."""
        epoch = self._epoch(epoch)
        following = epoch + 1
        return following != self.total and self.period_of(following) != self.period_of(epoch)

    def period_of(self, epoch: int) -> int:
        """The period the epoch belongs to, from 0; -1 in the warm-up."""
        epoch = self._epoch(epoch)
        if epoch < self.warmup:
            return -1
        period = (epoch - self.warmup) // self.interval
        return period if self.periods is None else min(period, self.periods - 1)

    def epochs_of_period(self, period: int) -> range:
        """The epochs of a period; -1 is the warm-up."""
        period = check_integer("period", period, -1)
        if self.periods is not None and period >= self.periods:
            raise ArgumentError(f"period {period}: there are {self.periods}, from 0; -1 is the warm-up")
        if period == -1:
            return range(self.warmup)
        first = self.warmup + period * self.interval
        last = self.total is not None and period + 1 == self.periods
        return range(first, self.total if last and self.total is not None else first + self.interval)

    def _epoch(self, epoch: int) -> int:
        try:
            number = check_integer("epoch", epoch, 0)
        except ArgumentError:
            number = -1
        if number < 0 or (self.total is not None and number >= self.total):
            allowed = "0 or more" if self.total is None else f"0 to {self.total - 1}"
            raise ArgumentError(f"epoch {epoch!r}: the schedule's epochs are {allowed}")
        return number
