"""Jobs killed at random moments, in forks of one process: what takes time to import is imported once."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import time
from collections.abc import Callable


def kill_at_random(
    make: Callable[[str], object],
    found: Callable[[str], object],
    check: Callable[[str], object],
    folder: str,
    kills: int,
) -> None:
    """Runs make(out) to its end, then kills it so many times, each in a folder of its own and run again.

    After a kill it prints found(out); run again it must give the first one's bytes, and check(out) is called.
    """
    start = time.monotonic()
    _end(_begin(make, f"{folder}/whole"))
    span, whole = time.monotonic() - start, _tree(f"{folder}/whole")
    moments = random.Random(7)
    done = 0
    while done < kills:
        out = f"{folder}/out-{done}"
        child = _begin(make, out)
        time.sleep(moments.uniform(0, span))
        os.kill(child, signal.SIGKILL)
        if os.waitpid(child, 0)[1] != signal.SIGKILL:
            span *= 0.9  # it was faster than the first
            continue
        print(found(out), flush=True)
        _end(_begin(make, out), done)
        assert _tree(out) == whole, done
        check(out)
        done += 1


def _begin(make: Callable[[str], object], out: str) -> int:
    child = os.fork()
    if child == 0:
        make(out)
        os._exit(0)
    return child


def _end(child: int, kill: int | None = None) -> None:
    assert os.waitpid(child, 0)[1] == 0, kill


def _tree(root: str) -> dict[str, bytes]:
    paths = [os.path.join(at, name) for at, _, names in os.walk(root) for name in names]
    return {os.path.relpath(path, root): hashlib.sha256(open(path, "rb").read()).digest() for path in paths}
