"""observe: logits -> per-sample statistics, scattered into 10 million samples' state.

Beside torch eager, as one writes it in a training loop, and beside numba as good as we can make it. All
compute loss, p_y, correct, margin, EL2N and entropy of every row and scatter them by sample id; of tokens
[B, T, V], every sequence's mean loss. Every call has ids of its own, at random, and logits that rotate over
more than the last-level cache, so that all of it comes from memory; how fast memory can be read ("sum") is
measured in turn with them, and so is what a second thread is worth where nothing is shared ("arithmetic"):
virtual processors may be two halves of a core, have neighbours, or share no cache. With one thread, and with
all processors, whose gain over the one is noted. numba has no float16 and bfloat16 on
processors. What the states hold after the last round is compared with float64 NumPy, for all rows of all
rounds.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from _arithmetic import Arithmetic
from _by_numba import ROW as NUMBA_ROW
from _by_numba import NumbaState
from _by_torch import ROW as TORCH_ROW
from _by_torch import TorchState
from _harness import WARM, check, check_close, compare, options_parser, rounds, run_main, threads
from _machine import last_level_cache
from _memory import Read
from _oracle import Statistics, statistics
from _report import Report

from pyimportance import Tracker
from pyimportance.score.history import ROW

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

CASES: tuple[tuple[tuple[int, ...], torch.dtype], ...] = (
    ((65536, 10), torch.float32),
    ((4096, 1000), torch.float32),
    ((4096, 1000), torch.float16),
    ((4096, 1000), torch.bfloat16),
    ((4, 128, 50257), torch.bfloat16),
)
QUICK: dict[tuple[int, ...], tuple[int, ...]] = {(4, 128, 50257): (4, 16, 5003)}
# What ours states of itself (csrc/observe/gist.h), rounded up; of the others, what float32 leaves.
TOLERANCES = {"pyimportance": (2e-6, 2e-6), "torch eager": (2e-4, 2e-5), "numba": (2e-4, 2e-5)}


class Inputs:
    """Batches by round: ids that no other round has, logits and targets that rotate."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, ids: npt.NDArray[np.int64]) -> None:
        rng = np.random.default_rng(0)
        self.shape, self.classes, self.ids = shape, shape[-1], ids
        self.rows = int(np.prod(shape[:-1]))  # of logits
        self.nbytes = self.rows * (self.classes * dtype.itemsize + 8) + shape[0] * 8
        count = 2 * last_level_cache() // (self.rows * self.classes * dtype.itemsize) + 1
        self.logits = [
            torch.from_numpy(rng.standard_normal(shape, dtype=np.float32) * 3).to(dtype) for _ in range(count)
        ]
        self.targets = [torch.from_numpy(rng.integers(0, self.classes, shape[:-1])) for _ in range(count)]
        self.right: dict[int, Statistics] = {}

    def __getitem__(self, turn: int) -> Batch:
        at = turn % len(self.logits)
        return self.ids_of(turn), self.logits[at], self.targets[at]

    def ids_of(self, turn: int) -> torch.Tensor:
        samples = self.shape[0]
        return torch.from_numpy(self.ids[turn * samples :][:samples])

    def answer(self, turn: int) -> Statistics:
        at = turn % len(self.logits)
        if at not in self.right:
            logits = self.logits[at].float().numpy().reshape(self.rows, self.classes)
            right = statistics(logits, self.targets[at].numpy().reshape(-1))
            if len(self.shape) == 3:
                right = {"loss": right["loss"].reshape(self.shape[:2]).mean(1)}
            self.right[at] = right
        return self.right[at]


class Case:
    """A shape and type of logits, and the states that its contenders keep."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self.tracker, self.torch = Tracker(inputs.ids.size), TorchState(inputs.ids.size)
        self.tracker.end_epoch()  # an empty one: it writes to all of the tracker's memory
        single = inputs.logits[0].dtype == torch.float32
        self.numba = NumbaState(inputs.ids.size) if single else None

    def contenders(self) -> dict[str, Callable[[int], Any]]:
        """Hold the states, and so are not kept in them: no gigabytes in a cycle."""
        inputs, tracker, by_numba = self.inputs, self.tracker, self.numba
        by_torch = self.torch.observe_tokens if len(inputs.shape) == 3 else self.torch.observe
        calls: dict[str, Callable[[int], Any]] = {
            "pyimportance": lambda turn: tracker.observe(*inputs[turn]),
            "torch eager": lambda turn: by_torch(*inputs[turn]),
        }
        if by_numba is not None:
            calls["numba"] = lambda turn: by_numba.observe(*(part.numpy() for part in inputs[turn]))
        return calls

    def check(self, turns: int) -> None:
        """What the states hold."""
        self.tracker.end_epoch()
        dynamics = self.tracker.dynamics()
        check(self.tracker.skipped == 0, f"the tracker skipped {self.tracker.skipped} rows")
        check_close("samples observed", int(dynamics.count.sum()), turns * self.inputs.shape[0])
        names = self.inputs.answer(0)
        means = {n: dynamics.mean(n) for n in names if n != "correct"}
        kept: dict[str, dict[str, Any]] = {
            "pyimportance": {**means, "correct": dynamics.correct},
            "torch eager": {n: getattr(self.torch, n).numpy() for n in names},
        }
        if self.numba is not None:
            kept["numba"] = {n: self.numba.column(n) for n in names}
        for turn in range(turns):
            ids = self.inputs.ids_of(turn).numpy()
            for contender, columns in kept.items():
                for name, right in self.inputs.answer(turn).items():
                    rtol, atol = (0.0, 0.0) if name == "correct" else TOLERANCES[contender]
                    what = f"{contender}, round {turn}, {name}"
                    check_close(what, columns[name][ids], right, rtol=rtol, atol=atol)


def bench_case(
    report: Report, inputs: Inputs, machine: dict[str, Any], turns: int, alone: dict[str, float]
) -> dict[str, float]:
    """Returns the median seconds by contender: of one thread, or, where those are given, of all."""
    count = len(os.sched_getaffinity(0)) if alone else 1

    def examine(name: str, _: int, answer: Any) -> None:
        if name in machine:
            machine[name].examine(answer)

    with threads(count):
        case = Case(inputs)
        seconds = compare(case.contenders() | machine, turns, examine)
    case.check(turns + WARM)
    medians = {name: float(np.median(taken)) for name, taken in seconds.items()}
    notes = {name: f"{alone[name] / took:.2f} times one thread" for name, took in medians.items() if alone}
    read, arithmetic = machine["sum"], machine["arithmetic"]
    read_seconds, own_seconds = seconds.pop("sum"), seconds.pop("arithmetic")
    bandwidth = [read.nbytes / taken for taken in read_seconds]
    title = f"{list(inputs.shape)} {str(inputs.logits[0].dtype).removeprefix('torch.')}"
    samples, tokens = inputs.shape[0], len(inputs.shape) == 3
    report.add(
        title,
        seconds,
        items=inputs.rows,
        input_bytes=inputs.nbytes,
        threads=count,
        written={
            "pyimportance": samples * ROW.itemsize,
            "torch eager": samples * (4 if tokens else TORCH_ROW),
            "numba": samples * NUMBA_ROW,
        },
        fractions={
            name: [inputs.nbytes / t / b for t, b in zip(taken, bandwidth, strict=True)]
            for name, taken in seconds.items()
        },
        notes=notes,
    )
    shared: dict[str, Any] = {"threads": count, "notes": notes}
    report.add(title, {"sum": read_seconds}, items=read.numbers.size, input_bytes=read.nbytes, **shared)
    own_bytes, own_items = arithmetic.nbytes, arithmetic.items
    report.add(title, {"arithmetic": own_seconds}, items=own_items, input_bytes=own_bytes, **shared)
    return medians


def run(options: argparse.Namespace) -> Report:
    num_samples, turns = 1_000_000 if options.quick else 10_000_000, rounds(options, 41)
    read = Read(options.quick)
    machine = {"sum": read, "arithmetic": Arithmetic(options.quick)}
    report = Report(
        "observe",
        item="row",
        about="MB in: logits, ids and targets. MB written: what each keeps of a sample. sum: of "
        f"{read.nbytes / 1e6:,.0f} MB of int64, by numba, and its items those. arithmetic: "
        "of multiplications in registers. Logits rotate over "
        f"{2 * last_level_cache() / 1e6:.0f} MB or more, twice the last-level cache.",
        fraction_of="% of sum's GB/s",
    )
    most = max(shape[0] for shape, _ in CASES)
    ids = np.random.default_rng(0).permutation(max(num_samples, (turns + WARM) * most))
    for shape, dtype in CASES:
        inputs = Inputs(QUICK.get(shape, shape) if options.quick else shape, dtype, ids)
        alone = bench_case(report, inputs, machine, turns, {})
        if len(os.sched_getaffinity(0)) > 1:
            bench_case(report, inputs, machine, turns, alone)
    return report


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(run, options_parser("observe beside the same statistics by torch eager and numba"), argv)


if __name__ == "__main__":
    sys.exit(main())
