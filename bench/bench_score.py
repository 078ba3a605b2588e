"""end_epoch: an epoch's rows folded into the running statistics; score: statistics -> a number per sample.

end_epoch, in one process, beside a copy of as many bytes as it has to read and write: what memory allows.
score beside the same expression in plain NumPy over the same arrays, whose columns are larger than the
last-level cache. All are compared with float64 NumPy over the whole history, for all samples.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from _harness import WARM, check, check_close, compare, options_parser, rounds, run_main
from _machine import last_level_cache
from _oracle import statistics
from _report import Report

from pyimportance import Dynamics, Tracker, score
from pyimportance.score import state
from pyimportance.score.history import ROW
from pyimportance.threads import default_threads

Array = npt.NDArray[np.float64]

ROWS, CLASSES, BATCHES = 65536, 10, 7  # observed at a time; different batches
STATE = sum(column.itemsize for column in state.zeros(0, state.KINDS["logits"]).values())  # bytes a sample

# By measure: what it is in NumPy, and the bytes of the columns that it reads.
NUMPY: dict[str, tuple[Callable[[Any], Array], int]] = {
    "loss_mean": (lambda d: np.where(d.count > 0, d.loss_mean, np.nan), 12),
    "loss_variance": (lambda d: np.where(d.count > 1, d.loss_m2 / (d.count - 1), np.nan), 12),
    "variability": (lambda d: np.where(d.count > 0, np.sqrt(d.p_m2 / d.count), np.nan), 12),
    "aum": (lambda d: np.where(d.count > 0, d.margin_sum / d.count, np.nan), 12),
    "forgetting": (lambda d: np.where(d.count > 0, np.where(d.correct > 0, d.forgotten, np.inf), np.nan), 12),
}


class Run:
    """A training run: in epoch e the samples of chunk j are shown batch (j + e) mod BATCHES."""

    def __init__(self, num_samples: int) -> None:
        rng = np.random.default_rng(0)
        self.num_samples = num_samples
        self.batches = [
            (rng.standard_normal((ROWS, CLASSES), dtype=np.float32) * 3, rng.integers(0, CLASSES, ROWS))
            for _ in range(BATCHES)
        ]
        self.tracker = Tracker(num_samples)

    def observe(self, epoch: int) -> None:
        for j, start in enumerate(range(0, self.num_samples, ROWS)):
            ids = np.arange(start, min(start + ROWS, self.num_samples))
            logits, targets = self.batches[(j + epoch) % BATCHES]
            self.tracker.observe(ids, logits[: ids.size], targets[: ids.size])

    def right(self, epochs: int) -> dict[str, Array]:
        """float64 [N] by measure, and "confidence", from the whole history in two passes."""
        shown = [statistics(*batch) for batch in self.batches]
        chunks: dict[str, list[Array]] = {name: [] for name in (*NUMPY, "confidence", "el2n", "entropy")}
        for j in range(min(BATCHES, -(-self.num_samples // ROWS))):
            order = [shown[(j + e) % BATCHES] for e in range(epochs)]
            h: dict[str, Any] = {name: np.stack([one[name] for one in order]) for name in order[0]}
            correct = h["correct"]
            chunks["loss_mean"].append(h["loss"].mean(0))
            chunks["loss_variance"].append(h["loss"].var(0, ddof=1))
            chunks["variability"].append(h["p_true"].std(0))
            chunks["aum"].append(h["margin"].mean(0))
            falls = (correct[:-1] & ~correct[1:]).sum(0)
            chunks["forgetting"].append(np.where(correct.any(0), falls, np.inf))
            chunks["confidence"].append(h["p_true"].mean(0))
            chunks["el2n"].append(h["el2n"].mean(0))
            chunks["entropy"].append(h["entropy"].mean(0))
        return {name: np.resize(np.concatenate(parts), self.num_samples) for name, parts in chunks.items()}


def check_scores(what: str, values: npt.NDArray[np.float32], right: dict[str, Array], measure: str) -> None:
    """To 1e-5; a standard deviation to 1e-6 of the mean that it is around, if that is more: such are the
    numbers that rows of logits come to (csrc/observe/gist.h).
    """
    check(values.dtype == np.float32, f"{what}: {values.dtype}; right is float32")
    around = {"loss_variance": right["loss_mean"], "variability": right["confidence"]}.get(measure)
    spread = 0.0 if around is None else 1e-6 * float(around.max())
    root = np.sqrt if measure == "loss_variance" else np.asarray
    check_close(what, root(values), root(right[measure]), rtol=1e-5, atol=spread + 1e-9)


def bench_end_epoch(report: Report, run: Run, turns: int) -> Dynamics:
    """Times it, and leaves the dynamics, all of which have been compared."""
    source, target = torch.ones(2, (STATE + ROW.itemsize) * run.num_samples, dtype=torch.uint8).unbind()

    def examine(name: str, turn: int, _: object) -> None:
        done = run.tracker.epochs if name == "Tracker.end_epoch" else turn + 1
        check(done == turn + 1, f"end_epoch: {done} epochs are committed; right is {turn + 1}")

    seconds = compare(
        {
            "Tracker.end_epoch": lambda _: run.tracker.end_epoch(),
            "torch copy_ of as many bytes": lambda _: target.copy_(source),
        },
        turns,
        examine,
        prepare=run.observe,
    )
    dynamics, epochs = run.tracker.dynamics(), turns + WARM
    right = run.right(epochs)
    check_close("end_epoch: count", dynamics.count, np.full(run.num_samples, epochs))
    for name in ("loss_mean", "confidence", "el2n", "entropy", "aum", "forgetting"):
        check_scores(f"end_epoch: {name}", score(dynamics, name).values, right, name)
    report.add(
        f"end_epoch, {run.num_samples:,} samples",
        seconds,
        items=run.num_samples,
        input_bytes=(STATE + ROW.itemsize) * run.num_samples,
        threads={
            "Tracker.end_epoch": default_threads(),
            "torch copy_ of as many bytes": torch.get_num_threads(),
        },
        written=dict.fromkeys(seconds, (STATE + ROW.itemsize) * run.num_samples),
    )
    return dynamics


def bench_score(report: Report, dynamics: Dynamics, right: dict[str, Array], turns: int) -> None:
    for measure, (formula, nbytes) in NUMPY.items():

        def by_numpy(_: int, formula: Callable[[Any], Array] = formula) -> npt.NDArray[np.float32]:
            with np.errstate(divide="ignore", invalid="ignore"):
                return formula(dynamics).astype(np.float32)

        def by_score(_: int, measure: str = measure) -> npt.NDArray[np.float32]:
            return score(dynamics, measure).values

        def examine(name: str, _: int, values: npt.NDArray[np.float32], measure: str = measure) -> None:
            check_scores(f"{measure} by {name}", values, right, measure)

        seconds = compare({"score": by_score, "NumPy": by_numpy}, turns, examine)
        report.add(
            f"{measure}, {dynamics.num_samples:,} samples",
            seconds,
            items=dynamics.num_samples,
            input_bytes=nbytes * dynamics.num_samples,
            written=dict.fromkeys(seconds, 4 * dynamics.num_samples),
        )


def run(options: argparse.Namespace) -> Report:
    turns = rounds(options, 11)
    report = Report(
        "score",
        item="sample",
        about="MB in, MB written: of end_epoch, the epoch's rows and the statistics, read once and written "
        "once; of score, the columns that the formula reads, and float32 scores. "
        f"The last-level cache has {last_level_cache() / 1e6:.0f} MB.",
    )
    for num_samples in (100_000, 200_000) if options.quick else (1_000_000, 10_000_000):
        case = Run(num_samples)
        dynamics = bench_end_epoch(report, case, turns)
        right = case.right(turns + WARM)
        del case
    bench_score(report, dynamics, right, turns)
    return report


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(run, options_parser("Tracker.end_epoch, and score beside NumPy"), argv)


if __name__ == "__main__":
    sys.exit(main())
