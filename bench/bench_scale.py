"""argsort and partition of a billion memory-mapped scores, beside a tenth of them: how time and memory grow.

"x first" is the time over that of the tenth, in the same round: 10 would be linear. The notes have the peak
of the process's resident memory during the calls, all that it holds counted: the interpreter, the mapped
scores as far as they were read, the answer. Every answer is checked, in chunks: the first order by its
scores, which takes a gather of them all, every later one by being that order, to its digest.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from _harness import check, compare, options_parser, rounds, run_main
from _machine import peak_memory, reset_peak_memory, touch
from _report import Report

from pyimportance import Partition, Scores, argsort, partition
from pyimportance.threads import default_threads

CHUNK = 1 << 22
WORKERS = 4
Values = npt.NDArray[np.float32]


def write_scores(path: Path, n: int) -> None:
    """Skewed, as losses are, with ties."""
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        for start in range(0, n, CHUNK):
            file.write(np.exp(rng.standard_normal(min(CHUNK, n - start), np.float32)).tobytes())


def bench_case(
    report: Report,
    case: str,
    inputs: dict[str, Values],
    call: Callable[[Values], Any],
    examine: Callable[[str, Any], None],
    *,
    turns: int,
) -> None:
    peaks: dict[str, int] = dict.fromkeys(inputs, 0)

    def by(values: Values) -> Callable[[int], Any]:
        return lambda turn: call(values)

    def before(name: str) -> None:
        touch(16 * inputs[name].size)
        reset_peak_memory()

    def examined(name: str, turn: int, answer: Any) -> None:
        peaks[name] = max(peaks[name], peak_memory() or 0)
        examine(name, answer)

    seconds = compare({name: by(values) for name, values in inputs.items()}, turns, examined, before=before)
    report.add(
        case,
        seconds,
        items={name: values.size for name, values in inputs.items()},
        input_bytes={name: values.nbytes for name, values in inputs.items()},
        threads=default_threads(),
        written={name: 8 * values.size for name, values in inputs.items()},
        notes={name: f"peak memory {peak / 1e9:.2f} GB" for name, peak in peaks.items() if peak},
    )


class Ranks:
    """The one right order of some scores, once it was found right: digests of it and of the scores in it."""

    def __init__(self, values: Values) -> None:
        self.values = values
        self._right: tuple[bytes, bytes] | None = None

    def check_argsort(self, order: npt.NDArray[np.int64]) -> None:
        def chunks() -> Iterator[npt.NDArray[np.int64]]:
            return (order[start : start + CHUNK] for start in range(0, order.size, CHUNK))

        if self._right is None:
            self._right = check_ranks(chunks(), self.values, "argsort")
        elif digest(chunks()) != self._right[0]:
            check_ranks(chunks(), self.values, "argsort")  # says where it is wrong
            check(False, "argsort: of equal arguments, another order than before")

    def check_partition(self, answer: Partition) -> None:
        """Stripes: the k-th sample of worker w is rank k * WORKERS + w."""
        if self._right is None or answer.values is None:
            check(False, "partition: there is no order to compare it with, or it has no scores")
            return
        n, counts = self.values.size, answer.counts.sum(axis=1)
        check(
            counts.tolist() == [(n + WORKERS - 1 - w) // WORKERS for w in range(WORKERS)],
            f"partition: workers own {counts.tolist()} of {n} samples",
        )
        if digest(by_rank(answer.order, answer.offsets)) != self._right[0]:
            check_ranks(by_rank(answer.order, answer.offsets), self.values, "partition")
            check(False, "partition: of equal arguments, another order than that of argsort")
        right = digest(by_rank(answer.values, answer.offsets)) == self._right[1]
        check(right, "partition: the scores are others than those of its samples")


def digest(chunks: Iterator[npt.NDArray[Any]]) -> bytes:
    found = hashlib.sha256()
    for chunk in chunks:
        found.update(chunk.data)
    return found.digest()


def by_rank(items: npt.NDArray[Any], offsets: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[Any]]:
    """What workers have in turn, dealt back, in chunks."""
    own = [items[offsets[w] : offsets[w + 1]] for w in range(WORKERS)]
    rows = CHUNK // WORKERS
    for start in range(0, own[0].size, rows):
        parts = [mine[start : start + rows] for mine in own]
        merged = np.empty((parts[0].size, WORKERS), items.dtype)
        for w, part in enumerate(parts):
            merged[: part.size, w] = part
        yield merged.ravel()[: sum(map(len, parts))]


def check_ranks(chunks: Iterator[npt.NDArray[np.int64]], values: Values, what: str) -> tuple[bytes, bytes]:
    """The highest score first, equal ones by their numbers, so that none is there twice: one order is so.

    Digests of that order, and of the scores in it.
    """
    order, scores = hashlib.sha256(), hashlib.sha256()
    last, last_id, done = np.float32(np.inf), -1, 0
    for ids in chunks:
        check(ids.min() >= 0, f"{what}: sample {ids.min()}")
        taken = values[ids]
        step = np.diff(taken, prepend=last)
        rises = np.diff(ids, prepend=last_id)
        in_order = (step < 0) | ((step == 0) & (rises > 0))
        check(in_order.all(), f"{what}: rank {done + int(in_order.argmin())} is out of order")
        last, last_id, done = taken[-1], int(ids[-1]), done + ids.size
        order.update(ids.data)
        scores.update(taken.data)
    check(done == values.size, f"{what}: {done} of {values.size} samples")
    return order.digest(), scores.digest()


def run(options: argparse.Namespace) -> Report:
    n, turns = (1_000_000 if options.quick else options.samples), rounds(options, 2)
    report = Report(
        "scale",
        item="sample",
        about="MB in: the scores, float32 in a memory-mapped file. MB written: the positions, or sample ids "
        "by worker. Notes: the peak of the process's resident memory, the mapped scores included.",
    )
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "scores"
        write_scores(path, n)
        whole = np.memmap(path, np.float32, "r")
        inputs = {f"{size:.0e} samples": whole[:size] for size in (n // 10, n)}
        ranks = {name: Ranks(values) for name, values in inputs.items()}
        bench_case(
            report,
            "argsort float32",
            inputs,
            argsort,
            lambda name, order: ranks[name].check_argsort(order),
            turns=turns,
        )
        bench_case(
            report,
            f"partition, stripes, {WORKERS} workers",
            inputs,
            lambda values: partition(Scores(values), WORKERS),
            lambda name, answer: ranks[name].check_partition(answer),
            turns=turns,
        )
    return report


def main(argv: Sequence[str] | None = None) -> int:
    parser = options_parser("argsort and partition of a billion scores, with their peak memory")
    parser.add_argument(
        "--samples", type=int, default=1_000_000_000, metavar="N", help="1e9 by default: 21 GB of memory"
    )
    parser.add_argument("--folder", metavar="DIR", help="for the scores, 4 bytes a sample (default: TMPDIR)")
    return run_main(run, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
