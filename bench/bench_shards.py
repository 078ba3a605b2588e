"""Importance-grouped shards from a WebDataset source: write_shards beside webdataset and cp.

All of them read the source and sync what they write. Ours puts the samples of 8 workers in 8 bins, in order
of importance, and sums every file; webdataset, a stream, writes each group to tars of its own (with the same
plain headers, mtime 0) in the source's order; cp copies the files as they are. "index, score, shard" are the
commands of that name, one after the other in this process, from dynamics that were saved; the other rows of
ours call the library. `index` stands beside a compiled loop that reads the headers and looks at their sizes
alone, `verify` beside reading and summing the files.

What each of them wrote is read by webdataset and compared, keys and bytes, with what it reads from the
source; of what comes out the same in another round, digests are compared. CIFAR-10's 50,000 training images
are a case as well where PYIMPORTANCE_TEST_DATA names a folder with cifar10/train-*.tar.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from _harness import check, compare, options_parser, rounds, run_main
from _headers import members_in
from _machine import bytes_read
from _regrouped import BINS, THREADS, WORKERS, Right, digest_of, files_in, groups, size_of
from _report import Report
from _tars import make_source, read
from webdataset import ShardWriter

from pyimportance import _C, Scores, Tracker, compact, index, partition, repartition, score, write_shards
from pyimportance.cli.app import main as pyimportance
from pyimportance.io.meter import Meter
from pyimportance.shards.pool import AT_ONCE
from pyimportance.shards.sources import expand

OURS, COMMANDS, ZSTD = "index + write_shards", "index, score, shard", "index + write_shards, zstd"
THEIRS, CP = "webdataset read + ShardWriter", "cp -r --reflink=never, sync"
INDEX, HEADERS = "of which index", "headers, by pread"
VERIFY, SUM = "verify", "read + CRC32C"
MOVE, COMPACT = "repartition (7 of 8 move)", "compact"
BESIDE = {OURS: CP, INDEX: HEADERS, VERIFY: SUM}


def command(*arguments: object) -> None:
    """A command of pyimportance, in this process."""
    try:
        with redirect_stdout(io.StringIO()):
            pyimportance([str(argument) for argument in arguments])
    except SystemExit as ended:
        check(not ended.code, f"pyimportance {arguments[0]} ended with status {ended.code}")


def run_quietly(*arguments: object) -> None:
    subprocess.run([str(argument) for argument in arguments], check=True, stdout=subprocess.DEVNULL)


class Case:
    """A source with scores, what the contenders do with it, and whether they did it right."""

    def __init__(self, source: list[str], folder: Path) -> None:
        self.source, self.folder = source, folder
        self.right = Right(source)
        self.found = index(source)
        samples = len(self.right.samples)
        rng = np.random.default_rng(0)
        tracker, targets = Tracker(samples), np.zeros(samples, np.int64)
        for _ in range(2):
            tracker.observe(np.arange(samples), rng.standard_normal((samples, 10), np.float32), targets)
            tracker.end_epoch()
        tracker.dynamics().save(folder / "dynamics.npz")
        scores, others = score(tracker.dynamics()), Scores(rng.random(samples, np.float32))
        self.parts = partition(scores, WORKERS, bins=BINS)
        self.following = partition(others, WORKERS, bins=BINS)
        self.groups, self.groups_next = groups(scores.values), groups(others.values)
        self.group_of = np.empty(samples, np.int64)
        for group, ids in enumerate(self.groups):
            self.group_of[ids] = group
        self.moving = self.parts.worker_of(self.found.ids) != self.following.worker_of(self.found.ids)
        self.sets: dict[str, Any] = {}
        self.read: dict[str, int | None] = {}  # bytes, of the last round
        self.written: dict[str, int | None] = {}

    def contenders(self) -> dict[str, Callable[[int], Any]]:
        return {
            OURS: self.write,
            CP: self.copy,
            COMMANDS: self.counted_by_kernel(COMMANDS, self.write_by_commands),
            THEIRS: self.counted_by_kernel(THEIRS, self.write_by_webdataset),
            ZSTD: self.write_compressed,
            INDEX: self.index,
            HEADERS: lambda _: members_in(self.source, AT_ONCE),
            VERIFY: self.verify,
            SUM: self.counted_by_kernel(SUM, self.sum),
            MOVE: self.move,
            COMPACT: self.compact,
        }

    def write(self, turn: int) -> None:
        self.sets[OURS] = self.write_counted(OURS)

    def write_compressed(self, turn: int) -> None:
        self.write_counted(ZSTD, compression="zstd")

    def write_counted(self, name: str, **options: Any) -> Any:
        meters = [Meter() for _ in range(WORKERS + 1)]
        found = index(self.source, meter=meters[-1])
        shards = write_shards(found, self.parts, self.folder_of(name), meters=meters[:-1], **options)
        self.count(name, *meters)
        return shards

    def write_by_commands(self, turn: int) -> None:
        folder = self.folder_of(COMMANDS)
        folder.mkdir()
        command("index", "::".join(self.source), "-o", folder / "index.arrow")
        scored = folder / "scores.parquet"
        command("score", self.folder / "dynamics.npz", "--index", folder / "index.arrow", "-o", scored)
        how = ("--scores", scored, "--workers", WORKERS, "--bins", BINS)
        command("shard", folder / "index.arrow", folder / "shards", *how)

    def write_by_webdataset(self, turn: int) -> None:
        """Every sample to the tars of its group, in the order in which they come."""
        out = self.folder_of(THEIRS)
        out.mkdir()
        with ExitStack() as stack:
            writers = []
            for group in range(WORKERS * BINS):
                name = str(out / f"group-{group:03d}-%06d.tar")
                options = {"maxsize": 256 << 20, "maxcount": 1 << 60, "encoder": False, "mtime": 0}
                writers.append(stack.enter_context(ShardWriter(name, verbose=0, **options)))
            samples = (sample for tar in self.source for sample in read(tar))
            for group, sample in zip(self.group_of.tolist(), samples, strict=True):
                writers[group].write(sample)
        run_quietly("sync", *files_in(out), out)

    def copy(self, turn: int) -> None:
        out = self.folder_of(CP)
        out.mkdir()
        run_quietly("cp", "-r", "--reflink=never", *self.source, out)
        run_quietly("sync", *files_in(out), out)

    def index(self, turn: int) -> Any:
        meter = Meter()
        found = index(self.source, meter=meter)
        self.count(INDEX, meter)
        return found

    def verify(self, turn: int) -> Any:
        meter = Meter()
        report = self.sets[OURS].verify(threads=THREADS, meter=meter)
        self.count(VERIFY, meter)
        return report

    def sum(self, turn: int) -> list[int]:
        def crc32c(path: Path) -> int:
            with open(path, "rb") as file:
                return _C.crc32c_of_file(file.fileno(), path.stat().st_size)[0]

        shards = self.sets[OURS]
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(crc32c, [Path(shards.path_of(s.path)) for s in shards.shards]))

    def move(self, turn: int) -> Any:
        meters = [Meter() for _ in range(WORKERS)]
        self.sets[MOVE] = repartition(self.sets[OURS], self.following, meters=meters)
        self.count(MOVE, *meters)
        return self.sets[MOVE]

    def compact(self, turn: int) -> Any:
        meters = [Meter() for _ in range(WORKERS)]
        made = compact(self.sets[MOVE], meters=meters)
        self.count(COMPACT, *meters)
        return made

    def count(self, name: str, *meters: Meter) -> None:
        self.read[name] = sum(int(meter.counts[:, 0].sum()) for meter in meters)

    def counted_by_kernel(self, name: str, call: Callable[[int], Any]) -> Callable[[int], Any]:
        def counted(turn: int) -> Any:
            before = bytes_read()
            answer = call(turn)
            self.read[name] = None if before is None else (bytes_read() or 0) - before
            return answer

        return counted

    def folder_of(self, name: str) -> Path:
        return self.folder / f"out-{(OURS, COMMANDS, ZSTD, THEIRS, CP).index(name)}"

    def examine(self, name: str, turn: int, answer: Any) -> None:
        """Raises WrongAnswerError unless the contender wrote all samples, and each to whom it belongs."""
        if name in {OURS, COMMANDS, ZSTD, THEIRS}:
            folder = self.folder_of(name)
            self.written[name] = size_of(folder)
            self.right.check_groups(name, folder, "g000000-", self.groups, in_order=name != THEIRS)
            if name == THEIRS:
                ours = size_of(self.folder_of(OURS), "*.tar")
                check(ours <= size_of(folder, "*.tar"), f"{OURS}: larger tars than those of {name}")
        elif name == CP:
            self.read[CP] = self.written[CP] = size_of(self.folder_of(CP))
            copies = files_in(self.folder_of(CP))
            check(digest_of(copies) == digest_of([Path(p) for p in self.source]), "cp: other bytes")
        elif name == INDEX:
            keys = [key for key, _ in self.right.samples]
            check(answer.keys.to_pylist() == keys, f"{name}: other keys than webdataset finds")
            payload = sum(len(data) for _, parts in self.right.samples for data in parts.values())
            check(int(answer.part_size.sum()) == payload, f"{name}: other sizes than webdataset finds")
        elif name == HEADERS:
            self.read[HEADERS] = 512 * answer
            check(answer == sum(len(parts) for _, parts in self.right.samples), f"{name}: other members")
        elif name == VERIFY:
            self.check_verified(self.sets[OURS], answer)
        elif name == SUM:
            check(answer == [s.crc32c for s in self.sets[OURS].shards], f"{name}: other sums")
        elif name == MOVE:
            self.right.check_moved(name, answer, self.groups_next)
            self.written[name] = size_of(Path(answer.root)) - (self.written[OURS] or 0)
        else:
            before = (self.written[OURS] or 0) + (self.written[MOVE] or 0)
            self.written[name] = size_of(Path(answer.root)) - before
            self.right.check_groups(name, Path(answer.root), "g000002-", self.groups_next)
            for used in self.folder.glob("out-*"):
                shutil.rmtree(used)

    def check_verified(self, shards: Any, answer: Any) -> None:
        size, read = sum(shard.nbytes for shard in shards.shards), self.read[VERIFY] or 0
        check(answer.ok, f"verify: {answer}")
        check(
            (answer.samples, answer.nbytes) == (len(self.right.samples), size), f"verify: has seen {answer}"
        )
        check(read >= size, f"verify: read {read} bytes of {size}")


def bench_case(report: Report, name: str, source: list[str], folder: Path, turns: int) -> None:
    for path in source:  # into the page cache
        Path(path).read_bytes()
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        case = Case(source, Path(scratch))
        seconds = compare(case.contenders(), turns, case.examine, before=lambda _: os.sync())
    found = case.found
    nbytes = int(found.nbytes.sum())
    headers = 512 * len(found.part_size)
    own = dict.fromkeys((VERIFY, SUM), case.read[SUM] or 0)
    report.add(
        f"{name}: {len(case.right.samples):,} samples",
        seconds,
        items=len(case.right.samples),
        input_bytes=dict.fromkeys(seconds, nbytes)
        | {INDEX: headers, HEADERS: headers, MOVE: int(found.nbytes[case.moving].sum())}
        | own,
        threads=dict.fromkeys(seconds, AT_ONCE) | {THEIRS: 1, CP: 1, VERIFY: THREADS, SUM: THREADS},
        fractions={
            ours: [theirs / own for own, theirs in zip(seconds[ours], seconds[beside], strict=True)]
            for ours, beside in BESIDE.items()
        },
        read=case.read,
        written=case.written,
        notes={ours: f"% of {beside}" for ours, beside in BESIDE.items()},
    )


def run(options: argparse.Namespace) -> Report:
    report = Report(
        "shards",
        item="sample",
        about="MB in, declared: the samples in the tars (headers, payloads, padding); of index, headers "
        "alone; of repartition, what changes workers; of verify, the files. MB read, counted: by the Meter; "
        "of the commands, webdataset and the sum, by the kernel (rchar). MB written: sizes of the files, "
        "indexes and manifests included; our plain tars are no larger than webdataset's, or there were no "
        "figures. The source is in the page cache; what is written is synced, and before every call what "
        "others left to write.",
        fraction_of="% of the speed of",
    )
    turns, data = rounds(options, 3), options.data
    cases = [(500, 885), (50, 50_000)] if options.quick else [(60_000, 3_000), (6_000, 110_000)]
    if data is None and not options.quick and "PYIMPORTANCE_TEST_DATA" in os.environ:
        data = str(Path(os.environ["PYIMPORTANCE_TEST_DATA"]) / "cifar10" / "train-*.tar")
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        for samples, payload in cases:
            source = make_source(Path(folder) / f"source-{payload}", samples, payload, tars=16)
            bench_case(report, f"{payload:,} bytes each", source, Path(folder), turns)
        if data is not None:
            name = "CIFAR-10's training images" if options.data is None else "--data"
            bench_case(report, name, expand(data), Path(folder), turns)
    return report


def main(argv: Sequence[str] | None = None) -> int:
    parser = options_parser("write_shards, repartition and verify, beside webdataset and cp")
    parser.add_argument("--data", help="tars to use too: a folder or pattern; no two samples share a key")
    parser.add_argument("--scratch", help="where to write (default: the system's temporary directory)")
    return run_main(run, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
