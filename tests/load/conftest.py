"""Shard sets to load from."""

import contextlib
import io
import json
import os
import tarfile

import numpy as np
import pytest

from pyimportance import Partition, write_shards


def write_tar(path, samples):
    """samples: [(key, {extension: bytes})]"""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for key, parts in samples:
            for extension, payload in parts.items():
                member = tarfile.TarInfo(f"{key}.{extension}")
                member.size = len(payload)
                tar.addfile(member, io.BytesIO(payload))


def open_below(folder):
    """The files in a folder that this process has open; what else it has open may change at any time."""
    files = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own is closed by now
            files.append(os.readlink(f"/proc/self/fd/{fd}"))
    return [file for file in files if file.startswith(f"{os.path.realpath(folder)}/")]


def divide(counts, bins, *, values=True, seed=0):
    """A partition that gives worker w the next counts[w] ids, in bins of equal size; scores are random."""
    sizes = [n // bins + (b < n % bins) for n in counts for b in range(bins)]
    score = np.random.default_rng(seed).normal(size=sum(counts)).astype(np.float32)
    start = np.cumsum([0, *counts])
    order = [start[w] + np.argsort(-score[start[w] : start[w + 1]]) for w in range(len(counts))]
    ids = np.concatenate(order).astype(np.int64)
    return Partition(
        workers=len(counts),
        bins=bins,
        order=ids,
        offsets=np.cumsum([0, *sizes]).astype(np.int64),
        values=score[ids] if values else None,
        measure="loss_mean",
    )


@pytest.fixture(scope="session", name="write_tar")
def _write_tar():
    return write_tar


@pytest.fixture(scope="session", name="open_below")
def _open_below():
    return open_below


def _npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.fixture
def tars(tmp_path):
    """Six tars of four samples, of which every fifth has a .text in the place of a .txt."""
    for n in range(6):
        samples = []
        for i in range(4 * n, 4 * n + 4):
            text = {"text" if i % 5 == 0 else "txt": b"number %d" % i}
            array = _npy(np.full((2, 3), i, np.float32))
            parts = {"cls": b"%d" % i, "json": json.dumps({"i": i}).encode(), "npy": array, **text}
            samples.append((f"{i:03d}", parts))
        write_tar(tmp_path / f"{n:03d}.tar", samples)
    return f"{tmp_path}/{{000..005}}.tar"


@pytest.fixture(scope="session", name="divide")
def _divide():
    return divide


@pytest.fixture(scope="session")
def shard_set(tmp_path_factory):
    """shard_set(counts, bins=2): (ShardSet, parts by sample id), made once per session."""
    made = {}

    def get(counts, bins=2):
        what = (tuple(counts), bins)
        if what not in made:
            r = np.random.default_rng(len(made))
            folder = tmp_path_factory.mktemp("shards")
            parts = [
                {"bin": r.bytes(int(r.integers(1, 600))), "cls": str(i % 10).encode()}
                for i in range(sum(counts))
            ]
            write_tar(folder / "source.tar", [(f"s{i:06d}", p) for i, p in enumerate(parts)])
            made[what] = write_shards(folder / "source.tar", divide(counts, bins), folder / "set"), parts
        return made[what]

    return get
