"""keep=p reads p of the bytes: the samples that it keeps lie side by side, at the start of every shard."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pyimportance import ImportanceDataset, compact, partition, repartition, write_shards
from pyimportance.io import frames
from pyimportance.score.values import Scores
from tests.load.conftest import divide, write_tar

N = 600


@pytest.fixture(scope="module", params=["written", "compacted"])
def shards(request, tmp_path_factory):
    """Of two workers, samples of 3 KB or so; as they were written, or with other scores since."""
    folder, r = tmp_path_factory.mktemp("keep"), np.random.default_rng(0)
    write_tar(
        folder / "s.tar",
        [(f"{i:05d}", {"x": r.bytes(int(r.integers(2000, 4000))), "cls": b"1"}) for i in range(N)],
    )
    made = write_shards(folder / "s.tar", divide([N // 2, N // 2], 4), folder / "set", shard_bytes=2**18)
    if request.param == "compacted":
        scores = Scores(r.normal(size=N).astype(np.float32))
        made = compact(repartition(made, partition(scores, 2, policy="sticky", current=made, bins=4)))
    return made


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("worker", [0, 1])
def test_what_is_kept_is_read_and_lies_together(shards, p, worker):
    """By our count, which test_accounting compares with the system's. That of pages exceeds it by what lies
    in them before and after each run of samples: of 64 MiB in shards of 2 MiB or more less than 0.4 %.
    """
    dataset = ImportanceDataset(shards, batch_size=8, keep=p, rank=worker, world_size=2, window_bytes=2**18)
    index = shards.index(worker)
    rows = np.sort(index.rows_of(np.array([s["__index__"] for s in dataset if not s["__pad__"]])))
    assert len(rows) == np.ceil(p * len(index))
    assert dataset.counts()[2, 0] == index.nbytes[rows].sum()
    assert index.nbytes[rows].sum() == pytest.approx(p * index.nbytes.sum(), rel=0.05)
    follows = (np.diff(rows) == 1) & (np.diff(index.file[rows]) == 0)
    assert 1 + (~follows).sum() == len(np.unique(index.file[rows]))
    assert all(
        (index.file[:row] != index.file[row]).all() for row in rows[np.flatnonzero(~np.r_[False, follows])]
    )


def test_frames_of_compressed_shards_are_read_once(tmp_path, monkeypatch):
    """Although samples are shuffled over many windows, of whose frames no more are kept than two have."""
    monkeypatch.setattr(frames, "KEPT_BYTES", 2 << 18)
    r = np.random.default_rng(0)
    parts = [{"x": r.bytes(int(r.integers(1000, 2000)))} for _ in range(4 * N)]
    write_tar(tmp_path / "s.tar", [(f"{i:05d}", part) for i, part in enumerate(parts)])
    options = {"compression": "zstd", "frame_bytes": 2**14, "shard_bytes": 2**20}
    made = write_shards(tmp_path / "s.tar", divide([4 * N], 4), tmp_path / "set", **options)
    dataset = ImportanceDataset(made, batch_size=8, rank=0, world_size=1, window_bytes=2**18)
    assert sum(1 for _ in dataset) == 4 * N
    stored = sum(shard.nbytes for shard in made.shards)
    assert stored <= dataset.counts()[2, 0] < 1.1 * stored


COLD = """
import json, shutil, sys
from pathlib import Path
import numpy as np
from cold_reads import divide, kernel_bytes, make_cold, make_source
from pyimportance import ImportanceDataset, compact, partition, repartition, write_shards
from pyimportance.score.values import Scores

def run(folder, p, mebibytes, again, extension):
    large = {"mean": 2**20, "extension": "jpg", "npy": bytes(2**20)} if extension else {"mean": 3000}
    n = make_source(folder / "source", mebibytes, **large)
    shards = write_shards(folder / "source", divide([n], 4), folder / "set", shard_bytes=2**25)
    shutil.rmtree(folder / "source")
    if again:
        scores = Scores(np.random.default_rng(1).normal(size=n).astype(np.float32))
        shards = compact(repartition(shards, partition(scores, 1, bins=4, current=shards)))
    index = shards.index(0)
    select = [extension] if extension else None
    dataset = ImportanceDataset(shards, batch_size=64, keep=p, select_files=select, rank=0, world_size=1)
    make_cold(folder)
    before = kernel_bytes()
    kept = index.rows_of(np.array([sample["__index__"] for sample in dataset]))
    kernel = kernel_bytes() - before
    each = index.nbytes
    if extension:  # header and padded payload of the part
        of = index.part_ext == index.extensions.index(extension)
        each = 512 - index.part_size[of] // -512 * 512
    return [len(kept), int(each[kept].sum()), int(each.sum()), kernel]

folder, p = Path(sys.argv[1]), float(sys.argv[2])
for name, mebibytes in (("warm-up", 4), ("run", 100 / p)):
    (folder / name).mkdir()
    told = run(folder / name, p, int(mebibytes), sys.argv[3] == "again", sys.argv[4])
print(json.dumps(told))
"""


def by_the_systems_count(folder, p, again, extension=""):
    """(samples kept, the bytes of them, of all, bytes that the kernel read) in a process of its own; of one
    extension, where it is given, of samples of 2 MB, else of samples of 3 KB."""
    if not os.path.exists("/proc/self/io"):
        pytest.skip("this kernel has no /proc/self/io")
    path = os.pathsep.join([str(Path(__file__).parent), *(path or "." for path in sys.path)])
    result = subprocess.run(
        [sys.executable, "-c", COLD, folder, str(p), again, extension],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert result.returncode == 0, result.stderr
    samples, kept, whole, kernel = json.loads(result.stdout)
    if kernel < 0.9 * kept:
        pytest.skip(f"the kernel counts {kernel} bytes for a cold read of {kept}: {folder} is not on a disk")
    return samples, kept, whole, kernel


@pytest.mark.slow
@pytest.mark.parametrize("p", [0.1, 0.9])
@pytest.mark.parametrize("again", ["once", "again"])
def test_by_the_systems_count(tmp_path, p, again):
    """Of samples of 3 KB, 64 MiB or more; with "again" after a repartition and compact. Without the index,
    which is 3 % of so small ones.
    """
    _, kept, whole, kernel = by_the_systems_count(tmp_path, p, again)
    assert kept >= 64 * 2**20
    assert kernel <= 1.02 * p * whole + 2**20  # libraries may be paged in meanwhile


@pytest.mark.slow
@pytest.mark.parametrize("again", ["once", "again"])
@pytest.mark.parametrize("extension", ["npy", "cls"])
def test_of_one_extension_by_the_systems_count(tmp_path, extension, again):
    """Of the most important fifth of samples of 2 MB one part alone: half of the bytes, or a label, for which
    the kernel reads the one or two pages that it and its header lie in."""
    samples, kept, whole, kernel = by_the_systems_count(tmp_path, 0.2, again, extension)
    if extension == "npy":
        assert kept >= 64 * 2**20
        assert kernel <= 1.02 * 0.2 * whole + 2**20
    else:
        assert samples >= 90
        assert kernel <= samples * 2 * os.sysconf("SC_PAGE_SIZE") + 2**20
