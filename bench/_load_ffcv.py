"""FFCV, which takes any arrays: the bytes of a sample for samples, images of a fixed size for tensors.

Its release is source alone, and builds where OpenCV's and libturbojpeg's headers are (README: the extra
``ffcv``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _load_data import B, Data, Seen
from _load_peer import Peer
from numpy.typing import NDArray

Value = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


class FFCV(Peer):
    """Through the page cache (os_cache), as documented for what fits in memory. It fills the same few buffers
    again and again, so what is kept is copied out of them."""

    name, yields = "ffcv", "dict of bytes and a label, copied out of its batches"
    has_tensors = True

    def __init__(self, data: Data, folder: Path) -> None:
        super().__init__(data, folder)
        self._fields, self._decoders = import_module("ffcv.fields"), import_module("ffcv.fields.decoders")
        decode = [self._decoders.BytesDecoder()]
        self._raw = self._loader("raw", self._fields.BytesField(), decode, lambda x: x, threads=2)

    def _loader(
        self, name: str, field: Any, decode: list[Any], value: Value, *, threads: int
    ) -> Iterable[tuple[Any, Any]]:
        def write(path: str) -> None:
            fields = {"x": field, "cls": self._fields.IntField()}
            with redirect_stderr(StringIO()):  # a bar
                writer = import_module("ffcv.writer").DatasetWriter(path, fields, num_workers=1)
                writer.from_indexed_dataset(_Rows(self.data, value))

        loader = import_module("ffcv.loader")
        return loader.Loader(  # type: ignore[no-any-return]
            self.written(f"{name}.beton", write),
            B,
            num_workers=threads,
            os_cache=True,
            order=loader.OrderOption.SEQUENTIAL,
            drop_last=False,
            pipelines={"x": decode, "cls": [self._decoders.IntDecoder()]},
        )

    def epoch(self) -> Iterable[Any]:
        for images, labels in self._raw:
            for x, label in zip(map(np.ndarray.tobytes, images), labels[:, 0].tolist(), strict=True):
                yield {"x": x, "cls": label}

    def seen(self, items: Iterable[Any]) -> Iterator[Seen]:
        for sample in items:
            yield None, sample["x"], b"%d" % sample["cls"]

    def tensors(self) -> Iterable[torch.Tensor]:
        return (images.clone() for images, _ in self._images)

    @cached_property
    def _images(self) -> Iterable[tuple[torch.Tensor, Any]]:
        shape = self.data.shape
        field = self._fields.NDArrayField(np.dtype(np.uint8), shape)
        decode = [self._decoders.NDArrayDecoder(), import_module("ffcv.transforms").ToTensor()]
        # Where a second thread does as little as here, waiting for it takes longer than it saves.
        return self._loader("images", field, decode, lambda x: x.reshape(shape), threads=1)


@dataclass
class _Rows:
    """The samples as its writer takes them: (array, label) by number."""

    data: Data
    value: Value

    def __len__(self) -> int:
        return self.data.samples

    def __getitem__(self, number: int) -> tuple[NDArray[np.uint8], int]:
        return self.value(np.frombuffer(self.data.images[number], np.uint8)), int(self.data.label(number))
