"""Importance-grouped shards from a WebDataset source: write_shards beside webdataset's reader and writer.

Both read the source and write each sample to its worker's tars, with the same plain headers (mtime 0), and
sync the tars to disk. Ours also puts the samples in order of importance and sums every file; webdataset, a
stream, keeps the source's order. The samples that arrive are compared one by one. Further rows: what the
parts cost.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from _harness import Report, Row, compare, options_parser, run_main
from webdataset import TarWriter, tariterators

from pyimportance import Partition, Scores, index, partition, repartition, write_shards
from pyimportance.shards.sources import expand

WORKERS = 4


def make_source(folder: Path, samples: int, payload: int) -> list[str]:
    """Four tars of (label, image-like) samples; the images' sizes vary by a half around ``payload``."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for shard in range(4):
        with tarfile.open(folder / f"train-{shard:03d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for i in range(shard, samples, 4):
                image = rng.bytes(int(payload * rng.uniform(0.5, 1.5)))
                for name, data in ((f"{i:08d}.cls", b"%d" % (i % 10)), (f"{i:08d}.jpg", image)):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return expand(folder)


def read(path: str | Path) -> Iterator[dict[str, Any]]:
    """A tar as webdataset's pipeline reads it."""
    with open(path, "rb") as stream:
        yield from tariterators.group_by_keys(
            tariterators.tar_file_expander([{"url": str(path), "stream": stream}])
        )


def write_by_webdataset(source: list[str], worker_of: np.ndarray, out: Path) -> None:
    """Every sample to the tar of its worker, in the order in which they come."""
    out.mkdir()
    names = [str(out / f"worker-{w:03d}.tar") for w in range(WORKERS)]
    with ExitStack() as stack:
        writers = [stack.enter_context(TarWriter(name, encoder=False, mtime=0)) for name in names]
        samples = (sample for tar in source for sample in read(tar))
        for worker, sample in zip(worker_of.tolist(), samples, strict=True):
            writers[worker].write(sample)
    for name in names:
        with open(name, "rb") as file:
            os.fsync(file.fileno())


def samples_in(tars: Sequence[Path]) -> dict[str, tuple[bytes, ...]]:
    """Key -> its parts, by extension."""
    return {
        s["__key__"]: tuple(s[k] for k in sorted(s) if not k.startswith("_")) for t in tars for s in read(t)
    }


def check(ours: Path, theirs: Path) -> None:
    for w in range(WORKERS):
        mine = samples_in(sorted((ours / f"worker-{w:03d}").glob("g000000-*.tar")))
        if mine != samples_in([theirs / f"worker-{w:03d}.tar"]):
            raise AssertionError(f"worker {w} got other samples from pyimportance than from webdataset")


def bench_case(report: Report, name: str, source: list[str], folder: Path, repeats: int) -> None:
    found = index(source)
    parts = divide(found.num_samples, 0)
    following = divide(found.num_samples, 1)
    worker_of = parts.worker_of(found.ids)
    sets: dict[int, Any] = {}

    def ours(turn: int) -> None:
        sets[turn] = write_shards(index(source), parts, folder / f"ours-{turn}")

    contenders: dict[str, Callable[[int], Any]] = {
        "index + write_shards": ours,
        "webdataset read + TarWriter": lambda t: write_by_webdataset(source, worker_of, folder / f"wds-{t}"),
        "of which index": lambda _: index(source),
        "repartition (3 of 4 move)": lambda t: repartition(sets[t], following),
        "verify": lambda t: sets[t].verify(),
    }
    timings = compare(contenders, repeats)
    check(folder / "ours-0", folder / "wds-0")
    if not sets[0].verify().ok:
        raise AssertionError(f"pyimportance's shards are not sound: {sets[0].verify()}")
    written = {
        "index + write_shards": sum(s.nbytes for s in sets[0].shards),
        "webdataset read + TarWriter": sum(p.stat().st_size for p in (folder / "wds-0").iterdir()),
    }
    moved = int(found.nbytes[worker_of != following.worker_of(found.ids)].sum())
    nbytes = {
        **{c: int(found.nbytes.sum()) + size for c, size in written.items()},
        "of which index": 0,
        "repartition (3 of 4 move)": 2 * moved,
        "verify": 2 * written["index + write_shards"],
    }
    rate = timings["webdataset read + TarWriter"].median / timings["index + write_shards"].median
    for contender, timing in timings.items():
        notes = ""
        if contender in written:
            notes = f"{written[contender] / found.num_samples:.0f} bytes a sample"
        if contender == "index + write_shards":
            notes += f"; {rate:.1f} times as fast as webdataset"
        report.rows.append(Row(name, contender, timing, found.num_samples, nbytes[contender], notes))
    for turn in range(repeats + 2):
        shutil.rmtree(folder / f"ours-{turn}")
        shutil.rmtree(folder / f"wds-{turn}")


def divide(samples: int, seed: int) -> Partition:
    values = np.random.default_rng(seed).random(samples, np.float32)
    return partition(Scores(values=values), WORKERS)


def run(options: argparse.Namespace) -> Report:
    report = Report("shards", item="sample", moved="source read + shards written, in bytes of tars")
    repeats = 1 if options.quick else options.repeats
    cases = [(500, 885), (50, 50_000)] if options.quick else [(20_000, 885), (2_000, 100_000)]
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        folder = Path(scratch)
        if options.data is not None:
            bench_case(report, options.data, expand(options.data), folder, repeats)
            return report
        for samples, payload in cases:
            name = f"{samples} samples of {payload} bytes"
            source = make_source(folder / "source", samples, payload)
            bench_case(report, name, source, folder, repeats)
            shutil.rmtree(folder / "source")
    return report


def main(argv: Sequence[str] | None = None) -> int:
    parser = options_parser("write_shards, repartition and verify, beside webdataset")
    parser.add_argument("--data", help="tars to use: a directory or pattern; no two samples share a key")
    parser.add_argument("--scratch", help="where to write (default: the system's temporary directory)")
    return run_main(run, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
