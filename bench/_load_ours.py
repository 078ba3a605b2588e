"""Our own loader as `_load_peers` has the others, and plainly reading the files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from _harness import check
from _load_data import B, Data, Seen
from _load_peer import Peer, through
from _load_peers import PEERS

from pyimportance import ImportanceDataset

READ = "plain reading"


class Ours(Peer):
    """Every iteration is the next epoch, in another order."""

    name, yields = "pyimportance", "dict of bytes, shuffled"
    has_loader = has_tensors = True
    batched = False

    def __init__(self, data: Data, folder: Path) -> None:
        super().__init__(data, folder)
        self.dataset = self._of()

    def _of(self, **more: Any) -> ImportanceDataset:
        options: dict[str, Any] = {"batch_size": B, "batched": self.batched, "rank": 0, "world_size": 1}
        return ImportanceDataset(self.data.shards, **(options | more))

    def epoch(self) -> Iterable[Any]:
        self.dataset.set_epoch(self.dataset.epoch + 1)
        return self.dataset

    def seen(self, items: Iterable[Any]) -> Iterator[Seen]:
        for sample in items:
            yield (
                _sound(sample["__key__"], sample["__index__"], sample["__pad__"]),
                sample["x"],
                sample["cls"],
            )

    def loader(self, processes: int) -> Iterable[Any]:
        size, collate = (None, dict) if self.batched else (B, list)
        return _Epochs(self.dataset, through(self.dataset, processes, size=size, collate=collate))

    def tensors(self) -> Iterable[torch.Tensor]:
        self._images.set_epoch(self._images.epoch + 1)
        return (batch["x"] for batch in self._images)

    @cached_property
    def _images(self) -> ImportanceDataset:
        return self._of(batched=True, fields={"x": ("uint8", self.data.shape)})


class Batched(Ours):
    name, yields = "pyimportance, batched", "columns of 256, shuffled"
    has_tensors = False
    batched = True

    def seen(self, items: Iterable[Any]) -> Iterator[Seen]:
        for batch in items:
            columns = (batch[name] for name in ("__key__", "__index__", "__pad__", "x", "cls"))
            for key, index, pad, x, cls in zip(*columns, strict=True):
                yield _sound(key, index, pad), x, cls


class Views(Ours):
    name, yields = "pyimportance, memoryview", "dict of memoryviews, shuffled"
    has_loader = has_tensors = False

    def _of(self, **more: Any) -> ImportanceDataset:
        return super()._of(parts="memoryview", **more)


OURS = (Ours.name, Batched.name, Views.name)
KINDS: tuple[type[Peer], ...] = (Ours, Batched, Views, *PEERS)


class _Epochs:
    """A DataLoader each of whose iterations is the next epoch."""

    def __init__(self, dataset: ImportanceDataset, loader: Iterable[Any]) -> None:
        self._dataset, self._loader = dataset, loader

    def __iter__(self) -> Iterator[Any]:
        self._dataset.set_epoch(self._dataset.epoch + 1)
        return iter(self._loader)


def _sound(key: str, index: int, pad: bool) -> str:
    check(int(key) == index and not pad, f"sample {index} has key {key}, pad {pad}")
    return key


def plain(data: Data) -> list[bytes]:
    """The same tars, each in one request."""
    return [Path(tar).read_bytes() for tar in data.tars]


def check_plain(data: Data, contents: list[bytes]) -> None:
    nbytes = sum(map(len, contents))
    check(nbytes == data.input_bytes, f"{READ}: {nbytes} bytes; right is {data.input_bytes}")
