"""One rule for the number of threads, wherever native code is called."""

from __future__ import annotations

import ctypes
import os
import threading
from typing import Any

import numpy as np
import pytest

from pyimportance import _C, Tracker, argsort
from pyimportance.order import argsort as sorting
from pyimportance.score import batch, host
from pyimportance.threads import default_threads
from tests.score import running


@pytest.mark.parametrize(("text", "expected"), [("3", 3), ("40", 40), ("0", 2), ("many", 2), ("", 2)])
def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch, text: str, expected: int) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert default_threads() == expected


def test_without_it_the_usable_processors_up_to_16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(100)), raising=False)
    assert default_threads() == 16
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert default_threads() == 5


def test_sorting_and_tracking_go_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    used: list[int] = []

    class Native:
        def __getattr__(self, name: str) -> Any:
            def call(*arguments: Any, **named: Any) -> Any:
                used.append(named["threads"] if "threads" in named else arguments[-1])
                return np.zeros(0, np.int64) if name == "argsort" else 0

            return call

    monkeypatch.setattr(sorting, "_C", Native())
    for module in (batch, host):
        monkeypatch.setattr(module, "_C", Native())
    argsort(np.zeros(2))
    tracker = Tracker(2)
    tracker.observe([0], np.zeros((1, 2), np.float32), [0])
    tracker.end_epoch()
    assert used == [3, 3, 3]
    monkeypatch.setenv("OMP_NUM_THREADS", "5")  # a tracker asks as an epoch ends, for that and the next one
    tracker.observe([0], np.zeros((1, 2), np.float32), [0])
    tracker.end_epoch()
    tracker.observe([0], np.zeros((1, 2), np.float32), [0])
    assert used[3:] == [3, 5, 5]


def test_tests_can_have_threads_for_little_work() -> None:
    seen: set[int] = set()
    together = threading.Barrier(3)

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)
    def function(numbers: int, count: int, score: int) -> int:
        seen.add(threading.get_native_id())
        if every:
            together.wait(60)
        return 0

    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    for every, threads in ((False, 1), (True, 3)):
        seen.clear()
        with running.threads(3):
            _C.use_every_thread(every)
            _C.score_histories(address, [np.zeros((1, 3))], default_threads())
        assert len(seen) == threads
