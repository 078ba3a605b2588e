"""The format on disk, version 1: what was written once is read for ever, and tars keep their bytes.

golden/ holds what `make` below wrote: a small set of two generations. Index files are compared by what they
hold, since Arrow's writer may lay the same table out differently in another release.
"""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from pyimportance import Partition, Scores, ShardSet, partition, repartition, write_shards

GOLDEN = Path(__file__).parent / "golden"


def parts(seed: int) -> Partition:
    values = np.random.default_rng(seed).permutation(6).astype(np.float32)
    return partition(Scores(values=values, measure="golden"), 2, bins=2)


def make(folder: Path) -> ShardSet:
    """Writes the set, from a source made on the spot, as the first release of the format did."""
    source = folder / "source-000.tar"
    with tarfile.open(source, "w", format=tarfile.PAX_FORMAT) as tar:
        for i in range(6):
            for name, data in ((f"dir/{i}.TXT", b"text %d" % i), (f"dir/{i}.cls", b"%d" % i)):
                info = tarfile.TarInfo(name.replace("dir/5", "ä" * 60 + "/5"))
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return repartition(write_shards(source, parts(0), folder / "set", shard_bytes=5120), parts(1))


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "golden"))  # the checkout may be read-only


@pytest.mark.parametrize("generation", [0, 1])
def test_old_sets_are_read(golden: Path, generation: int) -> None:
    shards = ShardSet.open(golden, generation=generation)
    assert shards.verify().ok
    assert (shards.generation, shards.workers, shards.bins, shards.num_samples) == (generation, 2, 2, 6)
    expected = parts(generation)
    for worker in range(2):
        index = shards.index(worker)
        assert sorted(index.ids.tolist()) == sorted(expected.worker(worker).tolist())
        assert index.bin is not None
        assert index.bin.tolist() == expected.bin_of(index.ids).tolist()
        assert index.extensions == ("cls", "txt")
        for row, number in enumerate(index.ids.tolist()):
            assert index.key(row) == ("ä" * 60 if number == 5 else "dir") + f"/{number}"
            assert index.part_size[index.part_start[row] :][:2].tolist() == [1, 6]


def test_old_sets_can_be_repartitioned(golden: Path) -> None:
    assert repartition(ShardSet.open(golden), parts(2)).verify().ok


def test_tars_keep_their_bytes(tmp_path: Path) -> None:
    made = Path(make(tmp_path).root)
    for path in sorted(GOLDEN.rglob("*")):
        if path.suffix == ".tar":
            assert (made / path.relative_to(GOLDEN)).read_bytes() == path.read_bytes(), path.name
    names = {str(p.relative_to(GOLDEN)) for p in GOLDEN.rglob("*")}
    assert names == {str(p.relative_to(made)) for p in made.rglob("*")}
