"""What every loader of the bench is made into: a class that reads the same samples, made of the data and of a
folder, to which it writes its format where that is not there yet.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
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
        self.data, self.folder = data, folder
        folder.mkdir(parents=True, exist_ok=True)

    def written(self, name: str, write: Callable[[str], object]) -> str:
        """The path of this name in its folder, written where it is not there yet."""
        path = self.folder / name
        if not path.exists():
            write(str(path))
        return str(path)

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


def through(
    dataset: Any, processes: int, *, of: Any = DataLoader, size: int | None = B, collate: Any = list
) -> Iterable[Any]:
    """A DataLoader, or what stands for it, whose processes stay from epoch to epoch."""
    more = {} if collate is None else {"collate_fn": collate}
    return of(  # type: ignore[no-any-return]
        dataset, batch_size=size, num_workers=processes, persistent_workers=processes > 0, **more
    )


def image(shape: tuple[int, ...], sample: dict[str, Any]) -> Any:
    return np.frombuffer(sample["x"], np.uint8).reshape(shape)


def stack(images: list[Any]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images))


def stacks(images: Iterable[Any]) -> Iterator[torch.Tensor]:
    some = []
    for image in images:
        some.append(image)
        if len(some) == B:
            yield stack(some)
            some = []
    if some:
        yield stack(some)
