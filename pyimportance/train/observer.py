"""Observer: tracks the epochs that a schedule observes, scores by what they showed, knows what it cost."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pyimportance.checks import check_integer
from pyimportance.errors import ArgumentError
from pyimportance.score.measures import score
from pyimportance.score.values import Scores
from pyimportance.train.checks import check_measure, check_recorded
from pyimportance.train.schedule import Schedule

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import ArrayLike, NDArray

    from pyimportance.score.tracker import Tracker


class Observer:
    """What a training loop calls for every batch and at the end of every epoch.

    A :class:`pyimportance.Controller` is one, and also moves samples; alone it serves a warm-up that reads no
    shards yet. For arguments, attributes and errors see there.
    """

    def __init__(
        self,
        tracker: Tracker,
        schedule: Schedule,
        *,
        measure: str = "loss_mean",
        measure_options: Mapping[str, Any] | None = None,
        decay: float | None = None,
        group: torch.distributed.ProcessGroup | None = None,
        epoch: int = 0,
    ) -> None:
        if not isinstance(schedule, Schedule):
            raise ArgumentError(f"schedule={schedule!r}: must be a Schedule")
        if not isinstance(measure_options, Mapping | None):
            raise ArgumentError(f"measure_options={measure_options!r}: must be a dict of options")
        self.measure, self.measure_options = measure, dict(measure_options or {})
        self._resolved = check_measure(measure, self.measure_options, tracker, schedule, decay)
        self.tracker, self.schedule, self.decay, self.group = tracker, schedule, decay, group
        self.epoch = check_integer("epoch", epoch, 0)
        self.samples = 0
        self.observe_seconds = self.commit_seconds = 0.0

    @property
    def tracking_seconds(self) -> float:
        """What observing cost training: ``observe_seconds + commit_seconds``."""
        return self.observe_seconds + self.commit_seconds

    def observe(
        self,
        ids: ArrayLike,
        logits: Any,
        targets: Any,
        *,
        features: Any = None,
        mask: ArrayLike | torch.Tensor | None = None,
        ignore_index: int | None = None,
    ) -> None:
        """One batch, as :meth:`Tracker.observe` takes it; a no-op in epochs the schedule does not observe.

        Raises ArgumentError at the first batch where the measure needs what observing it does not record.
        """
        if not self.schedule.observes(self.epoch):
            return
        start = time.perf_counter()
        self.tracker.observe(ids, logits, targets, features=features, mask=mask, ignore_index=ignore_index)
        self.observe_seconds += time.perf_counter() - start
        if not self.samples:
            check_recorded(self.measure, self.measure_options, self.tracker)  # now its kind is known
        self.samples += len(logits)

    def commit(self) -> None:
        """Ends the epoch: ranks exchange what they saw, where the schedule observes it (collective)."""
        if self.schedule.observes(self.epoch):
            start = time.perf_counter()
            self.tracker.end_epoch(self.group)
            self.commit_seconds += time.perf_counter() - start
            check_recorded(
                self.measure, self.measure_options, self.tracker
            )  # it may have been given losses directly
        self.epoch += 1

    def score(self, ids: NDArray[np.int64]) -> Scores:
        """The samples ``ids`` (ascending) by the measure of what was observed so far."""
        everyone = score(self.tracker.dynamics(), self.measure, **self.measure_options)
        return Scores(
            everyone.values[ids], ids, self.measure, everyone.descending, metadata=everyone.metadata
        )
