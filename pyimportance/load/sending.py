"""What loader processes send to their training process: through memory that both map, and not through a pipe.

A DataLoader's processes put each batch into a queue, which pickles it and writes it to a pipe: a part is
copied five times on its way, at half a gigabyte a second. Here lists, tuples and dicts, and the numbers,
texts and bytes in them, are written to a block of a file in memory by one native call, and made again from
there by another, each byte being copied twice. What a window or a field was read into is such a block itself,
so that views and tensors of it are sent as its number and not copied. All else is pickled, as torch does.
What arrives is of the same types as what was sent, whatever collate_fn made it.

The file has no name and belongs to the data set (shared.py): forked and spawned processes have it from the
beginning, /dev/shm is not used, and it is gone when the last process is, however that ends. A block is taken
again when it was copied, or the last view or tensor of it is gone. Where `Region` has no room left, views are
sent as views of copies, and all goes through the pipe: nobody waits for anybody's memory. So it does where
address space is limited, as a training process maps a region for each loader process, and who sends cannot
tell whether the last one still fits. A process that is forked holds nothing of what was received before: its
parent does.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from multiprocessing.queues import Queue
from multiprocessing.reduction import ForkingPickler
from pickle import loads
from resource import RLIM_INFINITY, RLIMIT_AS, getrlimit
from types import FrameType
from typing import Any

import torch
from torch.multiprocessing.reductions import reduce_tensor
from torch.utils.data import get_worker_info

from pyimportance import _C
from pyimportance.errors import PyimportanceError
from pyimportance.load.shared import Place, Shared

_SMALL = 2**12  # bytes of a tensor that costs less to copy than to have torch share its memory

Handles = list[tuple[int, int]]
Rebuilt = tuple[Callable[..., Any], tuple[Any, ...]]


class _Sender:
    """What a loader process sends with, once there is one."""

    def __init__(self, shared: Shared) -> None:
        self._place = shared.place
        self._region = shared.own_region()
        self._region.read_into()
        self._here = threading.local()  # .sent: blocks of the batch that this thread pickles, if it does

    def through(self, queue: Queue[Any]) -> None:
        """Has a queue send so what is put into it; no other one, whose other end is somewhere else."""
        put = queue.put

        def put_batch(obj: Any, block: bool = True, timeout: float | None = None) -> None:
            put(_Batch(self, obj), block, timeout)

        queue.put = put_batch  # type: ignore[method-assign]

    def pickled(self, batch: Any) -> bytes:
        """What arrives as ``batch``; in the thread of the queue."""
        written = self._region.write(batch)
        sent: Handles = [] if written is None else [*written[0]]
        self._here.sent = sent
        try:
            if written is None:
                return bytes(ForkingPickler.dumps(batch))
            return bytes(ForkingPickler.dumps(_Written(self._place, *written)))
        except BaseException:
            self._region.take_back(sent)
            raise
        finally:
            self._here.sent = None

    def tensor(self, tensor: torch.Tensor) -> Rebuilt:
        """How it is pickled: where it lies, if it is of a field; small ones as they are; else as by torch."""
        handles: Handles | None = getattr(self._here, "sent", None)
        if handles is None or tensor.device.type != "cpu":
            return _by_torch(tensor)
        if tensor.layout is not torch.strided or tensor.requires_grad or not tensor.numel():
            return _by_torch(tensor)
        if tensor.is_conj() or tensor.is_neg() or tensor.is_quantized:
            return _by_torch(tensor)
        layout = tensor.dtype, tuple(tensor.shape), tensor.stride()
        if tensor.nbytes <= _SMALL:
            contents = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            return _small, (contents, *layout[:2])
        sent = self._region.send(tensor.data_ptr())
        if sent is None:
            return _by_torch(tensor)
        handles.append(sent[:2])
        return _tensor, (self._place, sent, layout)


class _Batch:
    """What is put into the queue."""

    def __init__(self, sender: _Sender, batch: Any) -> None:
        self._sender, self._batch = sender, batch

    def __reduce__(self) -> Rebuilt:
        return loads, (self._sender.pickled(self._batch),)


class _Written:
    """The object that was written, when it is unpickled."""

    def __init__(self, place: Place, handles: Handles, others: list[Any]) -> None:
        self._what = place, handles, others

    def __reduce__(self) -> Rebuilt:
        return _read, self._what


_senders: list[_Sender] = []  # one, once a loader process has begun


def begin(shared: Shared) -> None:
    """Has a loader process send through memory from now on, where there may be any.

    Not through that of a data set which was made or copied in this process: its training process has it not.
    """
    if get_worker_info() is None or _senders or not shared.is_of_another_process:
        return
    if getrlimit(RLIMIT_AS)[0] != RLIM_INFINITY:
        return
    ForkingPickler.register(memoryview, _view)
    queue = _queue(inspect.currentframe())
    try:
        if queue is not None:
            _senders.append(_Sender(shared))
    except OSError:  # so much address space is not to be had
        queue = None
    if queue is not None:
        ForkingPickler.register(torch.Tensor, _senders[0].tensor)
        _senders[0].through(queue)


def _queue(frame: FrameType | None) -> Queue[Any] | None:
    """That of the DataLoader whose process calls; None, and all goes through the pipe, where it has not the
    name that torch's and torchdata's give it."""
    while frame is not None:
        queue = frame.f_locals.get("data_queue") if frame.f_code.co_name == "_worker_loop" else None
        if isinstance(queue, Queue):
            return queue
        frame = frame.f_back
    return None


def _by_torch(tensor: torch.Tensor) -> Rebuilt:
    reduced: Rebuilt = reduce_tensor(tensor)  # type: ignore[no-untyped-call]
    return reduced


def _view(view: memoryview) -> Rebuilt:
    return memoryview, (bytes(view),)


def _small(contents: bytes, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.frombuffer(bytearray(contents), dtype=dtype).view(shape)


def _region(place: Place) -> _C.LoadRegion:
    shared = Shared.of(place)
    if shared is None:
        raise PyimportanceError(
            "a loader process sends to the process that its data set came from; this is another one"
        )
    return shared.region(place.row)


def _read(place: Place, handles: Handles, others: list[Any]) -> Any:
    return _region(place).read(handles, others)


def _tensor(
    place: Place,
    sent: tuple[int, int, int],
    layout: tuple[torch.dtype, tuple[int, ...], tuple[int, ...]],
) -> torch.Tensor:
    (block, serial, offset), (dtype, shape, stride) = sent, layout
    memory = _region(place).receive(block, serial)
    count = 1 + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    flat = torch.frombuffer(memory, dtype=dtype, count=count, offset=offset)
    return flat.as_strided(shape, stride)
