"""Loaders of formats of their own, which are written here first, set as their documentation advises."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stdout
from functools import cached_property
from importlib import import_module
from importlib.machinery import ModuleSpec
from io import StringIO
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from _load_data import B, Data, Seen
from _load_peer import CHUNK, Peer, image, stacks, through


class MosaicML(Peer):
    name, yields = "mosaicml-streaming", "dict of bytes, from MDS"
    has_loader = has_tensors = True

    def __init__(self, data: Data, folder: Path) -> None:
        super().__init__(data, folder)
        streaming = _streaming()
        columns = {"key": "str", "x": "bytes", "cls": "bytes"}

        def write(path: str) -> None:
            with streaming.MDSWriter(out=path, columns=columns, size_limit=CHUNK) as out:
                for number, x in enumerate(data.images):
                    out.write({"key": data.key(number), "x": x, "cls": data.label(number)})

        self._local = streaming.LocalDataset(self.written("mds", write))  # quicker than StreamingDataset

    def epoch(self) -> Iterable[Any]:
        return (self._local[i] for i in range(self.data.samples))

    def seen(self, items: Iterable[Any]) -> Iterator[Seen]:
        for sample in items:
            yield sample["key"], sample["x"], sample["cls"]

    def loader(self, processes: int) -> Iterable[list[Any]]:
        return through(self._local, processes)

    def tensors(self) -> Iterable[torch.Tensor]:
        return stacks(image(self.data.shape, sample) for sample in self.epoch())


class LitData(Peer):
    name, yields = "litdata", "dict of bytes, from its chunks"
    has_loader = has_tensors = True

    def __init__(self, data: Data, folder: Path) -> None:
        super().__init__(data, folder)
        self._module = import_module("litdata")
        self._raw = self._dataset("raw", lambda i, x: {"key": data.key(i), "x": x, "cls": data.label(i)})

    def _dataset(self, name: str, sample: Callable[[int, bytes], dict[str, Any]]) -> Any:
        def write(path: str) -> None:
            writer = import_module("litdata.streaming.writer").BinaryWriter(path, chunk_bytes=CHUNK)
            with redirect_stdout(StringIO()):
                for number, x in enumerate(self.data.images):
                    writer.add_item(number, sample(number, x))
                writer.done()
                writer.merge()

        return self._module.StreamingDataset(self.written(name, write), shuffle=False, drop_last=False)

    def epoch(self) -> Iterable[Any]:
        return self._raw  # type: ignore[no-any-return]

    def seen(self, items: Iterable[Any]) -> Iterator[Seen]:
        for sample in items:
            yield sample["key"], sample["x"], sample["cls"]

    def loader(self, processes: int) -> Iterable[list[Any]]:
        return through(self._raw, processes, of=self._module.StreamingDataLoader)

    def tensors(self) -> Iterable[torch.Tensor]:
        return (batch["x"] for batch in self._images)

    @cached_property
    def _images(self) -> Iterable[Any]:
        shape = self.data.shape
        dataset = self._dataset(
            "images", lambda _, x: {"x": torch.frombuffer(bytearray(x), dtype=torch.uint8).view(shape)}
        )
        return through(dataset, 0, of=self._module.StreamingDataLoader, collate=None)


class ArrayRecord(Peer):
    name, yields = "array_record", "bytes of both parts in one"
    has_loader = has_tensors = True

    def __init__(self, data: Data, folder: Path) -> None:
        super().__init__(data, folder)
        self._module = import_module("array_record.python.array_record_module")
        self._size = prod(data.shape)
        self._path = self._written("groups", max(1, 2**20 // self._size))

    def _written(self, name: str, group: int) -> str:
        def write(path: str) -> None:
            writer = self._module.ArrayRecordWriter(path, f"group_size:{group},uncompressed")
            for number, x in enumerate(self.data.images):
                writer.write(x + self.data.label(number))
            writer.close()

        return self.written(name, write)

    def epoch(self) -> Iterable[Any]:
        reader = self._module.ArrayRecordReader(self._path)  # the default is for reading in order
        for start in range(0, self.data.samples, 4 * B):
            yield from reader.read(start, min(start + 4 * B, self.data.samples))
        reader.close()

    def seen(self, items: Iterable[Any]) -> Iterator[Seen]:
        for record in items:
            yield None, record[: self._size], record[self._size :]

    def loader(self, processes: int) -> Iterable[list[Any]]:
        source = import_module("array_record.python.array_record_data_source")
        single = self._written("single", 1)  # what random access is documented to want
        return through(source.ArrayRecordDataSource(single), processes)

    def tensors(self) -> Iterable[torch.Tensor]:
        count = self._size
        images = (np.frombuffer(record, np.uint8, count).reshape(self.data.shape) for record in self.epoch())
        return stacks(images)


def _streaming() -> ModuleType:
    """mosaicml-streaming, whose classes of images alone want torchvision: a build of it for another torch,
    which cannot be loaded, must not keep the rest from loading."""
    try:
        import_module("torchvision")
    except Exception:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name, holds in (
            ("torchvision", {}),
            ("torchvision.datasets", {"VisionDataset": object}),
            ("torchvision.transforms", {}),
            ("torchvision.transforms.functional", {"to_tensor": None}),
        ):
            sys.modules[name] = module = ModuleType(name)
            module.__dict__.update(holds, __spec__=ModuleSpec(name, None), __path__=[])
    return import_module("streaming")
