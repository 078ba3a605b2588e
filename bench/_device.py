"""What the benches of a CUDA device share: where things lie, timing by events, the bandwidth of a copy."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import ModuleType

import torch
from _harness import WARM
from _report import Interval, Report

from pyimportance.score.device import callers_stream
from pyimportance.score.engine import cuda

CALLS = 4  # a round
BUSY = 5_000_000  # cycles: a few milliseconds, longer than enqueuing a round takes

Calls = Mapping[str, Callable[[int], object]]
Seconds = tuple[dict[str, list[float]], dict[str, float]]


def compare_on_device(contenders: Calls, turns: int) -> Seconds:
    """Seconds of a call on the device, in every measured round, contenders in turn; the least on the host."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    host: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(turns + WARM):
        for name, call in contenders.items():
            torch.cuda.synchronize()
            torch.cuda._sleep(BUSY)  # type: ignore[no-untyped-call]
            start.record()
            before = time.perf_counter()
            for number in range(turn * CALLS, (turn + 1) * CALLS):
                call(number)
            host[name].append((time.perf_counter() - before) / CALLS)
            end.record()
            torch.cuda.synchronize()
            seconds[name].append(start.elapsed_time(end) / 1e3 / CALLS)
    return {name: taken[WARM:] for name, taken in seconds.items()}, {n: min(t) for n, t in host.items()}


def copy_bandwidth(nbytes: int) -> float:
    """Bytes read and written each second, by the best of ten copies from device memory to device memory."""
    a, b = (torch.empty(nbytes, dtype=torch.uint8, device="cuda") for _ in range(2))
    seconds, _ = compare_on_device({"copy": lambda _: b.copy_(a)}, 10)
    return 2 * nbytes / min(seconds["copy"])


@dataclass(frozen=True)
class Bench:
    """A report in the making.

    turns    measured rounds
    cache    bytes of the L2 cache; what is read rotates over four times as many
    copy     bytes a second that a copy reads and writes
    device   where tensors are made
    compare  what times the contenders
    native   the extension
    """

    report: Report
    turns: int
    cache: int
    copy: float
    device: str = "cuda"
    compare: Callable[[Calls, int], Seconds] = compare_on_device
    native: Callable[[], ModuleType] = cuda

    def stream(self) -> AbstractContextManager[int]:
        """The one to enqueue on."""
        where = torch.device(self.device)
        return callers_stream(where) if where.type == "cuda" else nullcontext(-1)

    @property
    def calls(self) -> int:
        """How often each contender is called."""
        return (self.turns + WARM) * CALLS

    def rotation(self, nbytes: int) -> int:
        """How many inputs of so many bytes there must be."""
        return max(2, -(-4 * self.cache // nbytes))

    def add(
        self,
        case: str,
        contenders: Calls,
        *,
        items: int,
        nbytes: int,
        moved: int,
        written: Mapping[str, int],
    ) -> Callable[[], None]:
        """Times the contenders; what is given back adds their rows, once the answers have been checked.

        nbytes  of the input
        moved   bytes of memory that must be read or written, which is what is set beside a copy
        """
        seconds, host = self.compare(contenders, self.turns)
        notes = {}
        for name, taken in seconds.items():
            share = moved / Interval.of(taken).median / self.copy
            notes[name] = f"{share:.2f} of copy, host {host[name] * 1e6:.0f} us"
        return lambda: self.report.add(
            case, seconds, items=items, input_bytes=nbytes, written=written, notes=notes
        )
