"""Layout: how a group of samples is cut into shards, and in which order they lie in one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from pyimportance.checks import check_integer
from pyimportance.errors import ArgumentError

Order = Literal["score", "shuffled"]
ORDERS: Final = ("score", "shuffled")
END_BYTES: Final = 1024  # zeros that end a tar


@dataclass(frozen=True)
class Layout:
    """A shard is full at ``shard_bytes`` or ``shard_samples`` (None: no bound), whichever comes first.

    shard_bytes    a shard's size at most; only a larger sample makes a larger shard
    shard_samples  so many samples at most
    order          "score": the most important first. "shuffled": shards hold the same samples, each in a
                   random order of its own

    Raises ArgumentError for values that are not allowed.
    """

    shard_bytes: int = 256 << 20
    shard_samples: int | None = None
    order: Order = "score"

    def __post_init__(self) -> None:
        object.__setattr__(self, "shard_bytes", check_integer("shard_bytes", self.shard_bytes, 1))
        if self.shard_samples is not None:
            samples = check_integer("shard_samples", self.shard_samples, 1)
            object.__setattr__(self, "shard_samples", samples)
        if self.order not in ORDERS:
            raise ArgumentError(f"order={self.order!r}: allowed are {' and '.join(map(repr, ORDERS))}")

    def options(self) -> dict[str, int | str]:
        """By name, what decides the bytes of shards; the usual is not said, so that old digests stand."""
        options: dict[str, int | str] = {"shard_bytes": self.shard_bytes}
        if self.shard_samples is not None:
            options["shard_samples"] = self.shard_samples
        if self.order != "score":
            options["order"] = self.order
        return options

    def cuts(self, nbytes: NDArray[np.int64]) -> list[int]:
        """Where samples of so many bytes in the tar (int64 [n]) are cut: shard i is cuts[i]:cuts[i + 1]."""
        end = np.cumsum(nbytes)
        cuts = [0]
        while (start := cuts[-1]) < len(nbytes):
            limit = (int(end[start - 1]) if start else 0) + self.shard_bytes - END_BYTES
            stop = int(np.searchsorted(end, limit, side="right"))
            if self.shard_samples is not None:
                stop = min(stop, start + self.shard_samples)
            cuts.append(max(stop, start + 1))
        return cuts


def shuffled(cuts: list[int], entropy: list[int]) -> NDArray[np.int64]:
    """A permutation of cuts[-1] samples that leaves each in its shard, a function of ``entropy``.

    By raw words of PCG64, whose stream NumPy keeps for good; it does not promise that of
    ``Generator.permutation``.
    """

    def each() -> Iterator[NDArray[np.int64]]:
        for number, (start, end) in enumerate(pairwise(cuts)):
            words = np.random.PCG64(np.random.SeedSequence([*entropy, number])).random_raw(end - start)
            yield start + np.argsort(words, kind="stable")

    return np.concatenate([np.zeros(0, np.int64), *each()])
