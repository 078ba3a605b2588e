"""Memory that a training process and its loader processes map, forked or spawned."""

from __future__ import annotations

import fcntl
import mmap
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import DupFd
from typing import Any


class Mapped:
    """``nbytes`` zero bytes, shared with the copies in forked and spawned processes, and a lock between them.

    Copied or pickled otherwise, it becomes memory of its own with the same contents.
    """

    nbytes: int  # of the class
    _memory: mmap.mmap
    _maker: int | None  # process that made it; None: it was sent here

    def __init__(self) -> None:
        self._maker = os.getpid()
        self._map(os.memfd_create("pyimportance"))

    @property
    def is_of_another_process(self) -> bool:
        """Whether this one was forked with it, or spawned; nobody else has what was made, or copied, here."""
        return self._maker != os.getpid()

    def _map(self, fd: int) -> None:
        self._fd = fd
        self._make_room(self.nbytes)
        self._memory = mmap.mmap(fd, self.nbytes)
        weakref.finalize(self, os.close, fd)

    def _make_room(self, nbytes: int) -> None:
        """The file is so long, or longer, as other processes may have made it. Not two at a time."""
        if os.fstat(self._fd).st_size < nbytes:
            os.ftruncate(self._fd, nbytes)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # lockf, not flock: a forked process has the same open file, which flock would take for one holder.
        fcntl.lockf(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def __getstate__(self) -> dict[str, Any]:
        if get_spawning_popen() is not None:
            return {"fd": DupFd(self._fd)}
        with self._locked():
            return {"contents": self._memory[:].rstrip(b"\0")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._maker = None if "fd" in state else os.getpid()
        if "fd" in state:
            self._map(state["fd"].detach())
        else:
            self._map(os.memfd_create("pyimportance"))
            self._memory[: len(state["contents"])] = state["contents"]
