"""The threads behind native loops: who has them; errors, forks, signals, and none to be had."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pyimportance import _C, argsort

linux = pytest.mark.skipif(sys.platform != "linux", reason="threads are looked at in /proc")
NAME = "pyimportance"


def own_threads() -> set[str]:
    """The system's numbers of the threads that this process's pool has."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # one that ends meanwhile
            if (task / "comm").read_text().strip() == NAME:
                found.add(task.name)
    return found


def parts_of(n: int, threads: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    _C.parallel_for(n, threads, lambda begin, end: found.append((begin, end)))
    return sorted(found)


def meet(threads: int) -> set[int]:
    """The system's numbers of that many threads, which all work on one loop at the same time."""
    seen: set[int] = set()
    together = threading.Barrier(threads)

    def work(begin: int, end: int) -> None:
        seen.add(threading.get_native_id())
        together.wait(60)

    _C.parallel_for(threads, threads, work)
    return seen


@pytest.mark.parametrize("threads", [0, 1, 2, 3, 7, 16])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 15, 16, 17, 1000])
def test_parts_are_consecutive_and_of_nearly_equal_length(n: int, threads: int) -> None:
    parts = parts_of(n, threads)
    assert [begin for begin, _ in parts] == [0, *(end for _, end in parts)][: len(parts)]
    assert len(parts) == min(n, max(threads, 1))
    if n > 0:
        assert parts[-1][1] == n
        lengths = {end - begin for begin, end in parts}
        assert max(lengths) - min(lengths) <= 1


def pieces_of(n: int, threads: int, least: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    before = _C.use_every_thread(False)
    try:
        _C.parallel_pieces(n, threads, least, lambda begin, end: found.append((begin, end)))
    finally:
        _C.use_every_thread(before)
    return sorted(found)


@pytest.mark.parametrize("threads", [0, 1, 2, 3, 16])
@pytest.mark.parametrize("least", [1, 3, 16])
@pytest.mark.parametrize("n", [0, 1, 2, 15, 16, 17, 1000])
def test_pieces_are_consecutive_and_whole_multiples(n: int, least: int, threads: int) -> None:
    pieces = pieces_of(n, threads, least)
    assert [begin for begin, _ in pieces] == [0, *(end for _, end in pieces)][: len(pieces)]
    assert not pieces or pieces[-1][1] == n
    lengths = [end - begin for begin, end in pieces]
    assert all(length % least == 0 for length in lengths[:-1])
    if threads > 1 and n > 4 * threads * least:
        assert lengths == sorted(lengths, reverse=True)
        assert max(lengths) <= n / threads


def test_a_thread_that_is_held_up_does_less() -> None:
    by: dict[int, int] = {}
    held = threading.get_native_id()
    other_done = threading.Event()

    def work(begin: int, end: int) -> None:
        me = threading.get_native_id()
        by[me] = by.get(me, 0) + end - begin
        if me == held:
            assert other_done.wait(60)
        elif sum(by.values()) == 1000:
            other_done.set()

    meet(2)
    _C.parallel_pieces(1000, 2, 10, work)
    assert sum(by.values()) == 1000
    assert by.get(held, 0) <= 250  # one piece, the first one is the longest


def test_an_error_in_a_piece_arrives_after_all_have_ended() -> None:
    ended: list[int] = []

    def work(begin: int, end: int) -> None:
        ended.append(end - begin)
        if end == 1000:
            raise KeyError(end)

    with pytest.raises(KeyError):
        _C.parallel_pieces(1000, 2, 10, work)
    assert sum(ended) == 1000
    assert pieces_of(1000, 2, 500) == [(0, 500), (500, 1000)]


@linux
def test_threads_are_kept_and_begun_only_where_more_are_wanted() -> None:
    meet(3)
    before = own_threads()
    assert len(before) >= 2
    for _ in range(50):
        meet(2)
        meet(3)
    assert own_threads() == before
    most = len(before) + 3
    assert len(meet(most)) == most
    assert before < own_threads()
    assert len(own_threads()) == most - 1


@linux
def test_idle_threads_sleep() -> None:
    meet(4)
    threads = own_threads()

    def ticks() -> int:
        return sum(
            sum(
                int(x)
                for x in Path(f"/proc/self/task/{t}/stat").read_text().rpartition(")")[2].split()[11:13]
            )
            for t in threads
        )

    time.sleep(0.05)
    before = ticks()
    time.sleep(0.5)
    assert ticks() - before <= 1  # of 10 ms, in which a thread that does not sleep is 50 of them


@linux
def test_signals_are_not_for_them_but_faults_of_their_own() -> None:
    meet(2)
    for thread in own_threads():
        status = Path(f"/proc/self/task/{thread}/status").read_text()
        mask = int(status.partition("SigBlk:")[2].split()[0], 16)
        for blocked in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1):
            assert mask >> (blocked - 1) & 1
        for let_through in (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE):
            assert not mask >> (let_through - 1) & 1
    status = Path("/proc/self/task", str(threading.get_native_id()), "status").read_text()
    assert int(status.partition("SigBlk:")[2].split()[0], 16) == 0


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_of_several_errors_the_first_parts_arrives_after_all_have_ended(threads: int) -> None:
    ended: list[int] = []

    def work(begin: int, end: int) -> None:
        time.sleep(0.01 * (threads - begin) if begin else 0)  # later parts fail earlier
        ended.append(begin)
        if begin > 0:
            raise KeyError(begin)

    for _ in range(5):
        ended.clear()
        with pytest.raises(KeyError) as error:
            _C.parallel_for(threads, threads, work)
        assert error.value.args == (1,)
        assert sorted(ended) == list(range(threads))
    assert parts_of(4, 2) == [(0, 2), (2, 4)]


def test_loops_within_loops() -> None:
    def count(depth: int) -> int:
        found: list[int] = []
        if depth == 0:
            return 1
        _C.parallel_for(3, 3, lambda begin, end: found.append(count(depth - 1)))
        return sum(found)

    assert count(5) == 3**5


def test_many_callers_at_once_and_thousands_of_small_loops() -> None:
    """On one pool, which has fewer threads than there are callers: nobody waits for ever, none gets another's
    parts."""
    values = [np.random.default_rng(i).random(50 + i, dtype=np.float32) for i in range(8)]
    right = [np.argsort(-x, kind="stable") for x in values]
    wrong: list[int] = []

    def call(i: int) -> None:
        for k in range(400):
            if k % 8 == 0:
                wrong.extend([i] * (parts_of(7 + i, 3)[-1] != (7 + i - (7 + i) // 3, 7 + i)))
            elif not np.array_equal(argsort(values[i], threads=2 + k % 3), right[i]):
                wrong.append(i)

    before = _C.use_every_thread(True)
    try:
        callers = [threading.Thread(target=call, args=(i,)) for i in range(8)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(250)
            assert not caller.is_alive()
    finally:
        _C.use_every_thread(before)
    assert wrong == []


def left_by_a_fork(most: int = 0) -> set[str]:
    """The threads of the pool that a fork leaves. Those that it has ended are listed for a moment yet, on a
    busy machine; others, beyond `most`, would stay.
    """
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    until = time.monotonic() + 10
    while len(own_threads()) > most and time.monotonic() < until:
        time.sleep(0.0005)
    return own_threads()


@linux
def test_a_fork_finds_no_threads_asleep() -> None:
    """They end before it, or Python from 3.12 on would warn of them."""
    meet(4)
    assert own_threads()
    assert left_by_a_fork() == set()
    assert len(meet(4)) == 4


def nothing(begin: int, end: int) -> None:
    pass


def a_while(begin: int, end: int) -> None:
    time.sleep(0.001)


@linux
@pytest.mark.parametrize(
    "loop",
    [
        pytest.param(lambda: _C.parallel_for(4, 4, nothing), id="threads that have only begun"),
        pytest.param(lambda: _C.parallel_for(2, 2, a_while), id="threads about to sleep"),
        pytest.param(lambda: _C.parallel_pieces(1000, 2, 10, nothing), id="threads awake for another loop"),
        pytest.param(lambda: (meet(2), _C.parallel_pieces(4, 2, 1, a_while)), id="threads awake after work"),
    ],
)
def test_a_fork_right_after_a_loop_finds_no_threads(loop: Callable[[], object]) -> None:
    for _ in range(40):
        loop()
        assert left_by_a_fork() == set()


@linux
def test_a_fork_leaves_the_threads_of_a_running_loop_and_waits_for_none() -> None:
    meet(4)
    inside, go_on = threading.Barrier(3), threading.Event()

    def work(begin: int, end: int) -> None:
        inside.wait(60)
        assert go_on.wait(60)

    caller = threading.Thread(target=_C.parallel_for, args=(2, 2, work))
    caller.start()
    inside.wait(60)
    busy = left_by_a_fork(most=1)
    assert len(busy) == 1
    assert len(parts_of(4, 4)) == 4
    assert busy <= own_threads()
    go_on.set()
    caller.join(60)
    assert not caller.is_alive()
    assert left_by_a_fork() == set()


# While threads call without a pause, others fork; a child forks once more.
FORK = """
import os, sys, threading
import numpy as np
from pyimportance import _C, argsort
_C.use_every_thread(True)
values = np.random.default_rng(0).random(1000)
right = np.argsort(-values, kind="stable")
done = threading.Event()

def sort(often):
    while often and not done.is_set():
        assert np.array_equal(argsort(values, threads=3), right)
        often -= 1

def child():
    pid = os.fork()
    if pid == 0:
        try:
            names = [open(f"/proc/self/task/{t}/comm").read().strip() for t in os.listdir("/proc/self/task")]
            assert names.count("pyimportance") == 0
            sort(20)
        except BaseException:
            os._exit(1)
        return True
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0:
        os._exit(2)
    return False

sort(1)
callers = [threading.Thread(target=sort, args=(-1,)) for _ in range(3)]
for caller in callers:
    caller.start()
for _ in range(20):
    if child():
        if child():
            os._exit(0)
        os._exit(0)
sort(20)
done.set()
for caller in callers:
    caller.join()
print("both", flush=True)
"""


@linux
def test_forks_while_threads_are_busy() -> None:
    """Children have threads of their own; and a process ends, whose threads are there still."""
    command = [sys.executable, "-W", "ignore", "-c", FORK]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)
    assert (result.returncode, result.stdout) == (0, "both\n"), result.stderr


SCARCE = """
import os, resource, threading
from pyimportance import _C

def begun():
    return len(os.listdir("/proc/self/task")) - before

def loop():
    seen = []
    _C.parallel_for(6, 6, lambda begin, end: seen.append(begin))
    assert sorted(seen) == list(range(6))

before = len(os.listdir("/proc/self/task"))
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 20), resource.RLIM_INFINITY))  # half a thread's stack
loop()
print(begun())
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
loop()
print(begun())
"""


@linux
def test_without_threads_to_be_had_the_caller_does_it_all() -> None:
    result = subprocess.run([sys.executable, "-c", SCARCE], capture_output=True, text=True, check=False)
    assert result.stdout == "0\n5\n", result.stderr
