"""How samples are handed over, and what is done with those that are in error."""

from __future__ import annotations

from dataclasses import dataclass

from pyimportance.checks import check_flag, check_integer
from pyimportance.errors import ArgumentError
from pyimportance.load.fields import Field


@dataclass(frozen=True)
class Making:
    """Options that decide no sequence, `ImportanceDataset` says what they mean."""

    batched: bool
    fields: tuple[Field, ...]
    pin_memory: bool
    on_error: str
    max_skipped: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "batched", check_flag("batched", self.batched))
        object.__setattr__(self, "pin_memory", check_flag("pin_memory", self.pin_memory))
        object.__setattr__(self, "max_skipped", check_integer("max_skipped", self.max_skipped, 0))
        if self.fields and not self.batched:
            raise ArgumentError("fields: they come as batches; give batched=True")
        if self.pin_memory and not self.fields:
            raise ArgumentError("pin_memory=True: there are no fields to be pinned")
        if self.pin_memory and not _has_cuda():
            raise ArgumentError("pin_memory=True: there is no CUDA device to copy to")
        if self.on_error not in ("raise", "skip"):
            raise ArgumentError(f"on_error={self.on_error!r}: allowed are raise, skip")


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
