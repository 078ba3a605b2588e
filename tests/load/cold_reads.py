"""Run by test_accounting.py as a process of its own: what the meters counted beside what the kernel did.

    python cold_reads.py FOLDER MEBIBYTES

Prints JSON: {"kernel": bytes it counts for a plain cold read of `size` bytes, "size", and per phase
[bytes counted by the meters, bytes the kernel read for this process]; in "half" and "labels" the first are
the bytes of the samples that were kept, and of all.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
from conftest import divide, write_tar

from pyimportance import ImportanceDataset, index, samplers, write_shards
from pyimportance.io.meter import TIERS, Meter

SAMPLE = 110_000  # the mean of ImageNet; writing copies payloads alone, and a kernel reads whole pages
LABELLED = 2**20  # of which the label alone is read
SMALL = 2_000  # CIFAR-10 or so: half a page. Loading reads long ranges, and so agrees with the kernel still


def kernel_bytes():
    with open("/proc/self/io") as file:
        return int(dict(line.split(": ") for line in file)["read_bytes"])


def make_cold(folder):
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def make_source(folder, mebibytes, mean=SAMPLE, extension="bin", **others):
    """Tars of 16 MiB or so, of samples of ``mean`` bytes give or take half, and of small parts."""
    r = np.random.default_rng(0)
    folder.mkdir()
    samples, per_tar = max(2, mebibytes * 2**20 // mean), 2**24 // mean
    for t in range(-(-samples // per_tar)):
        numbers = range(t * per_tar, min(samples, (t + 1) * per_tar))
        payloads = [r.bytes(int(r.integers(mean // 2, mean * 3 // 2))) for _ in numbers]
        write_tar(
            folder / f"{t:03d}.tar",
            [
                (f"{i:07d}", {"cls": b"1", extension: p, **others})
                for i, p in zip(numbers, payloads, strict=True)
            ],
        )
    return samples


def run(folder, mebibytes):
    """Index a source, write shards, load them: each from a cold page cache."""
    samples = make_source(folder / "source", mebibytes)
    result = {}
    make_cold(folder)
    before, size = kernel_bytes(), 0
    for path in sorted((folder / "source").iterdir()):
        size += len(path.read_bytes())
    result["size"], result["kernel"] = size, kernel_bytes() - before

    make_cold(folder)
    before, meter = kernel_bytes(), Meter()
    source = index(str(folder / "source"), meter=meter)
    result["index"] = [int(meter.counts[:, 0].sum()), kernel_bytes() - before]

    make_cold(folder)
    before, meters = kernel_bytes(), [Meter(), Meter()]
    halves = [samples // 2, samples - samples // 2]
    shards = write_shards(source, divide(halves, 4), folder / "set", shard_bytes=2**25, meters=meters)
    result["write_shards"] = [int(sum(m.counts[:, 0].sum() for m in meters)), kernel_bytes() - before]

    make_cold(folder)
    before = kernel_bytes()
    dataset = ImportanceDataset(shards.root, batch_size=64, window_bytes=2**24)
    assert sum(1 for _ in dataset) == samples
    result["load"] = [int(dataset.counts()[:, 0].sum()), kernel_bytes() - before]

    make_cold(folder)
    before = kernel_bytes()
    half = ImportanceDataset(shards, batch_size=64, window_bytes=2**24, keep=0.5, rank=0, world_size=2)
    kept = shards.index(0).rows_of(np.array([sample["__index__"] for sample in half]))
    result["half"] = [int(shards.index(0).nbytes[kept].sum()), kernel_bytes() - before]

    small = make_source(folder / "small", max(1, mebibytes // 4), SMALL)
    shards = write_shards(folder / "small", divide([small], 4), folder / "small set", shard_bytes=2**23)
    make_cold(folder)
    before = kernel_bytes()
    few = ImportanceDataset(shards.root, batch_size=64, window_bytes=2**22)
    assert sum(1 for _ in few) == small
    result["load small samples"] = [int(few.counts()[:, 0].sum()), kernel_bytes() - before]

    make_cold(folder)
    before = kernel_bytes()
    most = ImportanceDataset(shards, batch_size=64, sampler=samplers.RS2(0.9), rank=0, world_size=1)
    assert sum(1 for _ in most) == int(0.9 * small + 0.5)
    result["most of the small samples"] = [int(most.counts()[:, 0].sum()), kernel_bytes() - before]

    labelled = make_source(folder / "labelled", mebibytes // 4, LABELLED, "jpg", txt=b"one")
    shards = write_shards(folder / "labelled", divide([labelled], 4), folder / "labelled set")
    make_cold(folder)
    before = kernel_bytes()
    labels = ImportanceDataset(shards, select_files=lambda name: not name.endswith(".jpg"))
    assert all(s["cls"] == b"1" and s["txt"] == b"one" and "jpg" not in s for s in labels)
    result["labels"] = [int(shards.index(0).nbytes.sum()), kernel_bytes() - before]
    result["tiers"] = dict(zip(TIERS, dataset.counts()[:, 0].tolist(), strict=True))
    return result


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    run(folder / "warm-up", 1)  # so that no module is read from disk while it counts
    print(json.dumps(run(folder / "run", int(sys.argv[2]))))
