"""Files: many files read by turns, of which only so many are open at a time."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from pyimportance.io.frames import content_of
from pyimportance.io.meter import Meter
from pyimportance.io.storage import File, open_file

OPEN_FILES = 64


class Files:
    """At most ``limit`` files open for reading, counted on ``meter``; the longest unused is closed first.

    Reading in order of files needs few; who jumps among all of them asks `storage.make_room` how many may be
    open. A copy for another process begins with none.
    """

    def __init__(self, meter: Meter | None = None, limit: int = OPEN_FILES) -> None:
        self._meter, self._limit = meter, limit
        self._open: OrderedDict[str, File] = OrderedDict()

    def get(self, path: str, tier: str = "origin") -> File:
        """The file, or the tar in it (`content_of`), open until as many others were asked for, or `close`.

        Raises as `open_file` and `content_of` do.
        """
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        if len(self._open) >= self._limit:
            self._open.popitem(last=False)[1].close()
        self._open[path] = content_of(open_file(path, self._meter, tier))
        return self._open[path]

    def close(self) -> None:
        """Closes all; `get` opens them again."""
        while self._open:
            self._open.popitem()[1].close()

    def __enter__(self) -> Files:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}
