"""How far a tracker has come: which epochs it has committed, of what kind of observation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError
from pyimportance.score import state


@dataclass(frozen=True)
class Progress:
    """Epochs are numbered from the run's first.

    first_epoch  the first epoch committed, or to be
    epochs       how many have been
    start        the first epoch that the statistics cover
    kind         of observation (state.KINDS); "" before the first
    classes      of all logits so far (state.classes_of)
    skipped      observations left out in committed epochs, by all ranks
    """

    first_epoch: int
    epochs: int
    start: int
    kind: str = ""
    classes: int = 0
    skipped: int = 0

    @property
    def end(self) -> int:
        """The epoch in progress."""
        return self.first_epoch + self.epochs

    @property
    def committed(self) -> range:
        return range(self.first_epoch, self.end)

    @property
    def quantities(self) -> tuple[str, ...]:
        """What observations of this kind yield; nothing before the first."""
        return state.KINDS.get(self.kind, ())

    def observed(self, kind: str, classes: int = 0) -> Progress:
        """After a batch of a kind and, where it says so, of logits of so many classes."""
        if kind == self.kind and classes in (0, self.classes):
            return self
        return replace(self, kind=kind, classes=state.classes_of((self.classes, classes)))

    def ended(self, skipped: int) -> Progress:
        """After the epoch in progress."""
        return replace(self, epochs=self.epochs + 1, skipped=self.skipped + skipped)

    def merged(self, other: Progress) -> Progress:
        """After what ``other`` saw, too."""
        first, epochs, start = self.first_epoch, self.epochs, self.start
        if other.epochs and not epochs:
            first, epochs, start = other.first_epoch, other.epochs, other.start
        elif other.epochs:
            first, start = min(first, other.first_epoch), min(start, other.start)
            epochs = max(self.end, other.end) - first
        return Progress(
            first_epoch=first,
            epochs=epochs,
            start=start,
            kind=self.kind or other.kind,
            classes=state.classes_of((self.classes, other.classes)),
            skipped=self.skipped + other.skipped,
        )

    def check_merges(self, other: Progress, both: npt.NDArray[np.bool_]) -> None:
        """ArgumentError unless ``other`` can be merged into this; both: [N], samples that both have seen."""
        if self.kind and other.kind and self.kind != other.kind:
            raise ArgumentError(f"merge: {self.kind} observed here, {other.kind} in the other")
        if both.any() and other.first_epoch < self.end:
            raise ArgumentError(
                f"merge: {np.count_nonzero(both)} samples ({int(both.argmax())} first) seen by both: "
                f"epochs {self.first_epoch} to {self.end - 1} here, "
                f"{other.first_epoch} to {other.end - 1} in the other; "
                "must be no samples in common, or later epochs (Tracker(first_epoch=...))"
            )
