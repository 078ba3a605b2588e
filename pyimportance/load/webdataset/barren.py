"""Stages that give nothing, round after round, in epochs of a number of outputs: these would never end.

What comes out of the whole pipeline does not tell: batches of more samples than a round has, and those of a
choice of few, rightly take whole rounds. So each stage that may leave inputs out is looked at by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pyimportance.errors import ArgumentError
from pyimportance.load.webdataset.stages import Each, Sampled, Stage

_INPUTS = 1000  # without an output: chance may leave out all of fewer, which small data sets have
_SHARED = 10  # rounds, where others read parts of each, and what is chosen may lie in theirs
_HELD = 100  # rounds, of any function of an iterator, which may hold back what it is given


class Watched:
    """A stage, and what went in and came out of it.

    rounds, inputs: the latest whole rounds in a row in which it had inputs and gave nothing, and how many
    inputs these were. had, gave: of the round that is being read.
    """

    def __init__(self, stage: Stage, enough: int) -> None:
        self.stage, self._enough = stage, enough
        self.rounds = self.inputs = self._had = 0
        self._gave = False

    def __call__(self, inputs: Iterator[Any], seed: str) -> Iterator[Any]:
        for output in self.stage(self._counted(inputs), seed):
            self._gave = True
            yield output

    def _counted(self, inputs: Iterator[Any]) -> Iterator[Any]:
        for sample in inputs:
            self._had += 1
            yield sample

    def end_round(self, *, whole: bool) -> bool:
        """Whether to give up."""
        if self._gave:
            self.rounds = self.inputs = 0
        elif self._had and whole:
            self.rounds, self.inputs = self.rounds + 1, self.inputs + self._had
        self._had, self._gave = 0, False
        return self.rounds >= self._enough and self.inputs >= _INPUTS


class Barren:
    """The stages of an iteration that may leave inputs out, but for one that samples at random, which gives
    something in the end; shared: other ranks or processes read parts of each round.
    """

    def __init__(self, *, shared: bool) -> None:
        self._enough = _SHARED if shared else 1
        self._watched: list[Watched] = []

    def run(self, stage: Stage) -> Callable[[Iterator[Any], str], Iterator[Any]]:
        """What runs a stage that may leave inputs out, and counts."""
        if isinstance(stage, Sampled) and stage.p > 0:
            return stage
        enough = _HELD if isinstance(stage, Each) else self._enough
        self._watched.append(watched := Watched(stage, enough))
        return watched

    def end_round(self, *, whole: bool) -> None:
        """Called where what this process reads of a round has been read; whole: it began with the round.

        Raises ArgumentError where a stage goes on giving nothing.
        """
        for watched in self._watched:
            if watched.end_round(whole=whole):
                raise ArgumentError(
                    f".{watched.stage.name}() gives nothing: of {watched.inputs} inputs, in {watched.rounds} "
                    "rounds of the data, it left out all; an epoch of a number of outputs, or without an "
                    "end, would go on reading for ever"
                )
