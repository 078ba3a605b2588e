"""Importance-grouped shards from a WebDataset source: write_shards beside webdataset's reader and writer.

Both read the source and write each sample to its worker's tars, with the same plain headers (mtime 0), and
sync the tars to disk. Ours also puts the samples in order of importance and sums every file; webdataset, a
stream, keeps the source's order. "index, score, shard" are the commands of that name, one after the other in
this process, from dynamics that were saved; the other rows call the library.

All samples that each of them wrote, in every round, are read by webdataset and compared, keys and bytes, with
what it reads from the source: of CIFAR-10's 50,000 training images as well, where PYIMPORTANCE_TEST_DATA
names a folder with cifar10/train-*.tar.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from _harness import check, compare, options_parser, rounds, run_main
from _machine import bytes_read
from _report import Report
from _tars import make_source, read, samples_in
from webdataset import TarWriter

from pyimportance import Scores, Tracker, index, partition, repartition, score, write_shards
from pyimportance.cli.app import main as pyimportance
from pyimportance.io.meter import Meter
from pyimportance.shards import copy
from pyimportance.shards.sources import expand

WORKERS = 4
OURS, COMMANDS, THEIRS = "index + write_shards", "index, score, shard", "webdataset read + TarWriter"
INDEX, MOVE, VERIFY = "of which index", "repartition (3 of 4 move)", "verify"


def command(*arguments: object) -> None:
    """A command of pyimportance, in this process."""
    try:
        with redirect_stdout(io.StringIO()):
            pyimportance([str(argument) for argument in arguments])
    except SystemExit as ended:
        check(not ended.code, f"pyimportance {arguments[0]} ended with status {ended.code}")


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def stripes(values: np.ndarray) -> list[np.ndarray]:
    """Each worker's samples, the most important first, by NumPy."""
    order = np.argsort(-values, kind="stable")
    return [order[worker::WORKERS] for worker in range(WORKERS)]


class Case:
    """A source with scores, what the contenders do with it, and whether they did it right."""

    def __init__(self, source: list[str], folder: Path) -> None:
        self.source, self.folder = source, folder
        self.right = list(samples_in(source))
        self.found = index(source)
        samples = len(self.right)
        rng = np.random.default_rng(0)
        tracker, targets = Tracker(samples), np.zeros(samples, np.int64)
        for _ in range(2):
            tracker.observe(np.arange(samples), rng.standard_normal((samples, 10), np.float32), targets)
            tracker.end_epoch()
        tracker.dynamics().save(folder / "dynamics.npz")
        scores, others = score(tracker.dynamics()), Scores(rng.random(samples, np.float32))
        self.parts, self.following = partition(scores, WORKERS), partition(others, WORKERS)
        self.owned, self.owned_next = stripes(scores.values), stripes(others.values)
        self.worker_of = np.empty(samples, np.int64)
        for worker, ids in enumerate(self.owned):
            self.worker_of[ids] = worker
        self.sets: dict[int, Any] = {}
        self.read: dict[str, int | None] = {}  # bytes, of the last round
        self.written: dict[str, int | None] = {}

    def contenders(self) -> dict[str, Callable[[int], Any]]:
        return {
            OURS: self.write,
            COMMANDS: self.counted_by_kernel(COMMANDS, self.write_by_commands),
            THEIRS: self.counted_by_kernel(THEIRS, self.write_by_webdataset),
            INDEX: self.index,
            MOVE: self.move,
            VERIFY: self.verify,
        }

    def write(self, turn: int) -> None:
        meters = [Meter() for _ in range(WORKERS + 1)]
        found = index(self.source, meter=meters[-1])
        self.sets[turn] = write_shards(found, self.parts, self.folder_of(OURS, turn), meters=meters[:-1])
        self.count(OURS, *meters)

    def write_by_commands(self, turn: int) -> None:
        folder = self.folder_of(COMMANDS, turn)
        folder.mkdir()
        command("index", "::".join(self.source), "-o", folder / "index.arrow")
        scored = folder / "scores.parquet"
        command("score", self.folder / "dynamics.npz", "--index", folder / "index.arrow", "-o", scored)
        command("shard", folder / "index.arrow", folder / "shards", "--scores", scored, "--workers", WORKERS)

    def write_by_webdataset(self, turn: int) -> None:
        """Every sample to the tar of its worker, in the order in which they come."""
        out = self.folder_of(THEIRS, turn)
        out.mkdir()
        names = [str(out / f"worker-{w:03d}.tar") for w in range(WORKERS)]
        with ExitStack() as stack:
            writers = [stack.enter_context(TarWriter(name, encoder=False, mtime=0)) for name in names]
            samples = (sample for tar in self.source for sample in read(tar))
            for worker, sample in zip(self.worker_of.tolist(), samples, strict=True):
                writers[worker].write(sample)
        for name in names:
            with open(name, "rb") as file:
                os.fsync(file.fileno())

    def index(self, turn: int) -> Any:
        meter = Meter()
        found = index(self.source, meter=meter)
        self.count(INDEX, meter)
        return found

    def move(self, turn: int) -> Any:
        meters = [Meter() for _ in range(WORKERS)]
        moved = repartition(self.sets[turn], self.following, meters=meters)
        self.count(MOVE, *meters)
        return moved

    def verify(self, turn: int) -> Any:
        meter = Meter()
        report = self.sets[turn].verify(meter=meter)
        self.count(VERIFY, meter)
        return report

    def count(self, name: str, *meters: Meter) -> None:
        self.read[name] = sum(int(meter.counts[:, 0].sum()) for meter in meters)

    def counted_by_kernel(self, name: str, call: Callable[[int], None]) -> Callable[[int], None]:
        def counted(turn: int) -> None:
            before = bytes_read()
            call(turn)
            self.read[name] = None if before is None else (bytes_read() or 0) - before

        return counted

    def folder_of(self, name: str, turn: int) -> Path:
        return self.folder / f"{(OURS, COMMANDS, THEIRS).index(name)}-{turn}"

    def examine(self, name: str, turn: int, answer: Any) -> None:
        """Raises WrongAnswerError unless the contender wrote all samples, and each to whom it belongs."""
        if name in (OURS, COMMANDS, THEIRS):
            folder = self.folder_of(name, turn)
            self.written[name] = size_of(folder)
            for worker, ids in enumerate(self.owned):
                tars = sorted(
                    [*folder.glob(f"**/worker-{worker:03d}/*.tar"), *folder.glob(f"*-{worker:03d}.tar")]
                )
                wanted = np.sort(ids) if name == THEIRS else ids
                self.check_samples(f"{name}, worker {worker}", tars, wanted)
        elif name == INDEX:
            keys = [key for key, _ in self.right]
            check(answer.keys.to_pylist() == keys, f"{name}: other keys than webdataset finds")
            payload = sum(len(data) for _, parts in self.right for data in parts.values())
            check(int(answer.part_size.sum()) == payload, f"{name}: other sizes than webdataset finds")
        elif name == MOVE:
            self.check_moved(answer)
            self.written[name] = size_of(Path(answer.root)) - (self.written[OURS] or 0)
        else:
            self.check_verified(self.sets.pop(turn), answer)
            for used in self.folder.glob(f"*-{turn}"):
                shutil.rmtree(used)

    def check_samples(self, what: str, tars: Sequence[Path], ids: np.ndarray) -> None:
        """The tars hold these samples of the source in this order, as webdataset reads both."""
        got = samples_in(tars)
        for sample in ids.tolist():
            key, parts = next(got, ("none", {}))
            wanted = self.right[sample]
            check(key == wanted[0], f"{what}: sample {key} where {wanted[0]} belongs")
            check(parts == wanted[1], f"{what}: sample {key} has other bytes than in the source")
        check(next(got, None) is None, f"{what}: more than its {len(ids)} samples")

    def check_moved(self, shards: Any) -> None:
        """A delta generation is read through its indexes: old tars still hold what has moved away."""
        for worker in range(WORKERS):
            found = shards.index(worker)
            same = np.array_equal(np.sort(found.ids), np.sort(self.owned_next[worker]))
            check(same, f"{MOVE}: worker {worker} has other samples")
            with ExitStack() as stack:
                files = [stack.enter_context(open(name, "rb")) for name in found.files]
                for row, sample in enumerate(found.ids.tolist()):
                    key, parts = found.key(row), {}
                    for p in range(found.part_start[row], found.part_start[row + 1]):
                        file = files[found.file[row]]
                        file.seek(found.part_offset[p])
                        parts[found.extensions[found.part_ext[p]]] = file.read(found.part_size[p])
                    check((key, parts) == self.right[sample], f"{MOVE}: sample {key} is not as in the source")

    def check_verified(self, shards: Any, answer: Any) -> None:
        size, read = sum(shard.nbytes for shard in shards.shards), self.read[VERIFY] or 0
        check(answer.ok, f"verify: {answer}")
        check((answer.samples, answer.nbytes) == (len(self.right), size), f"verify: has seen {answer}")
        check(read >= size, f"verify: read {read} bytes of {size}")


def bench_case(report: Report, name: str, source: list[str], folder: Path, turns: int) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        case = Case(source, Path(scratch))
        seconds = compare(case.contenders(), turns, case.examine)
    found = case.found
    nbytes, payload = int(found.nbytes.sum()), int(found.part_size.sum())
    moved = int(found.nbytes[case.worker_of != case.following.worker_of(found.ids)].sum())
    report.add(
        f"{name}: {len(case.right):,} samples",
        seconds,
        items=len(case.right),
        input_bytes=dict.fromkeys(seconds, nbytes)
        | {INDEX: nbytes - payload, MOVE: moved, VERIFY: case.written[OURS] or 0},
        threads=dict.fromkeys(seconds, copy._THREADS) | {THEIRS: 1, VERIFY: min(8, os.cpu_count() or 1)},
        read=case.read,
        written=case.written,
    )


def run(options: argparse.Namespace) -> Report:
    report = Report(
        "shards",
        item="sample",
        about="MB in, declared: the samples in the tars (headers, payloads, padding); of index, headers and "
        "padding alone; of repartition, what changes workers; of verify, the files. MB read, counted: by the "
        "Meter; of the commands and of webdataset, by the kernel (rchar). MB written: sizes of the files, "
        "indexes and manifests included. The source is in the page cache; what is written is synced.",
    )
    turns, data = rounds(options, 7), options.data
    cases = [(500, 885), (50, 50_000)] if options.quick else [(20_000, 885), (2_000, 100_000)]
    if data is None and not options.quick and "PYIMPORTANCE_TEST_DATA" in os.environ:
        data = str(Path(os.environ["PYIMPORTANCE_TEST_DATA"]) / "cifar10" / "train-*.tar")
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        for samples, payload in cases:
            source = make_source(Path(folder) / f"source-{payload}", samples, payload)
            bench_case(report, f"{payload:,} bytes each", source, Path(folder), turns)
        if data is not None:
            name = "CIFAR-10's training images" if options.data is None else "--data"
            bench_case(report, name, expand(data), Path(folder), turns)
    return report


def main(argv: Sequence[str] | None = None) -> int:
    parser = options_parser("write_shards, repartition and verify, beside webdataset")
    parser.add_argument("--data", help="tars to use too: a folder or pattern; no two samples share a key")
    parser.add_argument("--scratch", help="where to write (default: the system's temporary directory)")
    return run_main(run, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
