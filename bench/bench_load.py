"""Loaders beside one another and beside plainly reading the files: samples, tensors, first batch, memory.

Every contender reads its own best-known format of the same samples, the peers as their documentation advises
(_load_peers.py). Peers read in order of storage; ours shuffles, a window at a time, every batch from all
bins. Every epoch that is timed is compared with the source; until then it is kept, so that all contenders
hold as much memory, and what was freed stays with this process, so that none waits for the kernel to find it
again.

Slow peers have fewer rounds than fast ones, ours and plain reading one in every round that a peer has:
``--seconds`` is the time that each contender has in a case, and three rounds are the least. Cases that have
ended are kept beside the --json file, as .part, until all have; `--cases loaders --peers webdataset` is one
case alone.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from _harness import add_choice, compare, options_parser, rounds, run_main, say
from _load_aims import judge_first
from _load_cases import Contenders, Turns
from _load_data import Data
from _load_first import check_first, first_of_ours, first_of_webdataset, make_many
from _load_ours import Ours
from _load_peers import PEERS
from _report import Report, part_of

# name -> side of an image, samples
SIZES = {"3KB": (32, 20_000), "110KB": (192, 3_000)}
QUICK = {"3KB": (32, 600)}
MANY, QUICK_MANY = (1_000, 10_000), (20, 400)  # shards, samples in each
FIRST = "first"
CASES = ("samples", "tensors", "loaders", "cold", "memory")  # of Contenders
ROUNDS, SECONDS = 9, 1.5


def keep_freed_memory() -> None:
    """Tells glibc, where that is what there is, to keep what is freed (mallopt(3))."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        mallopt(-3, 2**30)  # M_MMAP_THRESHOLD


def first_batch(
    report: Report, folder: Path, many: tuple[int, int], turns: Turns, *, webdataset: bool
) -> None:
    shards, samples = many
    rows, case = shards * samples, f"the first batch, {shards:,} shards"
    say(f"{case}: writing {rows:,} rows of index")
    made = make_many(folder / "many", shards, samples)
    calls = {Ours.name: lambda _: first_of_ours(made.root)}
    if webdataset:
        tars = [str(Path(made.root) / shard.path) for shard in made.shards]
        calls["webdataset"] = lambda _: first_of_webdataset(tars)
    seconds = compare(
        calls,
        turns.rounds,
        lambda name, turn, batch: check_first(f"{name}, round {turn}", batch),
        prepare=lambda turn: say(f"{case}: round {turn}"),
        budget=turns.budget,
        along=(Ours.name,),
    )
    report.add(
        case,
        seconds,
        items=rows,
        input_bytes=made.manifest.indexes[0].nbytes,
        notes={Ours.name: f"{rows:,} rows of index", "webdataset": "no index, no shuffling"},
    )
    judge_first(report, case)


def run(options: argparse.Namespace) -> Report:
    keep_freed_memory()
    report = Report(
        "load",
        item="sample",
        about="MB in: the samples in the tars, headers, payloads and padding. MB read: of files, by this "
        "process, as the kernel counts (rchar), where they are read and not mapped. Files are in the page "
        "cache but where a case says that they are not: there they are dropped from it by posix_fadvise, "
        "mincore finds them gone, and MB read is what devices have read for this process (read_bytes). "
        "PSS: pages that several processes share are divided among them.",
        fraction_of="% of plain reading's speed",
    )
    absent, part, about = dict[str, str](), part_of(options.json), report.about
    turns = Turns(rounds(options, ROUNDS), None if options.repeats else options.seconds)

    def ended() -> None:
        report.about = about + "".join(f" Not here: {who}, {why}." for who, why in absent.items())
        if part is not None:
            report.save(part)

    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        sizes = QUICK if options.quick else {size: SIZES[size] for size in options.sizes}
        for size, (side, samples) in sizes.items() if set(options.cases) & set(CASES) else ():
            data = Data(Path(name) / size, samples, side)
            contenders = Contenders(report, size, data, turns)
            contenders.find(options.peers, absent)
            for case in (case for case in CASES if case in options.cases):
                getattr(contenders, case)()
                ended()
        if FIRST in options.cases:
            many, there = QUICK_MANY if options.quick else MANY, "webdataset" in options.peers
            first_batch(report, Path(name), many, turns, webdataset=there and "webdataset" not in absent)
            ended()
    return report


def main(argv: Sequence[str] | None = None) -> int:
    parser = options_parser(__doc__.splitlines()[0])
    parser.add_argument("--folder", help="where shards are written for a while (default: the system's)")
    add_choice(parser, "--cases", (*CASES, FIRST), "what is measured")
    add_choice(parser, "--sizes", tuple(SIZES), "the samples of all cases but first")
    add_choice(parser, "--peers", tuple(peer.name for peer in PEERS), "those beside us, where installed")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="of each contender in each case, without --repeats"
    )
    return run_main(run, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
