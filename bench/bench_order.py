"""argsort beside numpy.argsort and torch.sort; partition and repartition by policy, beside NumPy's stripes.

Inputs rotate over twice the last-level cache. Every answer is checked: a stable sort has one right answer,
and a policy says who must own what. The more values, the fewer rounds: 10^8 float32 ones take NumPy's stable
sort half a minute a round, so there are three, and no other dtypes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from _harness import check, check_close, compare, options_parser, rounds, run_main
from _machine import last_level_cache, touch
from _report import Report

from pyimportance import Partition, Scores, argsort, partition
from pyimportance.threads import default_threads

DTYPES = ("float32", "float64", "int64")
WORKERS = (4, 256)
POLICIES = ("stripes", "random", "blocks", "sticky")
K = 16  # samples per worker and stratum, of sticky
BY_NUMPY = "NumPy stripes, nobody holds anything"


def values_of(dtype: str, n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if dtype == "int64":
        return rng.integers(-(2**62), 2**62, n)
    return np.exp(rng.standard_normal(n, np.float32)).astype(dtype)  # skewed, as losses are, with ties


def rotating(dtype: str, n: int) -> list[np.ndarray]:
    count = 2 * last_level_cache() // (n * np.dtype(dtype).itemsize) + 1
    return [values_of(dtype, n, seed) for seed in range(count)]


def bench_argsort(report: Report, n: int, dtype: str, turns: int) -> None:
    inputs = rotating(dtype, n)
    right: dict[int, np.ndarray] = {}

    def by_torch(turn: int) -> np.ndarray:
        return torch.sort(torch.from_numpy(inputs[turn % len(inputs)]), stable=True).indices.numpy()

    contenders: dict[str, Callable[[int], Any]] = {
        "pyimportance": lambda turn: argsort(inputs[turn % len(inputs)], descending=False),
        "pyimportance, 1 thread": lambda turn: argsort(
            inputs[turn % len(inputs)], descending=False, threads=1
        ),
        "numpy stable": lambda turn: np.argsort(inputs[turn % len(inputs)], kind="stable"),
        "numpy default, unstable": lambda turn: np.argsort(inputs[turn % len(inputs)]),
        "torch.sort stable": by_torch,
    }

    def examine(name: str, turn: int, order: np.ndarray) -> None:
        at, values = turn % len(inputs), inputs[turn % len(inputs)]
        if "unstable" in name:
            check_close(f"{name}, {dtype}, values", values[order], values[right[at]])
        elif at in right:
            check_close(f"{name}, {dtype}, positions", order, right[at])
        else:
            check(is_stable_order(order, values), f"{name}, {dtype}, positions: not in stable order")
            right[at] = order

    seconds = compare(contenders, turns, examine, before=lambda _: touch(24 * n))
    threads = dict.fromkeys(seconds, 1)
    threads |= {"pyimportance": default_threads(), "torch.sort stable": torch.get_num_threads()}
    report.add(
        f"argsort {dtype} {n:.0e}",
        seconds,
        items=n,
        input_bytes=inputs[0].nbytes,
        threads=threads,
        written=dict.fromkeys(seconds, 8 * n),
    )


def is_stable_order(order: np.ndarray, values: np.ndarray) -> bool:
    """Whether values rise, and positions where values are equal: no position is there twice then."""
    if order.shape != values.shape or order.min() < 0 or order.max() >= order.size:
        return False
    taken = values[order]
    same, rises = taken[1:] == taken[:-1], taken[1:] > taken[:-1]
    return bool((rises | (same & (order[1:] > order[:-1]))).all())


def bench_partition(report: Report, n: int, workers: int, turns: int) -> None:
    before = Scores(np.random.default_rng(0).random(n, np.float32))
    held = {policy: partition(before, workers, policy=policy) for policy in POLICIES}
    inputs = [Scores(values) for values in rotating("float32", n)]
    moved: dict[str, str] = {}

    def by_numpy(turn: int) -> np.ndarray:
        order = np.argsort(-inputs[turn % len(inputs)].values, kind="stable")
        return np.concatenate([order[worker::workers] for worker in range(workers)])

    def by_policy(policy: str) -> Callable[[int], Partition]:
        current = held[policy]
        return lambda turn: partition(inputs[turn % len(inputs)], workers, policy=policy, current=current)

    def examine(name: str, turn: int, answer: Any) -> None:
        order = np.argsort(-inputs[turn % len(inputs)].values, kind="stable")
        if name == BY_NUMPY:
            check_close(name, answer, np.concatenate([order[w::workers] for w in range(workers)]))
            return
        check_partition(answer, order, workers, name)
        moved[name] = f"{answer.moved_from(held[name]).moved_samples / n:.1%} of samples move"

    contenders = {**{policy: by_policy(policy) for policy in POLICIES}, BY_NUMPY: by_numpy}
    seconds = compare(contenders, turns, examine)
    report.add(
        f"partition {n:.0e}, {workers} workers",
        seconds,
        items=n,
        input_bytes=4 * n,
        threads=dict.fromkeys(seconds, default_threads()) | {BY_NUMPY: 1},
        written=dict.fromkeys(seconds, 8 * n),
        notes=moved,
    )


def check_partition(answer: Partition, order: np.ndarray, workers: int, policy: str) -> None:
    """Everything that the policy settles; ``order``: the sample ids by rank."""
    n = order.size
    check_close(f"{policy}: ids", np.sort(answer.order), np.arange(n))
    rank = np.empty(n, np.int64)
    rank[order] = np.arange(n)
    falls = np.flatnonzero(np.diff(rank[answer.order]) < 0) + 1
    check(np.isin(falls, answer.offsets).all(), f"{policy}: a worker's samples are not by importance")
    counts = answer.counts.sum(1)
    check(np.ptp(counts) <= 1, f"{policy}: workers own {counts.min()} to {counts.max()} samples")
    owners = np.empty(n, np.int64)
    owners[answer.order] = np.repeat(np.arange(workers), counts)
    by_rank = owners[order]
    if policy == "blocks":
        starts = np.arange(workers + 1) * n // workers
        check_close("blocks: owners", by_rank, np.repeat(by_rank[starts[:-1]], np.diff(starts)))
    elif policy in ("stripes", "sticky"):
        stratum = workers * (K if policy == "sticky" else 1)
        strata = by_rank[: n // stratum * stratum].reshape(-1, stratum)
        share = np.repeat(np.arange(workers), stratum // workers)
        check_close(f"{policy}: owners of a stratum", np.sort(strata), np.broadcast_to(share, strata.shape))
        if policy == "stripes":
            check_close("stripes: owners", strata, np.broadcast_to(strata[0], strata.shape))


def run(options: argparse.Namespace) -> Report:
    turns = rounds(options, 11)
    sizes = [100_000] if options.quick else [1_000_000, 10_000_000]
    report = Report(
        "order",
        item="sample",
        about="MB in: the values. MB written: the positions, or sample ids by worker. Inputs rotate over "
        f"{2 * last_level_cache() / 1e6:.0f} MB or more, twice the last-level cache. Before each sort "
        "24 bytes a value are written and freed, so that none waits for memory that a host has taken.",
    )
    for n in sizes:
        for dtype in DTYPES:
            bench_argsort(report, n, dtype, rounds(options, 5 if n > 1_000_000 else 11))
    if options.large:
        bench_argsort(report, 100_000_000, "float32", rounds(options, 2))
    for workers in WORKERS:
        bench_partition(report, sizes[0], workers, turns)
    return report


def main(argv: Sequence[str] | None = None) -> int:
    parser = options_parser("argsort and partition, beside NumPy and torch")
    parser.add_argument(
        "--large", action="store_true", help="also 1e8 float32 values (6 GB of memory, minutes)"
    )
    return run_main(run, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
