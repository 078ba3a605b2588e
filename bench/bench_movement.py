"""What moves from interval to interval, and how alike the workers stay: every policy beside a lower bound.

Scores drift: an interval's are correlated with the last one's (normal, first order autoregressive), and each
policy starts an interval from where it left the samples in the last one. The first partition is stripes
(blocks for blocks), the first repartition is not counted: it is easier than those that follow. A round is an
interval; its seconds are those of the partition.

Beside each policy stands what no partition can go below: the fewest samples that must move in the last
interval, from where this policy's samples lie, for any partition with as many samples per worker whose
workers are within the same Kolmogorov-Smirnov distance of all scores.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from _harness import WARM, check, check_close, compare, options_parser, rounds, run_main
from _report import Report

from pyimportance import Partition, Scores, partition
from pyimportance.order.policies.task import Task
from pyimportance.order.policies.tolerance import fewest
from pyimportance.threads import default_threads

WORKERS = (4, 16, 64, 256)
CORRELATIONS = (0.0, 0.5, 0.9, 0.99)
KS = (1, 4, 16, 64, 256)
TOLERANCES = (0.001, 0.002, 0.005, 0.01, 0.02)
POLICIES: dict[str, dict[str, Any]] = {
    "stripes": {"policy": "stripes"},
    "blocks": {"policy": "blocks"},
    **{f"sticky(k={k})": {"policy": "sticky", "k": k} for k in KS},
    **{f"sticky(tolerance={e})": {"policy": "sticky", "tolerance": e} for e in TOLERANCES},
}


def drifting(n: int, intervals: int, correlation: float) -> list[Scores]:
    rng = np.random.default_rng(0)
    now = rng.standard_normal(n)
    scores = [now]
    for _ in range(intervals):
        now = correlation * now + np.sqrt(1 - correlation**2) * rng.standard_normal(n)
        scores.append(now)
    return [Scores(values.astype(np.float32)) for values in scores]


def bench_case(report: Report, n: int, workers: int, correlation: float, turns: int) -> None:
    scores = drifting(n, turns + WARM, correlation)
    orders = [np.argsort(-s.values, kind="stable") for s in scores]
    held: dict[str, Partition] = {}
    for name in POLICIES:
        start = "blocks" if name == "blocks" else "stripes"
        held[name] = partition(scores[0], workers, policy=start)
    moved: dict[str, list[float]] = {name: [] for name in POLICIES}
    notes: dict[str, str] = {}

    def by(options: dict[str, Any], name: str) -> Callable[[int], Partition]:
        return lambda turn: partition(scores[turn + 1], workers, current=held[name], **options)

    def examine(name: str, turn: int, answer: Partition) -> None:
        before, held[name] = held[name].worker_of(np.arange(n)), answer
        order = orders[turn + 1]
        owners = owners_by_rank(answer, order, name)
        distance = largest_distance(owners, scores[turn + 1].values[order], workers)
        check_rule(name, owners, workers, distance)
        changed = owners != before[order]
        moved[name].append(float(changed.mean()))
        if turn == turns + WARM - 1:
            task = Task(order, workers, current=before[order], values=scores[turn + 1].values[order])
            bound = fewest(task, distance)
            check(bound <= changed.sum(), f"{name}: {changed.sum()} moved, less than the bound {bound}")
            notes[name] = f"KS {distance:.5f}; {changed.mean():.3%}, at least {bound / n:.3%} for that"

    contenders = {name: by(options, name) for name, options in POLICIES.items()}
    seconds = compare(contenders, turns, examine)
    report.add(
        f"{workers} workers, correlation {correlation}",
        seconds,
        items=n,
        input_bytes=4 * n,
        threads=default_threads(),
        fractions={name: fractions[WARM:] for name, fractions in moved.items()},
        notes=notes,
    )


def owners_by_rank(answer: Partition, order: npt.NDArray[np.int64], name: str) -> npt.NDArray[np.int32]:
    """Who owns the sample at each rank, by the partition's arrays alone."""
    check_close(f"{name}: ids", np.sort(answer.order), np.arange(order.size))
    counts = answer.counts.sum(1)
    check(np.ptp(counts) <= 1, f"{name}: workers own {counts.min()} to {counts.max()} samples")
    owners = np.empty(order.size, np.int32)
    owners[answer.order] = np.repeat(np.arange(answer.workers, dtype=np.int32), counts)
    return owners[order]


def largest_distance(owners: npt.NDArray[np.int32], values: npt.NDArray[np.float32], workers: int) -> float:
    """The Kolmogorov-Smirnov distance of the worker that is farthest from all, by its definition."""
    by_worker = np.argsort(owners, kind="stable")
    below, upto = (np.searchsorted(-values, -values[by_worker], side) for side in ("left", "right"))
    counts = np.bincount(owners, minlength=workers)
    own, start = np.repeat(counts, counts), np.repeat(np.cumsum(counts) - counts, counts)
    point = (
        owners[by_worker].astype(np.int64) * values.size + below
    )  # rises; equal where worker and score are
    gaps = [
        (np.searchsorted(point, point, "left") - start) / own - below / values.size,
        (np.searchsorted(point, point, "right") - start) / own - upto / values.size,
    ]
    return float(np.abs(gaps).max())


def check_rule(name: str, owners: npt.NDArray[np.int32], workers: int, distance: float) -> None:
    """What the policy settles: shares of strata, or the distance."""
    options = POLICIES[name]
    if "tolerance" in options:
        allowed = max(options["tolerance"], workers / owners.size * 1.001) + 1e-9
        check(distance <= allowed, f"{name}: a worker's distance is {distance}")
    elif name != "blocks":
        k = options.get("k", 1)
        whole = owners[: owners.size // (k * workers) * k * workers].reshape(-1, k * workers)
        share = np.repeat(np.arange(workers), k)
        check_close(f"{name}: owners of a stratum", np.sort(whole), np.broadcast_to(share, whole.shape))


def run(options: argparse.Namespace) -> Report:
    n = 20_000 if options.quick else options.samples
    turns = rounds(options, 5)
    report = Report(
        "movement",
        item="sample",
        about="MB in: the scores. % moved: of the samples, from one worker to another, by interval. Notes: "
        "of the last interval, the largest distance of a worker's scores to all, % moved, its lower bound.",
        fraction_of="% moved",
    )
    for workers in WORKERS[:2] if options.quick else WORKERS:
        for correlation in CORRELATIONS[2:3] if options.quick else CORRELATIONS:
            bench_case(report, n, workers, correlation, turns)
    return report


def main(argv: Sequence[str] | None = None) -> int:
    parser = options_parser("what moves from interval to interval by policy, beside a lower bound")
    parser.add_argument("--samples", type=int, default=1_000_000, metavar="N", help="1,000,000 by default")
    return run_main(run, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
