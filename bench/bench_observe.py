"""observe: logits -> per-sample statistics, scattered into 10 million samples' state, beside torch eager.

Both compute loss, p_y, correct, margin, EL2N and entropy of every row and scatter them by sample id; torch as
one writes it in a training loop. Every call has ids of its own, at random, and logits that rotate over more
than the last-level cache, so that all of it comes from memory. With one thread, and with all processors.
What the states hold after the last round is compared with float64 NumPy, for all rows of all rounds.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from _harness import WARM, check, check_close, compare, options_parser, rounds, run_main
from _machine import last_level_cache
from _oracle import Statistics, statistics
from _report import Report

from pyimportance import Tracker
from pyimportance.score.history import ROW

Batch = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.int64]]

QUANTITIES = ("loss", "p_true", "margin", "el2n", "entropy")
TORCH_ROW = 5 * 4 + 1  # bytes that torch keeps of a row: five float32 and a bool


class TorchState:
    """What a training loop without this package would keep: one tensor [N] per statistic."""

    def __init__(self, num_samples: int) -> None:
        # Filled, not zeros: memory that was never written would be made while the clock runs.
        self.loss, self.p_true, self.margin, self.el2n, self.entropy = (
            torch.full((num_samples,), torch.nan) for _ in QUANTITIES
        )
        self.correct = torch.full((num_samples,), False)

    @torch.no_grad()
    def observe(self, ids: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor) -> None:
        log_p = logits.log_softmax(1)
        p = log_p.exp()
        at = targets[:, None]
        loss = -log_p.gather(1, at)[:, 0]
        others = logits.scatter(1, at, -torch.inf)
        error = p.scatter_add(1, at, torch.full(at.shape, -1.0))
        self.loss[ids] = loss
        self.p_true[ids] = torch.exp(-loss)
        self.correct[ids] = logits.argmax(1) == targets
        self.margin[ids] = logits.gather(1, at)[:, 0] - others.amax(1)
        self.el2n[ids] = error.norm(dim=1)
        self.entropy[ids] = -(p * log_p).sum(1)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Sets how many threads both contenders may use."""
    before, env = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    torch.set_num_threads(count)
    os.environ["OMP_NUM_THREADS"] = str(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        os.environ.pop("OMP_NUM_THREADS")
        if env is not None:
            os.environ["OMP_NUM_THREADS"] = env


class Inputs:
    """Batches by round: ids that no other round has, logits and targets that rotate."""

    def __init__(self, rows: int, classes: int, num_samples: int) -> None:
        rng = np.random.default_rng(0)
        self.rows, self.ids = rows, rng.permutation(num_samples)
        count = 2 * last_level_cache() // (rows * classes * 4) + 1
        self.logits = [rng.standard_normal((rows, classes), dtype=np.float32) * 3 for _ in range(count)]
        self.targets = [rng.integers(0, classes, rows) for _ in range(count)]
        self.right: dict[int, Statistics] = {}

    def __getitem__(self, turn: int) -> Batch:
        at = turn % len(self.logits)
        return self.ids[turn * self.rows :][: self.rows], self.logits[at], self.targets[at]

    def answer(self, turn: int) -> Statistics:
        at = turn % len(self.logits)
        if at not in self.right:
            self.right[at] = statistics(self.logits[at], self.targets[at])
        return self.right[at]


def check_states(tracker: Tracker, state: TorchState, inputs: Inputs, turns: int) -> None:
    """The states that were timed; ours to 1e-5, torch's to what float32 leaves of it."""
    tracker.end_epoch()
    dynamics = tracker.dynamics()
    ours = {name: dynamics.mean(name) for name in QUANTITIES} | {"correct": dynamics.correct}
    theirs = {name: getattr(state, name).numpy() for name in (*QUANTITIES, "correct")}
    check(tracker.skipped == 0, f"the tracker skipped {tracker.skipped} rows")
    check_close("samples observed", int(dynamics.count.sum()), turns * inputs.rows)
    for turn in range(turns):
        ids = inputs[turn][0]
        for name, right in inputs.answer(turn).items():
            exact = name == "correct"
            check_close(
                f"pyimportance, round {turn}, {name}", ours[name][ids], right,
                rtol=0 if exact else 1e-5, atol=0 if exact else 1e-9,
            )  # fmt: skip
            check_close(
                f"torch, round {turn}, {name}", theirs[name][ids], right,
                rtol=0 if exact else 2e-4, atol=0 if exact else 2e-5,
            )  # fmt: skip


def bench_shape(report: Report, inputs: Inputs, turns: int, count: int) -> None:
    tracker, state = Tracker(inputs.ids.size), TorchState(inputs.ids.size)
    tracker.end_epoch()  # an empty one: it writes to all of the tracker's memory
    rows, classes = inputs.logits[0].shape
    with threads(count):
        seconds = compare(
            {
                "pyimportance": lambda turn: tracker.observe(*inputs[turn]),
                "torch eager": lambda turn: state.observe(*map(torch.from_numpy, inputs[turn])),
            },
            turns,
            lambda *_: None,
        )
    check_states(tracker, state, inputs, turns + WARM)
    report.add(
        f"[{rows}, {classes}]",
        seconds,
        items=rows,
        input_bytes=rows * (classes * 4 + 16),
        threads=count,
        written={"pyimportance": rows * ROW.itemsize, "torch eager": rows * TORCH_ROW},
    )


def run(options: argparse.Namespace) -> Report:
    num_samples, turns = 1_000_000 if options.quick else 10_000_000, rounds(options, 41)
    report = Report("observe", item="row", about="")
    for rows, classes in ((65536, 10), (4096, 1000)):
        inputs = Inputs(rows, classes, max(num_samples, (turns + WARM) * rows))
        for count in sorted({1, len(os.sched_getaffinity(0))}):
            bench_shape(report, inputs, turns, count)
    report.about = (
        f"MB in: logits, ids and targets. MB written: what each keeps of a row, {ROW.itemsize} bytes here, "
        f"{TORCH_ROW} in torch. Logits rotate over {2 * last_level_cache() / 1e6:.0f} MB or more, twice the "
        "last-level cache."
    )
    return report


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(run, options_parser("observe beside the same statistics in torch eager"), argv)


if __name__ == "__main__":
    sys.exit(main())
