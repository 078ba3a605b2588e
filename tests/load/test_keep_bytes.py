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
import json, os, shutil, sys
from pathlib import Path
import numpy as np
from cold_reads import divide, kernel_bytes, make_cold, make_source
from pyimportance import ImportanceDataset, compact, partition, repartition, write_shards
from pyimportance.score.values import Scores

def run(folder, p, mebibytes, how):
    n = make_source(folder / "source", mebibytes, 3000)
    compression = "zstd" if how == "compressed" else None
    options = {"shard_bytes": 2**25, "compression": compression}
    shards = write_shards(folder / "source", divide([n], 4), folder / "set", **options)
    shutil.rmtree(folder / "source")
    if how == "again":
        scores = Scores(np.random.default_rng(1).normal(size=n).astype(np.float32))
        shards = compact(repartition(shards, partition(scores, 1, bins=4, current=shards)))
    index = shards.index(0)
    dataset = ImportanceDataset(shards, batch_size=64, keep=p, rank=0, world_size=1)
    make_cold(folder)
    before = kernel_bytes()
    kept = index.rows_of(np.array([sample["__index__"] for sample in dataset]))
    kernel, disk = kernel_bytes() - before, int(dataset.counts()[2, 0])
    whole = index.nbytes.sum() if compression is None else sum(map(os.path.getsize, index.files))
    return [disk, int(whole), kernel, index.nbytes[kept].sum() / index.nbytes.sum()]

folder, p = Path(sys.argv[1]), float(sys.argv[2])
for name, mebibytes in (("warm-up", 1), ("run", (70 if sys.argv[3] == "compressed" else 100) / p)):
    (folder / name).mkdir()
    told = run(folder / name, p, int(mebibytes), sys.argv[3])
print(json.dumps(told))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("p", "how"), [(0.1, "once"), (0.9, "once"), (0.1, "again"), (0.9, "again"), (0.1, "compressed")]
)
def test_by_the_systems_count(tmp_path, p, how):
    """Of samples of 3 KB, 64 MiB or more of the files; with "again" after a repartition and compact. Without
    the index, which is 3 % of so small ones.
    """
    if not os.path.exists("/proc/self/io"):
        pytest.skip("this kernel has no /proc/self/io")
    path = os.pathsep.join([str(Path(__file__).parent), *(path or "." for path in sys.path)])
    result = subprocess.run(
        [sys.executable, "-c", COLD, tmp_path, str(p), how],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert result.returncode == 0, result.stderr
    disk, whole, kernel, share = json.loads(result.stdout)
    assert share == pytest.approx(p, rel=0.02)
    assert 64 * 2**20 <= disk <= 1.02 * p * whole
    if kernel < 0.9 * disk:
        pytest.skip(
            f"the kernel counts {kernel} bytes for a cold read of {disk}: {tmp_path} is not on a disk"
        )
    # Libraries may be paged in meanwhile.
    assert kernel <= 1.02 * p * whole + 2**20
