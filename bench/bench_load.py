"""ImportanceDataset beside webdataset on the same tars, from the page cache.

In this process, and through a DataLoader with two loader processes, which adds what it costs to send
samples from one process to another. webdataset reads the tars in order, ours in the order of an epoch: a
shuffled window at a time, every batch from all bins. Every sample of every epoch that is timed is compared
with the source; until then the epoch is kept, so all contenders pay for memory that is new.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import webdataset
from _harness import WARM, check, compare, options_parser, rounds, run_main
from _machine import bytes_read
from _report import Report
from _tars import make_source, samples_in
from torch.utils.data import DataLoader

from pyimportance import ImportanceDataset, Scores, ShardSet, partition, write_shards

B = 256
PROCESSES = 2
# name -> mean bytes of an image, samples
CASES = {"885 B images (CIFAR-10)": (885, 20_000), "110 kB images (ImageNet)": (110_000, 2_000)}
QUICK = {"885 B images (CIFAR-10)": (885, 1_000)}

Parts = dict[str, bytes]


def make_shards(source: list[str], folder: Path, samples: int) -> ShardSet:
    """One worker with four bins, in tars of 8 MiB or so, so that webdataset can divide them as well."""
    scores = Scores(np.random.default_rng(1).random(samples, np.float32))
    return write_shards(source, partition(scores, 1, bins=4), folder, shard_bytes=2**23)


def samples_of(epoch: Iterable[Any]) -> Iterator[tuple[str, Parts]]:
    """Keys and parts of samples, of lists of samples, or of batches of columns; ours may not be pads."""
    for item in epoch:
        if isinstance(item, list):
            yield from samples_of(item)
        elif isinstance(item["__key__"], list):
            columns = (item[name] for name in ("__key__", "__index__", "__pad__", "cls", "jpg"))
            for key, index, pad, cls, jpg in zip(*columns, strict=True):
                check(int(key) == index and not pad, f"sample {index} has key {key}, pad {pad}")
                yield key, {"cls": cls, "jpg": jpg}
        else:
            key = item["__key__"]
            index, pad = item.get("__index__", int(key)), item.get("__pad__", False)
            check(int(key) == index and not pad, f"sample {index} has key {key}, pad {pad}")
            yield key, {"cls": item["cls"], "jpg": item["jpg"]}


def check_epoch(name: str, epoch: list[Any], source: dict[str, Parts]) -> None:
    """Every sample once, with its bytes."""
    seen: dict[str, Parts] = {}
    for key, parts in samples_of(epoch):
        check(key not in seen, f"{name}: sample {key} comes twice")
        check(parts == source.get(key), f"{name}: sample {key} has other bytes than in the source")
        seen[key] = parts
    check(len(seen) == len(source), f"{name}: {len(seen)} samples; right is {len(source)}")


def bench_place(
    report: Report, case: str, shards: ShardSet, source: dict[str, Parts], *, processes: int, turns: int
) -> None:
    """``processes``: 0, or through a DataLoader with as many."""
    tars = [str(Path(shards.root) / shard.path) for shard in shards.shards]
    ours = {
        "pyimportance": ImportanceDataset(shards, batch_size=B, rank=0, world_size=1),
        "pyimportance, batched": ImportanceDataset(shards, batch_size=B, batched=True, rank=0, world_size=1),
    }
    datasets = {**ours, "webdataset": webdataset.WebDataset(tars, shardshuffle=False)}
    epochs: dict[str, Iterable[Any]] = dict(datasets)
    if processes:
        more: dict[str, Any] = {"num_workers": processes, "persistent_workers": True}
        for name, dataset in datasets.items():
            batched = name.endswith("batched")
            epochs[name] = DataLoader(
                dataset, batch_size=None if batched else B, collate_fn=dict if batched else list, **more
            )
    by_kernel: dict[str, int | None] = {}

    def read(name: str, turn: int) -> list[Any]:
        if name in ours:
            ours[name].set_epoch(turn)
        before = bytes_read()
        items = list(epochs[name])
        by_kernel[name] = None if before is None else (bytes_read() or 0) - before
        return items

    seconds = compare(
        {name: partial(read, name) for name in epochs},
        turns,
        lambda name, turn, epoch: check_epoch(f"{case}, {name}, epoch {turn}", epoch, source),
    )
    metered = {name: int(d.io_report().bytes("disk")) // (turns + WARM) for name, d in ours.items()}
    report.add(
        f"{case}, {f'{processes} loader processes' if processes else 'this process'}",
        seconds,
        items=len(source),
        input_bytes=int(shards.index(0).nbytes.sum()),
        read=metered | {"webdataset": None if processes else by_kernel["webdataset"]},
        notes={name: f"{len(source) / np.median(s):,.0f} samples/s" for name, s in seconds.items()},
    )


def run(options: argparse.Namespace) -> Report:
    report = Report(
        "load",
        item="sample",
        about="MB in: the samples in the tars, headers, payloads and padding. MB read, of files in an epoch: "
        "ours as its Meter counts, webdataset's as the kernel does (rchar; of this process, hence not of "
        "loader processes). Files are in the page cache, this measures no disk.",
    )
    for case, (mean, samples) in (QUICK if options.quick else CASES).items():
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            tars = make_source(Path(name) / "source", samples, mean, tars=1)
            shards = make_shards(tars, Path(name) / "shards", samples)
            source = dict(samples_in(tars))
            for processes in (0, PROCESSES):
                bench_place(report, case, shards, source, processes=processes, turns=rounds(options, 11))
    return report


def main(argv: Sequence[str] | None = None) -> int:
    parser = options_parser(__doc__.splitlines()[0])
    parser.add_argument("--folder", help="where shards are written for a while (default: the system's)")
    return run_main(run, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
