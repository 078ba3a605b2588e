"""argsort beside numpy.argsort and torch.sort; partition and repartition by policy.

Every answer is checked: a stable sort has one right answer, which all stable contenders must give.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from _harness import Report, Row, measure, options_parser, run_main

from pyimportance import Scores, argsort, partition

DTYPES = ("float32", "float64", "int64")
WORKERS = (4, 256)


def values_of(dtype: str, n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    if dtype == "int64":
        return rng.integers(-(2**62), 2**62, n)
    return np.exp(rng.normal(size=n)).astype(dtype)  # skewed, as losses are


def contenders(values: np.ndarray) -> dict[str, Callable[[], Any]]:
    def by_torch() -> np.ndarray:
        return torch.sort(torch.from_numpy(values), stable=True).indices.numpy()

    return {
        "pyimportance": lambda: argsort(values, descending=False),
        "pyimportance, 1 thread": lambda: argsort(values, descending=False, threads=1),
        "numpy stable": lambda: np.argsort(values, kind="stable"),
        "numpy default, unstable": lambda: np.argsort(values),
        "torch.sort stable": by_torch,
    }


def bench_argsort(report: Report, n: int, dtype: str, repeats: int) -> None:
    values = values_of(dtype, n)
    expected = argsort(values, descending=False)
    for name, call in contenders(values).items():
        timing, order = measure(call, repeats)
        if "unstable" in name:
            np.testing.assert_array_equal(values[order], values[expected])
        else:
            np.testing.assert_array_equal(order, expected)
        report.rows.append(Row(f"{dtype} {n:.0e}", name, timing, n, values.nbytes + expected.nbytes))


def bench_partition(report: Report, n: int, workers: int, repeats: int) -> None:
    before, after = (Scores(np.random.default_rng(seed).random(n, np.float32)) for seed in (0, 1))
    for policy in ("random", "stripes", "blocks", "sticky"):
        held = partition(before, workers, policy=policy)
        timing, result = measure(
            lambda p=policy, c=held: partition(after, workers, policy=p, current=c), repeats
        )
        assert np.ptp(result.counts.sum(axis=1)) <= 1
        assert result.num_samples == n
        moved = f"{result.moved_from(held).moved_fraction:.1%} of samples move"
        nbytes = after.values.nbytes + result.order.nbytes
        report.rows.append(Row(f"{workers} workers {n:.0e}", policy, timing, n, nbytes, moved))


def run(options: argparse.Namespace) -> Report:
    report = Report("order", item="sample", moved="values read once + positions written once")
    sizes = [100_000] if options.quick else [1_000_000, 10_000_000]
    if options.large:
        sizes.append(100_000_000)
    repeats = 2 if options.quick else options.repeats
    for n in sizes:
        for dtype in DTYPES:
            bench_argsort(report, n, dtype, repeats if n <= 1_000_000 else min(repeats, 3))
    for workers in WORKERS:
        bench_partition(report, sizes[0], workers, repeats)
    return report


def main(argv: Sequence[str] | None = None) -> int:
    parser = options_parser("argsort and partition, beside NumPy and torch")
    parser.add_argument("--large", action="store_true", help="also 1e8 values (8 GB of memory, minutes)")
    return run_main(run, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
