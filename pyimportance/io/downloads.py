"""Downloads: threads that wait for servers, and whom nobody has to wait for."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, Final, TypeVar
from weakref import WeakSet

T = TypeVar("T")

AT_ONCE: Final = 16
"""Requests under way, of one iteration of a process."""
_AT_EXIT = 1.0  # seconds; a thread that comes back into an interpreter that ends takes the process down


class ClosedError(Exception):
    """What was asked for will not come: nobody wants it any more."""


class Downloads:
    """Calls functions in threads of its own, in the order they were given, until `close`.

    `close` does not wait for a server: what is under way comes to its end, or to that of its retries, for
    nobody, and a process that ends meanwhile does not wait for it either.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._asked: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._wanted: set[Future[Any]] = set()
        self._threads: list[threading.Thread] = []
        self._idle, self.closed = 0, False
        _all.add(self)

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Its result, or ClosedError after `close`."""
        future: Future[T] = Future()
        with self._changed:
            if self.closed:
                future.set_exception(ClosedError())
                return future
            self._asked.append((call, future))
            self._wanted.add(future)
            if self._idle < len(self._asked) and len(self._threads) < AT_ONCE:
                thread = threading.Thread(target=self._run, name="pyimportance-downloads", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify()
        return future

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._asked.clear()
            wanted, self._wanted = self._wanted, set()
            self._changed.notify_all()
        for future in wanted:
            with suppress(InvalidStateError):
                future.set_exception(ClosedError())

    def wait_at_exit(self, until: float) -> None:
        self.close()
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _run(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                self._changed.wait_for(lambda: self.closed or self._asked)
                self._idle -= 1
                if self.closed:
                    return
                call, future = self._asked.popleft()
            with suppress(InvalidStateError):
                try:
                    result = call()
                except BaseException as e:
                    future.set_exception(e)
                else:
                    future.set_result(result)
            with self._changed:
                self._wanted.discard(future)
            del call, future


_all: WeakSet[Downloads] = WeakSet()


@atexit.register
def _wait() -> None:
    until = time.monotonic() + _AT_EXIT
    for downloads in list(_all):
        downloads.wait_at_exit(until)


os.register_at_fork(after_in_child=_all.clear)
