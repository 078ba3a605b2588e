"""The count of everything that was read: bytes and requests, by tier."""

from __future__ import annotations

import threading
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pyimportance.errors import ArgumentError

TIERS: Final = ("origin", "cache", "disk", "index")
"""origin: where the data comes from. cache: what this node had fetched before. disk: shards that are local.
index: headers and index files, whatever they lie on, and what other ranks sent of theirs (a request per
message)."""

_ROW: Final = {tier: row for row, tier in enumerate(TIERS)}
_BYTES, _REQUESTS = 0, 1


class Meter:
    """Counts what one process read, or was sent in the place of reading it.

    ``counts``: int64 array [4, 2] to count into (rows as in TIERS; columns bytes, requests); a new one if
    None. It may be a view of shared memory, so that loader processes count where their training process sees
    it. Threads may share a Meter; processes may share an array only if each has a [4, 2] slice of its own.
    """

    def __init__(self, counts: NDArray[np.int64] | None = None) -> None:
        if counts is None:
            counts = np.zeros((len(TIERS), 2), np.int64)
        if counts.shape != (len(TIERS), 2) or counts.dtype != np.int64:
            raise ArgumentError(
                f"counts is {counts.dtype} {list(counts.shape)}; it must be int64 [{len(TIERS)}, 2]"
            )
        self.counts = counts
        self._lock = threading.Lock()

    def add(self, tier: str, nbytes: int, requests: int = 1) -> None:
        row = _row(tier)
        if nbytes < 0 or requests < 0:
            raise ArgumentError(f"a meter only counts up; got {nbytes} bytes, {requests} requests")
        with self._lock:
            self.counts[row, _BYTES] += nbytes
            self.counts[row, _REQUESTS] += requests

    def bytes(self, tier: str) -> int:
        return int(self.counts[_row(tier), _BYTES])

    def requests(self, tier: str) -> int:
        return int(self.counts[_row(tier), _REQUESTS])

    def __repr__(self) -> str:
        tiers = ", ".join(f"{t}={self.bytes(t)} B/{self.requests(t)}" for t in TIERS)
        return f"Meter({tiers})"

    def __getstate__(self) -> dict[str, Any]:
        return {"counts": self.counts}  # a lock cannot be pickled, and need not be

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.counts = state["counts"]
        self._lock = threading.Lock()


def _row(tier: str) -> int:
    if tier not in _ROW:
        raise ArgumentError(f"tier is {tier!r}; allowed are {', '.join(TIERS)}")
    return _ROW[tier]
