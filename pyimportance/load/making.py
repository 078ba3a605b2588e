"""How samples are handed over, and what is done with those that are in error.

parts="memoryview": a window's ranges of files are read to one buffer, headers and padding included, and parts
are read-only views of where they lie in it: nothing is copied, and no object is made to read into. A view is
good for as long as it is there, whatever became of dataset and iteration, and so is the whole buffer, about
window_bytes of it. What is to stay longer than its neighbours is copied, ``bytes(view)``: one view of every
window, as a buffer of a shuffle may hold, is all of the data in memory. Who lets go of samples as training
does holds the two windows of an iteration and those of the batches at hand, and buffers are read into again.
np.frombuffer, io.BytesIO, gzip.decompress and other takers of buffers take views as they are.

Loader processes send them as they are: the buffer is memory that the training process maps too (sending.py).
"""

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
    parts: str
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
        if self.parts not in ("bytes", "memoryview"):
            raise ArgumentError(f"parts={self.parts!r}: allowed are bytes, memoryview")
        if self.on_error not in ("raise", "skip"):
            raise ArgumentError(f"on_error={self.on_error!r}: allowed are raise, skip")

    @property
    def views(self) -> bool:
        return self.parts == "memoryview"


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
