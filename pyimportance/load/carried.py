"""Carried: frames of compressed shards that one window has read, and that those after it need too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyimportance.io.frames import Framed, Held
from pyimportance.load.merge import Ints
from pyimportance.shards.sample_index import SampleIndex


class Carried:
    """What is held of the frames of a stream of windows, from one to the next: a frame is read once by those
    that follow one another and have samples of it, while its file stays open, for which nothing is done here.
    """

    def __init__(self, index: SampleIndex) -> None:
        self._index = index
        self._held: list[tuple[int, Held]] = []  # by those before the window that is begun
        self._next: list[tuple[int, Held]] = []

    def hold(self, number: int, file: Framed, frames: Sequence[int], later: Ints | None) -> None:
        """Before these frames of a file are read: holds those in which samples of the rows ``later`` lie.

        None: the window is not one of the stream, which goes on as it was.
        """
        if later is None:
            return
        index = self._index
        wanted = file.frame_of(index.offset[later[index.file[later] == number]])
        if held := np.intersect1d(frames, wanted).tolist():
            self._next.append((number, file.held(held)))

    def turn(self, later: Ints | None) -> None:
        """Once a window holds what it needs: what was held before it is let go of, but for ``later``."""
        if later is None:
            return
        before, self._held = self._held, []
        for number, held in before:
            if (file := held.file()) is not None:
                self.hold(number, file, held.frames, later)
        self._held, self._next = self._next, []
        _end(before)

    def end(self) -> None:
        _end(self._held + self._next)
        self._held, self._next = [], []


def _end(them: list[tuple[int, Held]]) -> None:
    for _, held in them:
        held.end()
