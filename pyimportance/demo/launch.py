"""Starts the rank processes, relays what rank 0 says, and stops them all when one fails."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from pyimportance.errors import ArgumentError, PyimportanceError

LAST_WORDS = 5.0  # seconds: when a rank fails, the others soon fail for want of it; the cause is wanted
MEMINFO = "/proc/meminfo"
RANK_BYTES = 300 * 10**6
"""A rank's own memory while it trains on the digits, most of it torch's."""


def check_memory(workers: int) -> None:
    """Raises ArgumentError where so many ranks need more memory than Linux says is to be had."""
    with contextlib.suppress(OSError), open(MEMINFO, encoding="ascii") as file:
        kilobytes = next((line.split()[1] for line in file if line.startswith("MemAvailable:")), None)
        if kilobytes is not None and workers * RANK_BYTES > (available := int(kilobytes) * 1024):
            raise ArgumentError(
                f"workers={workers}: each takes {RANK_BYTES / 1e6:.0f} MB of memory, and "
                f"{available / 1e9:.1f} GB are available, enough for {available // RANK_BYTES}"
            )


def run_ranks(folder: Path, size: int) -> Generator[dict[str, Any], None, None]:
    """Runs ``pyimportance.demo.rank`` in ``size`` processes; yields the objects rank 0 prints.

    Raises PyimportanceError with the message of the rank that failed, once all that rank 0 printed was
    yielded. No process is left behind, however the iteration ends.
    """
    # All ranks are on this machine, whatever its host name resolves to.
    environment = {"GLOO_SOCKET_IFNAME": "lo", **os.environ, "OMP_NUM_THREADS": "1"}
    # With -m, the folder that this process happens to run in would go first: in a checkout, a package without
    # its extension. As multiprocessing does, ranks import from where this process imports.
    start = f"import sys; sys.path[:] = {sys.path!r}; import runpy; "
    start += "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
    with ExitStack() as stack:
        processes: list[subprocess.Popen[str]] = []
        listeners: list[threading.Thread] = []
        stack.callback(_stop, processes, listeners)
        for rank in range(size):
            program = ["pyimportance.demo.rank", str(folder), str(rank), str(os.getpid())]
            errors = stack.enter_context(open(folder / f"rank-{rank:03d}.err", "w", encoding="utf-8"))
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-c", start, *program],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL,
                    stderr=errors,
                    env=environment,
                    text=True,
                )
            )
        lines: Queue[str] = Queue()
        listener = threading.Thread(target=_listen, args=(processes[0], lines), daemon=True)
        listener.start()
        listeners.append(listener)
        cause = None
        while listener.is_alive() or not lines.empty() or any(p.poll() is None for p in processes):
            if cause is None and any(process.poll() for process in processes):
                cause = _cause(processes, folder)
                _stop(processes, listeners)  # what rank 0 said before that is in ``lines`` then
            with contextlib.suppress(Empty):
                yield json.loads(lines.get(timeout=0.2))
        if cause is None and any(process.returncode for process in processes):
            cause = _cause(processes, folder)
        if cause is not None:
            raise PyimportanceError(cause)


def _listen(process: subprocess.Popen[str], lines: Queue[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{") and line.endswith("}\n"):  # a rank that is killed may leave half of one
            lines.put(line)


def _stop(processes: list[subprocess.Popen[str]], listeners: list[threading.Thread]) -> None:
    for process in processes:
        if process.poll() is None:
            process.kill()
    for process in processes:
        process.wait()
    for listener in listeners:
        listener.join()  # it reads to the end, which has come; closing the pipe before that is an error there
    for process in processes:
        if process.stdout is not None:
            process.stdout.close()


def _cause(processes: list[subprocess.Popen[str]], folder: Path) -> str:
    """The message of the rank that failed on its own account: one that names its error, else its last."""
    deadline = time.monotonic() + LAST_WORDS
    while time.monotonic() < deadline and any(process.poll() is None for process in processes):
        if any(process.returncode == 2 for process in processes):
            break
        time.sleep(0.1)
    failed = [rank for rank, process in enumerate(processes) if process.poll()]
    failed.sort(key=lambda rank: processes[rank].returncode != 2)
    rank = failed[0]
    lines = (folder / f"rank-{rank:03d}.err").read_text(encoding="utf-8", errors="replace").splitlines()
    if processes[rank].returncode == 2:
        words = next((line[7:] for line in reversed(lines) if line.startswith("error: ")), "")
    else:
        words = next((line for line in reversed(lines) if line.strip()), "it said nothing")
        words = f"exit status {processes[rank].returncode}: {words}"
    return f"rank {rank} of the demo failed: {words}"
