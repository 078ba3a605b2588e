"""Other loaders, each on its own best-known format of the same samples, set as its documentation advises.

Each is a class, made of the data and of a folder, to which it writes its format where that is not there yet.
A peer that is not installed, or cannot be loaded, raises ImportError, and the bench says so.
"""

from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from importlib import import_module
from importlib.machinery import ModuleSpec
from io import StringIO
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import torch
from _load_data import B, Data, Seen
from torch.utils.data import DataLoader

CHUNK = 2**26  # bytes of a file, the usual of those that have files of their own


class Peer(ABC):
    """What it yields, in words; whether it can come through a DataLoader, and as tensors."""

    name: ClassVar[str]
    yields: ClassVar[str]
    has_loader: ClassVar[bool] = False
    has_tensors: ClassVar[bool] = False

    @property
    def package(self) -> str:
        return self.name.split()[0]

    def __init__(self, data: Data, folder: Path) -> None:
        self.data, self.folder, self.is_written = data, folder, folder.exists()
        folder.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def epoch(self) -> Iterable[Any]:
        """All samples once, in this process."""

    @abstractmethod
    def seen(self, items: Iterable[Any]) -> Iterator[Seen]:
        """What is in the items of `epoch`, for the check."""

    def loader(self, processes: int) -> Iterable[list[Any]]:
        """Lists of B items each, of as many loader processes."""
        raise NotImplementedError

    def tensors(self) -> Iterable[torch.Tensor]:
        """The images as tensors uint8 [B, side, side, 3], in this process."""
        raise NotImplementedError


class WebDataset(Peer):
    name, yields = "webdataset", "dict of bytes"
    has_loader = has_tensors = True

    def __init__(self, data: Data, folder: Path) -> None:
        super().__init__(data, folder)
        self._module = import_module("webdataset")
        self._dataset = self._module.WebDataset(data.tars, shardshuffle=False, empty_check=False)

    def epoch(self) -> Iterable[Any]:
        return self._dataset  # type: ignore[no-any-return]

    def seen(self, items: Iterable[Any]) -> Iterator[Seen]:
        for sample in items:
            yield sample["__key__"], sample["x"], sample["cls"]

    def loader(self, processes: int) -> Iterable[list[Any]]:
        batches = self._dataset.batched(B, collation_fn=list)
        options = {"num_workers": processes, "persistent_workers": True}
        return self._module.WebLoader(batches, batch_size=None, **options)  # type: ignore[no-any-return]

    def tensors(self) -> Iterable[torch.Tensor]:
        images = self._dataset.map(partial(_image, self.data.shape))
        return images.batched(B, collation_fn=_stack)  # type: ignore[no-any-return]


class Wids(Peer):
    name, yields = "wids", "dict of BytesIO, by index"
    has_loader = True

    def __init__(self, data: Data, folder: Path) -> None:
        super().__init__(data, folder)
        module = import_module("wids")
        shards = [
            {"url": tar, "nsamples": shard.samples}
            for tar, shard in zip(data.tars, data.shards.shards, strict=True)
        ]
        with redirect_stderr(StringIO()):  # it says what it opened
            self._dataset = module.ShardListDataset(
                shards, localname=str, keep=True, transformations=[], lru_size=200
            )

    def epoch(self) -> Iterable[Any]:
        return (self._dataset[i] for i in range(self.data.samples))

    def seen(self, items: Iterable[Any]) -> Iterator[Seen]:
        for sample in items:
            yield sample["__key__"], sample[".x"].getbuffer(), sample[".cls"].getbuffer()

    def loader(self, processes: int) -> Iterable[list[Any]]:
        more: dict[str, Any] = {"num_workers": processes, "persistent_workers": True}
        return DataLoader(self._dataset, batch_size=B, collate_fn=list, **more)


class MosaicML(Peer):
    name, yields = "mosaicml-streaming", "dict of bytes, from MDS"
    has_loader = has_tensors = True

    def __init__(self, data: Data, folder: Path) -> None:
        super().__init__(data, folder)
        streaming = _streaming()
        columns = {"key": "str", "x": "bytes", "cls": "bytes"}
        if not self.is_written:
            with streaming.MDSWriter(out=str(folder / "mds"), columns=columns, size_limit=CHUNK) as out:
                for number, image in enumerate(data.images):
                    out.write({"key": data.key(number), "x": image, "cls": data.label(number)})
        self._local = streaming.LocalDataset(str(folder / "mds"))  # quicker than StreamingDataset

    def epoch(self) -> Iterable[Any]:
        return (self._local[i] for i in range(self.data.samples))

    def seen(self, items: Iterable[Any]) -> Iterator[Seen]:
        for sample in items:
            yield sample["key"], sample["x"], sample["cls"]

    def loader(self, processes: int) -> Iterable[list[Any]]:
        more: dict[str, Any] = {"num_workers": processes, "persistent_workers": True}
        return DataLoader(self._local, batch_size=B, collate_fn=list, **more)

    def tensors(self) -> Iterable[torch.Tensor]:
        return _stacks(_image(self.data.shape, sample) for sample in self.epoch())


class LitData(Peer):
    name, yields = "litdata", "dict of bytes, from its chunks"
    has_loader = has_tensors = True

    def __init__(self, data: Data, folder: Path) -> None:
        super().__init__(data, folder)
        self._module = import_module("litdata")
        shape = data.shape
        self._raw = self._write(
            "raw", lambda i, image: {"key": data.key(i), "x": image, "cls": data.label(i)}
        )
        self._images = self._write(
            "images",
            lambda _, image: {"x": torch.frombuffer(bytearray(image), dtype=torch.uint8).view(shape)},
        )

    def _write(self, name: str, sample: Callable[[int, bytes], dict[str, Any]]) -> Any:
        folder = self.folder / name
        if not self.is_written:
            writer = import_module("litdata.streaming.writer").BinaryWriter(str(folder), chunk_bytes=CHUNK)
            with redirect_stdout(StringIO()):
                for number, image in enumerate(self.data.images):
                    writer.add_item(number, sample(number, image))
                writer.done()
                writer.merge()
        return self._module.StreamingDataset(str(folder), shuffle=False, drop_last=False)

    def epoch(self) -> Iterable[Any]:
        return self._raw  # type: ignore[no-any-return]

    def seen(self, items: Iterable[Any]) -> Iterator[Seen]:
        for sample in items:
            yield sample["key"], sample["x"], sample["cls"]

    def loader(self, processes: int) -> Iterable[list[Any]]:
        options = {"num_workers": processes, "persistent_workers": True, "collate_fn": list}
        of = self._module.StreamingDataLoader
        return of(self._raw, batch_size=B, **options)  # type: ignore[no-any-return]

    def tensors(self) -> Iterable[torch.Tensor]:
        loader = self._module.StreamingDataLoader(self._images, batch_size=B, num_workers=0)
        return (batch["x"] for batch in loader)


class WebShart(Peer):
    name, yields = "webshart", "entries with bytes, one a part"

    def __init__(self, data: Data, folder: Path) -> None:
        super().__init__(data, folder)
        self._module = import_module("webshart")
        if not self.is_written:
            data.shards.export("webshart")
        tars = Path(data.tars[0]).parent
        self._dataset = self._module.discover_dataset(str(tars))

    def epoch(self) -> Iterable[Any]:
        loader = self._module.TarDataLoader(self._dataset, batch_size=B, buffer_size=4 * B)
        return (entry for batch in loader.iter_batches() for entry in batch)

    def seen(self, items: Iterable[Any]) -> Iterator[Seen]:
        yield from _paired((entry.path, entry.data) for entry in items)


class Spdl(Peer):
    name, yields = "spdl iter_tarfile", "(name, memoryview), one a part"

    def __init__(self, data: Data, folder: Path) -> None:
        super().__init__(data, folder)
        self._iterate = import_module("spdl.io").iter_tarfile

    def epoch(self) -> Iterable[Any]:
        for tar in self.data.tars:
            with open(tar, "rb") as file:
                yield from self._iterate(file.read())  # of bytes, which it calls the fastest

    def seen(self, items: Iterable[Any]) -> Iterator[Seen]:
        yield from _paired(items)


class ArrayRecord(Peer):
    name, yields = "array_record", "bytes of both parts in one"
    has_loader = has_tensors = True

    def __init__(self, data: Data, folder: Path) -> None:
        super().__init__(data, folder)
        self._module = import_module("array_record.python.array_record_module")
        self._path, self._loader_path = str(folder / "groups"), str(folder / "single")
        self._size = prod(data.shape)
        for path, options in (
            (self._path, f"group_size:{max(1, 2**20 // self._size)},uncompressed"),
            (self._loader_path, "group_size:1,uncompressed"),  # what random access is documented to want
        ):
            if not self.is_written:
                writer = self._module.ArrayRecordWriter(path, options)
                for number, image in enumerate(data.images):
                    writer.write(image + data.label(number))
                writer.close()

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
        records = source.ArrayRecordDataSource(self._loader_path)
        more: dict[str, Any] = {"num_workers": processes, "persistent_workers": True}
        return DataLoader(records, batch_size=B, collate_fn=list, **more)

    def tensors(self) -> Iterable[torch.Tensor]:
        count = self._size
        images = (np.frombuffer(record, np.uint8, count).reshape(self.data.shape) for record in self.epoch())
        return _stacks(images)


class Energon(Peer):
    name, yields = "megatron-energon", "lists of dicts of bytes"
    has_loader = True

    def __init__(self, data: Data, folder: Path) -> None:
        super().__init__(data, folder)
        self._module = import_module("megatron.energon")
        self._root = Path(data.shards.root)
        if not self.is_written:
            self._write()

    def _write(self) -> None:
        self.data.shards.export("energon")
        meta = self._root / ".nv-meta"
        names = [str(Path(tar).relative_to(self._root)) for tar in self.data.tars]
        (meta / "split.yaml").write_text(
            json.dumps({"split_parts": {"train": [], "val": names, "test": []}, "exclude": []})
        )
        (meta / "dataset.yaml").write_text(
            json.dumps({"__module__": "megatron.energon", "__class__": "CrudeWebdataset", "subflavors": {}})
        )

    def _dataset(self, processes: int) -> Any:
        module, base = self._module, import_module("megatron.energon.task_encoder.base")

        class Raw(module.DefaultTaskEncoder):  # type: ignore[misc,name-defined]
            cookers: ClassVar[list[Any]] = [module.Cooker(base.stateless(lambda sample: sample))]
            decoder = None

            @base.stateless  # type: ignore[untyped-decorator]
            def batch(self, samples: list[Any]) -> list[Any]:
                return samples

        return module.get_val_dataset(
            str(self._root),
            worker_config=module.WorkerConfig(rank=0, world_size=1, num_workers=processes),
            batch_size=B,
            task_encoder=Raw(),
        )

    def epoch(self) -> Iterable[Any]:
        return (sample for batch in self.loader(0) for sample in batch)

    def seen(self, items: Iterable[Any]) -> Iterator[Seen]:
        for sample in items:
            yield sample["__key__"].rpartition("/")[2], sample["x"], sample["cls"]

    def loader(self, processes: int) -> Iterable[list[Any]]:
        return self._module.get_loader(self._dataset(processes))  # type: ignore[no-any-return]


PEERS: tuple[type[Peer], ...] = (
    *(WebDataset, Wids, MosaicML, LitData, WebShart, Spdl, ArrayRecord, Energon),
)
NOT_HERE = {"FFCV": "its latest release needs OpenCV's headers and does not build with this Python"}


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


def _paired(members: Iterable[tuple[str, Any]]) -> Iterator[Seen]:
    """Samples of members, whose names end in .cls and then .x."""
    label: tuple[str, Any] = "", b""
    for name, payload in members:
        key, _, extension = name.rpartition("/")[2].partition(".")
        if extension == "cls":
            label = key, payload
        else:
            yield key, payload, label[1] if label[0] == key else b""


def _image(shape: tuple[int, ...], sample: dict[str, Any]) -> Any:
    return np.frombuffer(sample["x"], np.uint8).reshape(shape)


def _stack(images: list[Any]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images))


def _stacks(images: Iterable[Any]) -> Iterator[torch.Tensor]:
    some = []
    for image in images:
        some.append(image)
        if len(some) == B:
            yield _stack(some)
            some = []
    if some:
        yield _stack(some)
