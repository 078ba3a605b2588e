"""Loaders beside one another and beside plainly reading the files: samples, tensors, first batch, memory.

Every contender reads its own best-known format of the same samples, the peers as their documentation advises
(_load_peers.py). Peers read in order of storage; ours shuffles, a window at a time, every batch from all
bins. Every epoch that is timed is compared with the source; until then it is kept, so that all contenders
hold as much memory, and what was freed stays with this process, so that none waits for the kernel to find it
again.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _harness import compare, options_parser, rounds, run_main
from _load_data import Data
from _load_first import check_first, first_of_ours, first_of_webdataset, make_many
from _load_memory import held
from _load_ours import KINDS, READ, Batched, Ours, check_plain, plain
from _load_peers import NOT_HERE, Peer
from _machine import bytes_read, version_of
from _report import Report

PROCESSES = 2
OURS = (Ours.name, Batched.name)
COUNTED = (*OURS, READ, "webdataset")  # those that read, and do not map, their files
# name -> side of an image, samples
CASES = {"3 KB samples": (32, 60_000), "110 KB samples": (192, 6_000)}
QUICK = {"3 KB samples": (32, 600)}
MANY, QUICK_MANY = (1_000, 10_000), (20, 400)  # shards, samples in each


class Contenders:
    """Ours and the peers that are here, over the same samples."""

    def __init__(self, data: Data, absent: dict[str, str]) -> None:
        self.data, self.peers = data, dict[str, Peer]()
        for kind in KINDS:
            with _noted(kind.name, absent):
                self.peers[kind.name] = kind(data, data.folder / kind.__name__)

    @property
    def versions(self) -> dict[str, str]:
        return {
            peer.package: version_of(peer.package) for name, peer in self.peers.items() if name not in OURS
        }

    def bench(
        self,
        report: Report,
        case: str,
        turns: int,
        calls: Mapping[str, Callable[[], Any]],
        *,
        examine: Callable[[str, str, Any], None],
        before: Callable[[str], None] = lambda _: None,
        counted: Sequence[str] = COUNTED,
    ) -> None:
        """The rows of a case: ``calls``, with plain reading between ours and the peers'."""
        data, names = self.data, [name for name in calls if name in OURS]
        every: dict[str, Callable[[], Any]] = {name: calls[name] for name in names}
        every[READ] = partial(plain, data)
        every |= calls
        read = dict.fromkeys(every, 0)

        def call(name: str, turn: int) -> Any:
            start = bytes_read()
            answer = every[name]()
            read[name] = (bytes_read() or 0) - (start or 0)
            return answer

        def look(name: str, turn: int, answer: Any) -> None:
            if name == READ:
                check_plain(data, answer)
            else:
                examine(name, f"{case}, {name}, epoch {turn}", answer)

        seconds = compare({name: partial(call, name) for name in every}, turns, look, before=before)
        report.add(
            case,
            seconds,
            items=data.samples,
            input_bytes=data.input_bytes,
            read={name: read[name] if name in counted and read[name] else None for name in every},
            fractions={
                name: [a / b for a, b in zip(seconds[READ], taken, strict=True)]
                for name, taken in seconds.items()
                if name != READ
            },
            notes={name: self._note(name, taken) for name, taken in seconds.items()},
        )

    def _note(self, name: str, seconds: Sequence[float]) -> str:
        what = "the files" if name == READ else self.peers[name].yields
        return f"{self.data.samples / np.median(seconds):,.0f} samples/s: {what}"

    def samples(self, report: Report, case: str, turns: int) -> None:
        self.bench(
            report,
            f"{case}, this process",
            turns,
            {name: partial(_all_of, peer) for name, peer in self.peers.items()},
            examine=lambda name, what, items: self.data.check(what, self.peers[name].seen(items)),
        )

    def tensors(self, report: Report, case: str, turns: int) -> None:
        self.bench(
            report,
            f"{case}, tensors of 256",
            turns,
            {name: partial(_tensors_of, peer) for name, peer in self.peers.items() if peer.has_tensors},
            examine=lambda _, what, batches: self.data.check_images(
                what, (batch.numpy() for batch in batches)
            ),
        )

    def loaders(self, report: Report, case: str, turns: int) -> None:
        with _quiet():
            loaders = {name: peer.loader(PROCESSES) for name, peer in self.peers.items() if peer.has_loader}
            self.bench(
                report,
                f"{case}, {PROCESSES} loader processes",
                turns,
                {name: partial(list, loader) for name, loader in loaders.items()},
                examine=lambda name, what, batches: self.data.check(
                    what, self.peers[name].seen(_flat(name, batches))
                ),
                counted=(READ,),  # not what loader processes read
            )

    def cold(self, report: Report, case: str, turns: int) -> None:
        some = {name: partial(_all_of, self.peers[name]) for name in (Ours.name, "webdataset")}
        self.bench(
            report,
            f"{case}, this process, not in the page cache",
            turns,
            some,
            examine=lambda name, what, items: self.data.check(what, self.peers[name].seen(items)),
            before=lambda _: forget(self.data.tars),
        )

    def memory(self, report: Report, case: str, turns: int) -> None:
        found: dict[str, list[dict[str, int]]] = {}
        names = [name for name, peer in self.peers.items() if peer.has_loader]

        def measure(name: str, turn: int) -> None:
            data = self.data
            one = held(name, data.folder, samples=data.samples, side=data.side, processes=PROCESSES)
            found.setdefault(name, []).append(one)

        seconds = compare({name: partial(measure, name) for name in names}, turns, lambda *_: None)
        most = {name: {key: max(one[key] for one in each) for key in each[0]} for name, each in found.items()}
        report.add(
            f"{case}, {PROCESSES} loader processes, memory",
            seconds,
            items=self.data.samples,
            input_bytes=self.data.input_bytes,
            notes={
                name: f"PSS {m['process'] / 1e6:,.0f} MB a loader process, {m['tree'] / 1e6:,.0f} MB in all"
                for name, m in most.items()
            },
        )


def _all_of(peer: Peer) -> list[Any]:
    return list(peer.epoch())


def _tensors_of(peer: Peer) -> list[Any]:
    return list(peer.tensors())


def _flat(name: str, batches: list[Any]) -> Iterator[Any]:
    if name == Batched.name:
        return iter(batches)
    return (item for batch in batches for item in batch)


def forget(paths: Sequence[str]) -> None:
    """Has the kernel drop these files from its page cache (posix_fadvise DONTNEED), once they are on disk."""
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


@contextmanager
def _noted(name: str, absent: dict[str, str]) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        absent[name] = f"cannot be imported ({error})"


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'pin_memory' argument")  # energon always asks for it
        yield


def keep_freed_memory() -> None:
    """Tells glibc, where that is what there is, to keep what is freed (mallopt(3))."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        mallopt(-3, 2**30)  # M_MMAP_THRESHOLD


def first_batch(report: Report, folder: Path, many: tuple[int, int], turns: int) -> None:
    shards, samples = many
    made = make_many(folder / "many", shards, samples)
    tars = [str(Path(made.root) / shard.path) for shard in made.shards]
    seconds = compare(
        {
            Ours.name: lambda _: first_of_ours(made.root),
            "webdataset": lambda _: first_of_webdataset(tars),
        },
        turns,
        lambda name, turn, batch: check_first(f"{name}, round {turn}", batch),
    )
    rows = shards * samples
    report.add(
        f"the first batch, {shards:,} shards",
        seconds,
        items=rows,
        input_bytes=made.manifest.indexes[0].nbytes,
        notes={Ours.name: f"{rows:,} rows of index", "webdataset": "no index, no shuffling"},
    )


def run(options: argparse.Namespace) -> Report:
    keep_freed_memory()
    absent = dict(NOT_HERE)
    report = Report(
        "load",
        item="sample",
        about="MB in: the samples in the tars, headers, payloads and padding. MB read: of files, by this "
        "process, as the kernel counts (rchar), where they are read and not mapped. Files are in the page "
        "cache but where a case says that they are not: there they are dropped from it by posix_fadvise.",
        fraction_of="% of plain reading's speed",
    )
    turns = rounds(options, 3)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        for case, (side, samples) in (QUICK if options.quick else CASES).items():
            data = Data(Path(name) / f"{side}", samples, side)
            contenders = Contenders(data, absent)
            report.machine["versions"] |= contenders.versions
            contenders.samples(report, case, turns)
            contenders.tensors(report, case, turns)
            contenders.loaders(report, case, turns)
            contenders.cold(report, case, turns)
            if not options.quick and samples == max(count for _, count in CASES.values()):
                contenders.memory(report, case, 1)
        first_batch(report, Path(name), QUICK_MANY if options.quick else MANY, turns)
    report.about += "".join(f" Not here: {who}, {why}." for who, why in absent.items())
    return report


def main(argv: Sequence[str] | None = None) -> int:
    parser = options_parser(__doc__.splitlines()[0])
    parser.add_argument("--folder", help="where shards are written for a while (default: the system's)")
    return run_main(run, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
