"""Carried: frames of compressed shards that one window has read, and that those after it need too."""

from __future__ import annotations

import numpy as np

from pyimportance.io.frames import Framed
from pyimportance.load.merge import Ints
from pyimportance.shards.sample_index import SampleIndex


class Carried:
    """What is held of the frames of a stream of windows, from one to the next: a frame is read once by those
    that follow one another and have samples of it.
    """

    def __init__(self, index: SampleIndex) -> None:
        self._index = index
        self._held: list[tuple[int, Framed, list[int]]] = []  # by those before the window that is begun
        self._next: list[tuple[int, Framed, list[int]]] = []

    def hold(self, number: int, file: Framed, frames: list[int], later: Ints | None) -> None:
        """Before these frames of a file are read: holds those in which samples of the rows ``later`` lie.

        None: the window is not one of the stream, which goes on as it was.
        """
        if later is None:
            return
        index = self._index
        wanted = file.frame_of(index.offset[later[index.file[later] == number]])
        if held := np.intersect1d(frames, wanted).tolist():
            file.hold(held)
            self._next.append((number, file, held))

    def turn(self, later: Ints | None) -> None:
        """Once a window holds what it needs: what was held before it is let go of, but for ``later``."""
        if later is None:
            return
        before, self._held = self._held, []
        for number, file, frames in before:
            self.hold(number, file, frames, later)
        self._held, self._next = self._next, []
        _let_go(before)

    def end(self) -> None:
        _let_go(self._held + self._next)
        self._held, self._next = [], []


def _let_go(held: list[tuple[int, Framed, list[int]]]) -> None:
    for _, file, frames in held:
        file.let_go(frames)
