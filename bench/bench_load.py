"""ImportanceDataset beside webdataset on the same tars, from the page cache.

In this process, and through a DataLoader with two loader processes, which adds what it costs to send
samples from one process to another. webdataset reads the tars in order, ours in the order of an epoch: a
shuffled window at a time, every batch from all bins. Every sample of every contender is compared with
the source.
"""

from __future__ import annotations

import argparse
import io
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import webdataset
from _harness import Report, Row, measure, options_parser, run_main
from torch.utils.data import DataLoader

from pyimportance import ImportanceDataset, Scores, ShardSet, partition, write_shards

B = 256
PROCESSES = 2
# name -> mean bytes of an image, samples
CASES = {"885 B images (CIFAR-10)": (885, 20_000), "110 kB images (ImageNet)": (110_000, 2_000)}
QUICK = {"885 B images (CIFAR-10)": (885, 1_000)}

Parts = dict[str, bytes]


def make_source(path: Path, mean: int, samples: int) -> dict[str, Parts]:
    rng = np.random.default_rng(0)
    made = {}
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for i in range(samples):
            parts = {
                "cls": str(i % 10).encode(),
                "jpg": rng.bytes(int(rng.integers(mean // 2, mean * 3 // 2))),
            }
            made[f"{i:07d}"] = parts
            for extension, payload in parts.items():
                member = tarfile.TarInfo(f"{i:07d}.{extension}")
                member.size = len(payload)
                tar.addfile(member, io.BytesIO(payload))
    return made


def make_shards(folder: Path, samples: int) -> ShardSet:
    """One worker with four bins, in tars of 8 MiB or so, so that webdataset can divide them as well."""
    scores = Scores(np.random.default_rng(1).random(samples, np.float32))
    return write_shards(
        folder / "source.tar", partition(scores, 1, bins=4), folder / "shards", shard_bytes=2**23
    )


def contenders(shards: ShardSet) -> dict[str, Iterable[Any]]:
    """name -> an epoch: samples, or lists of them, or batches of columns. DataLoaders have PROCESSES."""
    tars = [str(Path(shards.root) / shard.path) for shard in shards.shards]
    ours = ImportanceDataset(shards, batch_size=B, rank=0, world_size=1)
    batched = ImportanceDataset(shards, batch_size=B, batched=True, rank=0, world_size=1)
    theirs = webdataset.WebDataset(tars, shardshuffle=False)
    through = {"num_workers": PROCESSES, "persistent_workers": True}
    return {
        "pyimportance": ours,
        "pyimportance, batched": batched,
        "webdataset": theirs,
        "pyimportance, DataLoader": DataLoader(ours, batch_size=B, collate_fn=list, **through),
        "pyimportance, batched, DataLoader": DataLoader(batched, batch_size=None, collate_fn=dict, **through),
        "webdataset, DataLoader": DataLoader(theirs, batch_size=B, collate_fn=list, **through),
    }


def samples_of(epoch: Iterable[Any]) -> Iterable[tuple[str, Parts]]:
    for item in epoch:
        if isinstance(item, list):
            yield from ((s["__key__"], {"cls": s["cls"], "jpg": s["jpg"]}) for s in item)
        elif isinstance(item["__key__"], list):
            for key, cls, jpg in zip(item["__key__"], item["cls"], item["jpg"], strict=True):
                yield key, {"cls": cls, "jpg": jpg}
        else:
            yield item["__key__"], {"cls": item["cls"], "jpg": item["jpg"]}


def check(epoch: Iterable[Any], source: dict[str, Parts]) -> None:
    seen = list(samples_of(epoch))
    assert len(seen) == len(source), f"{len(seen)} samples of {len(source)}"
    assert dict(seen) == source


def exhaust(epoch: Iterable[Any]) -> int:
    return sum(1 for _ in epoch)


def run(options: argparse.Namespace) -> Report:
    report = Report("load", item="sample", moved="tar members read: headers, payloads, padding")
    for case, (mean, samples) in (QUICK if options.quick else CASES).items():
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            source = make_source(Path(name) / "source.tar", mean, samples)
            shards = make_shards(Path(name), samples)
            nbytes = int(shards.index(0).nbytes.sum())
            for contender, epoch in contenders(shards).items():
                check(epoch, source)
                timing, _ = measure(lambda e=epoch: exhaust(e), 1 if options.quick else options.repeats)
                note = f"{samples / timing.median:,.0f} samples/s"
                report.rows.append(Row(case, contender, timing, samples, nbytes, note))
    return report


def main(argv: Sequence[str] | None = None) -> int:
    parser = options_parser(__doc__.splitlines()[0])
    parser.add_argument("--folder", help="where shards are written for a while (default: the system's)")
    return run_main(run, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
