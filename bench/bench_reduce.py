"""reduce: a history [100 epochs, 1,000,000 samples] to one column per statistic, beside NumPy and numba.

Mean and variance of p_y alone, as NumPy's mean and var; and with `correct` besides: mean, variance, Chang's
confidence-interval term, how often forgotten and when first learned, which NumPy needs a pass each for. numba
is written as one would who knows the machine: one pass, a block of samples' sums in the first-level cache,
about the sample's first number, on all threads. All inputs are several times the last-level cache; all
answers of all rounds are checked. NumPy has one thread in every case: what we are faster by is what the case
with one thread says.

"sum" is what memory gives: it adds all numbers up and keeps nothing, as STREAM would.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

import numba
import numpy as np
import numpy.typing as npt
from _harness import check_close, compare, options_parser, rounds, run_main, threads
from _memory import add_up
from _report import Report

from pyimportance import _C, Dynamics, score
from pyimportance.score import ranges, state
from pyimportance.threads import default_threads

Array = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Answer = dict[str, npt.NDArray[np.float64]]

BLOCK = 512  # samples


def of_numpy(p: Array, correct: Bools | None) -> Answer:
    """In float32, as NumPy reduces; its float64 mode converts a copy and is slower."""
    found: dict[str, npt.NDArray[np.floating]] = {"mean": p.mean(0), "variance": p.var(0)}
    if correct is not None:
        v = found["variance"]
        found["interval"] = np.sqrt(v + v * v / (len(p) - 1))
        found["forgotten"] = (correct[:-1] & ~correct[1:]).sum(0)
        found["first_learned"] = np.where(correct.any(0), correct.argmax(0), 0)
    return found  # type: ignore[return-value]


@numba.njit(parallel=True, fastmath={"contract"})
def moments(p, mean, variance):  # type: ignore[no-untyped-def]
    epochs, samples = p.shape
    for b in numba.prange((samples + BLOCK - 1) // BLOCK):
        begin, n = b * BLOCK, min(BLOCK, samples - b * BLOCK)
        first, total, squares = p[0, begin : begin + n].astype(np.float64), np.zeros(n), np.zeros(n)
        for e in range(epochs):
            row = p[e, begin : begin + n]
            for i in range(n):
                d = row[i] - first[i]
                total[i] += d
                squares[i] += d * d
        for i in range(n):
            mean[begin + i] = first[i] + total[i] / epochs
            variance[begin + i] = max(squares[i] - total[i] * total[i] / epochs, 0.0) / epochs


@numba.njit(parallel=True)
def events(correct, forgotten, first_learned):  # type: ignore[no-untyped-def]
    epochs, samples = correct.shape
    for b in numba.prange((samples + BLOCK - 1) // BLOCK):
        begin, n = b * BLOCK, min(BLOCK, samples - b * BLOCK)
        lost, late = np.zeros(n, np.uint8), np.zeros(n, np.uint8)
        learned, last = np.zeros(n, np.uint8), np.zeros(n, np.uint8)
        for e in range(epochs):  # at most 255 of them
            row = correct[e, begin : begin + n]
            for i in range(n):
                right = np.uint8(row[i])
                lost[i] += last[i] & (right ^ np.uint8(1))
                learned[i] |= right
                late[i] += learned[i] ^ np.uint8(1)
                last[i] = right
        for i in range(n):
            forgotten[begin + i] = lost[i]
            first_learned[begin + i] = late[i] if learned[i] else 0


def of_numba(p: Array, correct: Bools | None) -> Answer:
    mean, variance = np.empty(p.shape[1]), np.empty(p.shape[1])
    moments(p, mean, variance)
    found = {"mean": mean, "variance": variance}
    if correct is not None:
        found["interval"] = np.sqrt(variance + variance * variance / (len(p) - 1))
        forgotten, first = np.empty(p.shape[1], np.int32), np.empty(p.shape[1], np.int32)
        events(correct.view(np.uint8), forgotten, first)
        found |= {"forgotten": forgotten, "first_learned": first}  # type: ignore[dict-item]
    return found


def of_reduce(p: Array, correct: Bools | None) -> Answer:
    """The native call alone, into fresh columns; `Dynamics.from_history` checks those once more."""
    history: dict[str, npt.NDArray[np.generic]] = {"p_true": p}
    history |= {} if correct is None else {"correct": correct}
    columns = state.zeros(p.shape[1], tuple(history))
    epochs, samples = p.shape
    good = _C.reduce(columns, history, epochs, samples, ranges.EL2N_MAX, default_threads())
    variance = columns["p_m2"] / len(p)
    found = {"mean": columns["p_mean"], "variance": variance, "refused": np.array([not good], float)}
    if correct is not None:
        found["interval"] = np.sqrt(variance + variance * variance / (len(p) - 1))
        found |= {name: columns[name] for name in ("forgotten", "first_learned")}
    return found


def of_dynamics(p: Array, correct: Bools | None) -> Answer:
    """What a user calls."""
    dynamics = Dynamics.from_history(p_true=p, correct=correct)
    found = {"mean": dynamics.mean("p_true"), "variance": dynamics.variance("p_true", 0)}
    if correct is not None:
        found["interval"] = score(dynamics, "prediction_variance").values.astype(np.float64)
        found |= {name: getattr(dynamics, name) for name in ("forgotten", "first_learned")}
    return found


def of_sum(p: Array, correct: Bools | None) -> Answer:
    """All bytes of the inputs, as integers, so that any order of adding is the right one."""
    whole = [a.reshape(-1).view(np.int64) for a in (p, correct) if a is not None]
    return {"sum": np.array([add_up(a) for a in whole])}


CONTENDERS: dict[str, Callable[[Array, Bools | None], Answer]] = {
    "reduce": of_reduce,
    "Dynamics.from_history": of_dynamics,
    "NumPy": of_numpy,
    "numba": of_numba,
    "sum": of_sum,
}


def oracle(p: Array, correct: Bools | None) -> Answer:
    """In float64, two passes, a stretch of samples at a time."""
    parts: list[Answer] = []
    for start in range(0, p.shape[1], 1 << 16):
        part = slice(start, start + (1 << 16))
        found = of_numpy(p[:, part].astype(np.float64), None if correct is None else correct[:, part])
        parts.append(found)
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    whole["sum"] = np.array([a.reshape(-1).view(np.int64).sum() for a in (p, correct) if a is not None])
    return whole | {"refused": np.zeros(1)}


def bench_case(report: Report, p: Array, correct: Bools | None, turns: int, count: int) -> None:
    right = oracle(p, correct)

    def examine(name: str, turn: int, answer: Answer) -> None:
        single = name == "NumPy"  # it reduces in float32
        for what, got in answer.items():
            rtol, atol = (1e-3, 1e-6) if single else (1e-6, 1e-12)
            if what in ("forgotten", "first_learned", "sum", "refused"):
                rtol = atol = 0
            check_close(f"{name}, round {turn}, {what}", got, right[what], rtol=rtol, atol=atol)

    calls = {name: (lambda _, call=call: call(p, correct)) for name, call in CONTENDERS.items()}
    with threads(count):
        seconds = compare(calls, turns, examine)
    extra = "" if correct is None else " and bool"
    report.add(
        f"[{p.shape[0]}, {p.shape[1]}] float32{extra}",
        seconds,
        items=p.size,
        input_bytes=p.nbytes + (0 if correct is None else correct.nbytes),
        threads={name: 1 if name == "NumPy" else count for name in seconds},
        notes={} if count == 1 else {"NumPy": f"1 thread beside {count}; compare in the case with one"},
        fractions={
            name: [s / t for s, t in zip(seconds["sum"], taken, strict=True)]
            for name, taken in seconds.items()
        },
    )


def run(options: argparse.Namespace) -> Report:
    rng = np.random.default_rng(0)
    epochs, samples = 100, 20_000 if options.quick else 1_000_000
    p = rng.random((epochs, samples), dtype=np.float32)
    correct = rng.random((epochs, samples), dtype=np.float32) < 0.5
    report = Report(
        "reduce",
        item="number",
        about="MB in: the arrays, each read once by all but NumPy.",
        fraction_of="% of sum's GB/s",
    )
    for events_too in (None, correct):
        for count in sorted({1, len(os.sched_getaffinity(0))}):
            bench_case(report, p, events_too, rounds(options, 11), count)
    return report


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(run, options_parser("reduce a history beside NumPy and numba"), argv)


if __name__ == "__main__":
    sys.exit(main())
