"""observe: logits -> per-sample statistics, scattered into 10 million samples' state, beside torch eager.

Both compute loss, p_y, correct, margin, EL2N and entropy of every row and scatter them by sample id; torch as
one writes it in a training loop. Logits rotate over more than the last level cache, every call has ids
of its own, at random, so that all of it comes from memory. Timed with one thread, and with all processors.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from _harness import Report, Row, compare, last_level_cache, options_parser, run_main

from pyimportance import _C, Tracker
from pyimportance.score.history import ROW

Batch = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.int64]]


class TorchState:
    """What a training loop without this package would keep: one tensor [N] per statistic."""

    def __init__(self, num_samples: int) -> None:
        self.loss, self.p, self.margin, self.el2n, self.entropy = torch.zeros(5, num_samples).unbind()
        self.correct = torch.zeros(num_samples, dtype=torch.bool)

    @torch.no_grad()
    def observe(self, ids: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor) -> None:
        log_p = logits.log_softmax(1)
        p = log_p.exp()
        at = targets[:, None]
        loss = -log_p.gather(1, at)[:, 0]
        others = logits.scatter(1, at, -torch.inf)
        error = p.scatter_add(1, at, torch.full(at.shape, -1.0))
        self.loss[ids] = loss
        self.p[ids] = torch.exp(-loss)
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
    """Batches by number: ids that no other number has, logits and targets that rotate."""

    def __init__(self, rows: int, classes: int, num_samples: int, nbytes: int) -> None:
        rng = np.random.default_rng(0)
        self.rows, self.ids = rows, rng.permutation(num_samples)
        count = nbytes // (rows * classes * 4) + 2
        self.logits = [rng.standard_normal((rows, classes), dtype=np.float32) * 3 for _ in range(count)]
        self.targets = [rng.integers(0, classes, rows) for _ in range(count)]

    def __getitem__(self, number: int) -> Batch:
        at = number % len(self.logits)
        ids = self.ids[number * self.rows : (number + 1) * self.rows]
        assert ids.size == self.rows, "too few samples for so many rounds"
        return ids, self.logits[at], self.targets[at]


def check(batch: Batch, num_samples: int) -> None:
    """Both give the same numbers, to what float32 leaves of torch's."""
    ids, logits, targets = batch
    tracker, state = Tracker(num_samples, history="memory"), TorchState(num_samples)
    tracker.observe(ids, logits, targets)
    tracker.end_epoch()
    state.observe(*map(torch.from_numpy, batch))
    history = tracker.dynamics().history
    assert history is not None
    for name in ("loss", "margin", "el2n", "entropy"):
        ours, theirs = history.array(name)[0][ids], getattr(state, name)[ids].numpy()
        assert np.allclose(ours, theirs, rtol=2e-4, atol=2e-5), name
    assert np.array_equal(history.array("correct")[0][ids], state.correct[ids].numpy()), "correct"


def run(options: argparse.Namespace) -> Report:
    report = Report("observe", item="row", moved="logits, ids and targets read + 32 bytes a row written")
    num_samples, repeats = (1_000_000, 3) if options.quick else (10_000_000, options.repeats)
    rotate = 0 if options.quick else 3 * last_level_cache() // 2
    for rows, classes in ((65536, 10), (4096, 1000)):
        inputs = Inputs(rows, classes, num_samples, rotate)
        check(inputs[0], num_samples)
        for count in sorted({1, len(os.sched_getaffinity(0))}):
            with threads(count):
                timings = compare(contenders(inputs, num_samples), repeats)
            nbytes = rows * (classes * 4 + 16 + ROW.itemsize)
            for name, timing in timings.items():
                times = timing.median / timings["pyimportance"].median
                notes = _C.instruction_set() if name == "pyimportance" else f"{times:.1f} x as long"
                case = f"[{rows}, {classes}], {count} thread{'s' * (count > 1)}"
                report.rows.append(Row(case, name, timing, rows, nbytes, notes))
    return report


def contenders(inputs: Inputs, num_samples: int) -> dict[str, Callable[[int], object]]:
    tracker, state = Tracker(num_samples), TorchState(num_samples)
    return {
        "pyimportance": lambda number: tracker.observe(*inputs[number]),
        "torch eager": lambda number: state.observe(*map(torch.from_numpy, inputs[number])),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = options_parser("observe beside the same statistics in torch eager")
    parser.set_defaults(repeats=41)
    return run_main(run, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
