"""The stages of a pipeline together: what they make of samples, and how many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

from pyimportance.load.webdataset.applied import Applied, Others
from pyimportance.load.webdataset.barren import Barren
from pyimportance.load.webdataset.stages import Batched, Each, Stage, Unlisted


@dataclass(frozen=True)
class Fill:
    """others: the samples of this rank from the start of its epoch; note: called for each place filled."""

    others: Others
    note: Callable[[], None]


@dataclass(frozen=True)
class Pipeline:
    stages: tuple[Stage, ...] = ()

    def then(self, stage: Stage) -> Pipeline:
        return Pipeline((*self.stages, stage))

    @property
    def ratio(self) -> int:
        """Samples that make an output, as far as that is known."""
        return prod(stage.takes or 1 for stage in self.stages)

    @property
    def is_counted(self) -> bool:
        """Whether the number of outputs follows from that of samples, but for those that are left out."""
        return all(stage.takes is not None for stage in self.stages)

    @property
    def mixes(self) -> bool:
        return any(stage.mixes for stage in self.stages)

    @property
    def makes_batches(self) -> bool:
        depth = 0  # of batches in batches
        for stage in self.stages:
            if isinstance(stage, Batched):
                depth += 1
            elif isinstance(stage, Unlisted):
                depth = max(0, depth - 1)
        return depth > 0

    @property
    def inexact(self) -> Stage | None:
        """The first that cannot go on in the middle of an epoch."""
        return next((stage for stage in self.stages if not stage.exact), None)

    @property
    def choosing(self) -> tuple[Stage, ...]:
        """Those of which the samples decide how many come out. What takes apart batches that were made right
        before gives as many as went into them.
        """
        found, batches = list[Stage](), list[Batched]()  # that nobody has looked into
        for stage in self.stages:
            if isinstance(stage, Batched):
                batches.append(stage)
            elif isinstance(stage, Unlisted):
                if not (batches and stage.undoes(batches.pop())):
                    found.append(stage)
                    batches.clear()
            elif stage.chooses:
                found.append(stage)
            if isinstance(stage, Applied | Each):  # batches are what these make of them
                batches.clear()
        return tuple(found)

    @property
    def losing(self) -> tuple[Stage, ...]:
        """Those after which fewer samples, or others, may be there than went in: `choosing`, and functions
        that may leave one out."""
        chosen = self.choosing
        return tuple(
            stage
            for stage in self.stages
            if any(stage is s for s in chosen) or (isinstance(stage, Applied) and stage.may_leave_out)
        )

    def outputs(self, samples: int) -> int:
        """What so many samples make, where `is_counted` and none is left out."""
        whole = not all(stage.partial for stage in self.stages if isinstance(stage, Batched))
        return samples // self.ratio if whole else -(-samples // self.ratio)

    def through(
        self, samples: Iterator[Any], seed: str, fill: Fill | None, barren: Barren | None = None
    ) -> Iterator[Any]:
        """What comes out of all stages; fill: where none of them may leave samples out; barren: counts what
        those that may leave out."""
        outputs, choosing = samples, self.choosing
        for number, stage in enumerate(self.stages):
            if fill is not None and isinstance(stage, Applied):
                before = Pipeline(self.stages[:number])
                outputs = stage.filled(outputs, partial(before._others, fill, seed), fill.note)
            elif barren is not None and (isinstance(stage, Applied) or any(stage is s for s in choosing)):
                outputs = barren.run(stage)(outputs, seed)
            else:
                outputs = stage(outputs, seed)
        return outputs

    def _others(self, fill: Fill, seed: str) -> Iterator[Any]:
        return self.through(fill.others(), seed, None)
