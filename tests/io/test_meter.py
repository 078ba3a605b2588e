"""Meter: what it counts, what it refuses."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest

from pyimportance import ArgumentError
from pyimportance.io.meter import TIERS, Meter


def test_counts_by_tier() -> None:
    meter = Meter()
    meter.add("disk", 10)
    meter.add("disk", 5, requests=3)
    meter.add("index", 0, requests=0)
    assert meter.bytes("disk") == 15
    assert meter.requests("disk") == 4
    assert meter.bytes("origin") == meter.bytes("index") == 0
    assert meter.counts[TIERS.index("disk")].tolist() == [15, 4]


def test_counts_into_a_given_array() -> None:
    shared = np.zeros((3, 4, 2), np.int64)
    Meter(shared[1]).add("origin", 7)
    assert shared[1, 0].tolist() == [7, 1]
    assert shared.sum() == 8


def test_threads_lose_nothing() -> None:
    meter = Meter()
    threads = [
        threading.Thread(target=lambda: [meter.add("cache", 1) for _ in range(2000)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (meter.bytes("cache"), meter.requests("cache")) == (8000, 8000)


def test_a_copy_counts_on_by_itself() -> None:
    meter = Meter()
    meter.add("origin", 3)
    copy = pickle.loads(pickle.dumps(meter))
    copy.add("origin", 4)
    assert (copy.bytes("origin"), copy.requests("origin")) == (7, 2)
    assert meter.bytes("origin") == 3


def test_refuses() -> None:
    with pytest.raises(ArgumentError, match="tier is 'ram'; allowed are origin, cache, disk, index"):
        Meter().add("ram", 1)
    with pytest.raises(ArgumentError, match="only counts up; got -1 bytes"):
        Meter().add("disk", -1)
    with pytest.raises(ArgumentError, match=r"counts is int32 \[4, 2\]; it must be int64"):
        Meter(np.zeros((4, 2), np.int32))  # type: ignore[arg-type]
