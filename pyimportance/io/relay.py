"""Objects behind URLs for a forked process, which has none of the threads that obstore had before the fork.

It starts another process, which begins from nothing and reads for it. Neither outlives the other: what ends
one closes the sockets between them.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from multiprocessing.spawn import get_executable
from typing import Any, Final

from pyimportance.errors import DataError
from pyimportance.io import urls

AT_ONCE: Final = 32
_LINE = 1 << 16
_SERVE = """import json, sys
sys.path[:] = json.loads(sys.argv[1])
from pyimportance.io.relay import serve
serve()
"""


def describe(url: str) -> tuple[int, str | None, str | None]:
    """`remote.describe`, by another process."""
    size, tag, since = _relay().ask(url, "describe")[0]["answer"]
    return size, tag, since


def get_range(url: str, size: int, tag: str | None, offset: int, nbytes: int) -> bytearray:
    """`remote.get_range`, by another process."""
    return _relay().ask(url, "get_range", size, tag, offset, nbytes)[1]


class Relay:
    """The other process, as this one sees it. Threads may share it."""

    def __init__(self) -> None:
        pairs = [socket.socketpair() for _ in range(AT_ONCE + 1)]
        theirs = [their.fileno() for _, their in pairs]
        command = [os.fsdecode(get_executable()), "-c", _SERVE, json.dumps(sys.path), json.dumps(theirs)]
        # In a session of its own, as Ctrl-C is for this one.
        self._process = subprocess.Popen(command, pass_fds=theirs, start_new_session=True)
        for _, their in pairs:
            their.close()
        self._life, *self._sockets = [our for our, _ in pairs]
        self._idle: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        for ours in self._sockets:
            self._idle.put(ours)

    def ask(self, url: str, *request: Any) -> tuple[dict[str, Any], bytearray]:
        ours = self._idle.get()
        try:
            ours.sendall(json.dumps([request[0], url, *request[1:]]).encode() + b"\n")
            with ours.makefile("rb") as answers:
                answer: dict[str, Any] = json.loads(answers.readline(_LINE))
                data = bytearray(answer["nbytes"])
                if answers.readinto(data) != len(data):
                    raise EOFError
        except (OSError, EOFError, ValueError):
            problem = "the process that reads URLs for this one, a forked one, has ended"
            raise DataError(problem, path=urls.public(url)) from None
        finally:
            self._idle.put(ours)
        if "problem" in answer:
            raise DataError(answer["problem"], path=urls.public(url), offset=answer["offset"])
        return answer, data

    def close(self) -> None:
        self.forget()
        self._process.wait()

    def forget(self) -> None:
        """Lets go of the sockets: the other process ends once nobody has them."""
        for ours in (self._life, *self._sockets):
            ours.close()


_here: list[Relay] = []
_lock = threading.Lock()


def _relay() -> Relay:
    with _lock:
        if not _here:
            _here.append(Relay())
            atexit.register(_here[0].close)
        return _here[0]


def _renew() -> None:
    """In a fork: it has its own, or none."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    for relay in _here:
        atexit.unregister(relay.close)
        relay.forget()
        relay._process.returncode = 0  # nobody's child here
    _here.clear()


os.register_at_fork(after_in_child=_renew)


def serve() -> None:
    """The life of the other process: answers on each of the sockets, until the other side is gone."""
    life, *connections = [socket.socket(fileno=fd) for fd in json.loads(sys.argv[2])]
    for connection in connections:
        threading.Thread(target=_answer, args=(connection,), daemon=True).start()
    with suppress(OSError):
        life.recv(1)
    os._exit(0)  # whatever is still asked for is for nobody


def _answer(connection: socket.socket) -> None:
    from pyimportance.io import remote

    calls: dict[str, Any] = {"describe": remote.describe, "get_range": remote.get_range}
    with connection, connection.makefile("rb") as requests, suppress(OSError):
        for line in requests:
            name, *arguments = json.loads(line)
            data: Any = b""
            try:
                answer = calls[name](*arguments)
                if name == "get_range":
                    data, answer = answer, None
                head = {"answer": answer, "nbytes": len(data)}
            except DataError as e:
                head = {"problem": e.problem, "offset": e.offset, "nbytes": 0}
            connection.sendall(json.dumps(head).encode() + b"\n")
            connection.sendall(memoryview(data))
