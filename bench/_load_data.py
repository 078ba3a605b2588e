"""The samples that loaders are compared on, and whether an epoch of them is right.

A sample has a part ``x``, a fixed-size array whose first eight bytes are its number and whose others are
random, and a part ``cls``, a label. So a loader that hands on nothing but payloads can be checked like one
that knows keys.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from _harness import check
from numpy.typing import NDArray

from pyimportance import Scores, ShardSet, partition, write_shards

B = 256
SHARD_BYTES = 2**25
BINS = 4

Seen = tuple[str | None, Any, Any]
"""A sample as a contender yields it: the key if it tells, and the two payloads, each anything of bytes."""


@dataclass(frozen=True)
class Data:
    """``samples`` images of ``side`` x ``side`` x 3 bytes, in tars below ``folder``, written as ours are."""

    folder: Path
    samples: int
    side: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.side, self.side, 3

    @cached_property
    def images(self) -> list[bytes]:
        rng = np.random.default_rng(0)
        rest = self.side * self.side * 3 - 8
        return [number.to_bytes(8, "little") + rng.bytes(rest) for number in range(self.samples)]

    def label(self, number: int) -> bytes:
        return b"%d" % (number % 1000)

    def key(self, number: int) -> str:
        return f"{number:08d}"

    @cached_property
    def shards(self) -> ShardSet:
        """One worker with four bins; made, where they are not there yet, of a tar that is removed again."""
        folder = self.folder / "shards"
        if (folder / "manifest.json").exists():
            return ShardSet.open(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        source = self.folder / "source.tar"
        with tarfile.open(source, "w", format=tarfile.USTAR_FORMAT) as tar:
            for number, image in enumerate(self.images):
                for extension, payload in (("cls", self.label(number)), ("x", image)):
                    member = tarfile.TarInfo(f"{self.key(number)}.{extension}")
                    member.size = len(payload)
                    tar.addfile(member, io.BytesIO(payload))
        scores = Scores(np.random.default_rng(1).random(self.samples, np.float32))
        shards = partition(scores, 1, bins=BINS)
        written = write_shards(source, shards, folder, shard_bytes=SHARD_BYTES)
        source.unlink()
        return written

    @cached_property
    def tars(self) -> list[str]:
        return [str(Path(self.shards.root) / shard.path) for shard in self.shards.shards]

    @property
    def input_bytes(self) -> int:
        """Headers, payloads and padding."""
        return sum(shard.nbytes for shard in self.shards.shards)

    def check(self, name: str, seen: Iterable[Seen]) -> None:
        """Every sample once, with its key, its label and all its bytes."""
        found = np.zeros(self.samples, bool)
        for key, x, cls in seen:
            image = _bytes(x)
            number = int.from_bytes(image[:8], "little")
            check(0 <= number < self.samples, f"{name}: there is no sample {number}")
            check(not found[number], f"{name}: sample {number} comes twice")
            check(image == self.images[number], f"{name}: sample {number} has other bytes than in the source")
            check(_bytes(cls) == self.label(number), f"{name}: sample {number} has another label")
            check(key in (None, self.key(number)), f"{name}: sample {number} has key {key}")
            found[number] = True
        count = int(found.sum())
        check(count == self.samples, f"{name}: {count} samples; right is {self.samples}")

    def check_images(self, name: str, batches: Iterable[NDArray[np.uint8]]) -> None:
        """Every image once, of batches uint8 [B, side, side, 3]."""
        self.check(name, self._of_images(name, batches))

    def _of_images(self, name: str, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Seen]:
        for batch in batches:
            check(
                batch.dtype == np.uint8 and batch.shape[1:] == self.shape,
                f"{name}: a batch is {batch.dtype} {list(batch.shape)}; right is uint8 [B, *{self.shape}]",
            )
            for image in batch.reshape(len(batch), -1):
                yield None, image, self.label(int(image[:8].view(np.int64)[0]))


def _bytes(payload: Any) -> bytes:
    return payload if isinstance(payload, bytes) else bytes(memoryview(payload))
