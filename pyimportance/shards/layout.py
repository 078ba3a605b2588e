"""Layout: how a group of samples is cut into shards, and in which order they lie in one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from pyimportance.checks import check_integer
from pyimportance.errors import ArgumentError
from pyimportance.io.seek_table import MAX_FRAME

Order = Literal["score", "shuffled"]
ORDERS: Final = ("score", "shuffled")
END_BYTES: Final = 1024  # zeros that end a tar
MAX_LEVEL: Final = 22  # of zstd


@dataclass(frozen=True)
class Zstd:
    """Shards are compressed frame by frame, each of whole samples.

    level        of zstd, 1 to 22
    frame_bytes  of the tar in a frame at most; a larger sample is a frame of its own (of 1 GiB or more: some)

    Raises ArgumentError for values that are not allowed.
    """

    level: int = 3
    frame_bytes: int = 256 << 10

    def __post_init__(self) -> None:
        for name, most in (("level", MAX_LEVEL), ("frame_bytes", MAX_FRAME)):
            value = check_integer(name, getattr(self, name), 1)
            if value > most:
                raise ArgumentError(f"{name}={value}: must be at most {most}")
            object.__setattr__(self, name, value)

    @staticmethod
    def of(compression: str | None, level: int | None, frame_bytes: int | None) -> Zstd | None:
        """What the arguments of `write_shards` say; None: nothing is compressed."""
        options = {"level": level, "frame_bytes": frame_bytes}
        given = {name: value for name, value in options.items() if value is not None}
        if compression is None:
            for name, value in given.items():
                raise ArgumentError(f"{name}={value}: goes with compression='zstd'")
            return None
        if compression != "zstd":
            raise ArgumentError(f"compression={compression!r}: allowed are None and 'zstd'")
        return Zstd(**given)

    def options(self) -> dict[str, int | str]:
        return {"format": "zstd", "level": self.level, "frame_bytes": self.frame_bytes}

    def cuts(self, end: NDArray[np.int64]) -> tuple[int, ...]:
        """Where a tar is cut whose samples end at ``end`` (int64 [n]): frame i is cuts[i]:cuts[i + 1]."""
        cuts = [0]
        while (start := cuts[-1]) < end[-1]:
            stop = int(np.searchsorted(end, start + self.frame_bytes, side="right")) - 1
            stop = max(stop, int(np.searchsorted(end, start, side="right")))
            cuts.append(min(int(end[stop]), start + MAX_FRAME))
        if (size := int(end[-1]) + END_BYTES) - cuts[-2] > MAX_FRAME:
            cuts.append(size)
        cuts[-1] = size
        return tuple(cuts)


@dataclass(frozen=True)
class Layout:
    """A shard is full at ``shard_bytes`` or ``shard_samples`` (None: no bound), whichever comes first.

    shard_bytes    a shard's size at most; only a larger sample makes a larger shard
    shard_samples  so many samples at most
    order          "score": the most important first. "shuffled": shards hold the same samples, each in a
                   random order of its own
    compression    None: plain tars. Their size counts, also where they are compressed

    Raises ArgumentError for values that are not allowed.
    """

    shard_bytes: int = 256 << 20
    shard_samples: int | None = None
    order: Order = "score"
    compression: Zstd | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shard_bytes", check_integer("shard_bytes", self.shard_bytes, 1))
        if self.shard_samples is not None:
            samples = check_integer("shard_samples", self.shard_samples, 1)
            object.__setattr__(self, "shard_samples", samples)
        if self.order not in ORDERS:
            raise ArgumentError(f"order={self.order!r}: allowed are {' and '.join(map(repr, ORDERS))}")

    @property
    def suffix(self) -> str:
        """Of the shards' names."""
        return ".tar" if self.compression is None else ".tar.zst"

    def options(self) -> dict[str, Any]:
        """By name, what decides the bytes of shards; the usual is not said, so that old digests stand."""
        options: dict[str, Any] = {"shard_bytes": self.shard_bytes}
        if self.shard_samples is not None:
            options["shard_samples"] = self.shard_samples
        if self.order != "score":
            options["order"] = self.order
        if self.compression is not None:
            options["compression"] = self.compression.options()
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
