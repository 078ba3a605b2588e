"""Loaders of tars, all on the ones that ours has written, set as their documentation advises."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import redirect_stderr
from functools import cached_property, partial
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import torch
from _load_data import B, Data, Seen
from _load_peer import Peer, image, stack, through


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
        return through(batches, processes, of=self._module.WebLoader, size=None, collate=None)

    def tensors(self) -> Iterable[torch.Tensor]:
        images = self._dataset.map(partial(image, self.data.shape))
        return images.batched(B, collation_fn=stack)  # type: ignore[no-any-return]


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
        return through(self._dataset, processes)


class WebShart(Peer):
    name, yields = "webshart", "entries with bytes, one a part"

    def __init__(self, data: Data, folder: Path) -> None:
        super().__init__(data, folder)
        self._module = import_module("webshart")
        self.written("exported", self._export)
        tars = Path(data.tars[0]).parent
        self._dataset = self._module.discover_dataset(str(tars))

    def _export(self, done: str) -> None:
        self.data.shards.export("webshart")
        Path(done).touch()

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


class Energon(Peer):
    name, yields = "megatron-energon", "lists of dicts of bytes"
    has_loader = True

    def __init__(self, data: Data, folder: Path) -> None:
        super().__init__(data, folder)
        self._module = import_module("megatron.energon")
        self._root = Path(data.shards.root)
        self.written("exported", self._export)

    def _export(self, done: str) -> None:
        self.data.shards.export("energon")
        meta = self._root / ".nv-meta"
        names = [str(Path(tar).relative_to(self._root)) for tar in self.data.tars]
        (meta / "split.yaml").write_text(
            json.dumps({"split_parts": {"train": [], "val": names, "test": []}, "exclude": []})
        )
        (meta / "dataset.yaml").write_text(
            json.dumps({"__module__": "megatron.energon", "__class__": "CrudeWebdataset", "subflavors": {}})
        )
        Path(done).touch()

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
        return (sample for batch in self._here for sample in batch)

    @cached_property
    def _here(self) -> Iterable[list[Any]]:
        return self.loader(0)

    def seen(self, items: Iterable[Any]) -> Iterator[Seen]:
        for sample in items:
            yield sample["__key__"].rpartition("/")[2], sample["x"], sample["cls"]

    def loader(self, processes: int) -> Iterable[list[Any]]:
        return self._module.get_loader(self._dataset(processes))  # type: ignore[no-any-return]


def _paired(members: Iterable[tuple[str, Any]]) -> Iterator[Seen]:
    """Samples of members, whose names end in .cls and then .x."""
    label: tuple[str, Any] = "", b""
    for name, payload in members:
        key, _, extension = name.rpartition("/")[2].partition(".")
        if extension == "cls":
            label = key, payload
        else:
            yield key, payload, label[1] if label[0] == key else b""
