"""The meters against the operating system: bytes read from disk with a cold page cache."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MEBIBYTES = 272


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """What cold_reads.py prints; skips where the kernel gives no count to compare with."""
    if not os.path.exists("/proc/self/io"):
        pytest.skip("this kernel has no /proc/self/io")
    folder = tmp_path_factory.mktemp("cold")
    for name in ("warm-up", "run"):
        (folder / name).mkdir()
    result = subprocess.run(
        [sys.executable, Path(__file__).parent / "cold_reads.py", folder, str(MEBIBYTES)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
    )
    assert result.returncode == 0, result.stderr
    counted = json.loads(result.stdout)
    if counted["kernel"] < 0.9 * counted["size"]:
        pytest.skip(
            f"the kernel counts {counted['kernel']} bytes for a cold read of {counted['size']}: "
            f"{folder} is not on a disk, or its cache cannot be dropped"
        )
    return counted


@pytest.mark.parametrize("phase", ["write_shards", "load"])
def test_bytes_counted_for_large_samples_are_the_bytes_read_from_disk(counted, phase):
    meters, kernel = counted[phase]
    assert kernel >= 256 * 2**20
    assert meters == pytest.approx(kernel, rel=0.02)


@pytest.mark.parametrize("phase", ["load small samples", "most of the small samples"])
def test_samples_smaller_than_a_page_are_loaded_in_long_reads(counted, phase):
    """Also where a tenth of them is left out: what is smaller than a page is read, and counted."""
    meters, kernel = counted[phase]
    assert kernel >= 2**26
    # The kernel's count holds what it pages in of libraries meanwhile: on so few bytes, over a hundredth.
    assert meters == pytest.approx(kernel, rel=0.02, abs=2**21)


def test_half_of_the_samples_are_half_of_the_bytes(counted):
    """Those of keep=0.5, 68 MiB of a worker, which its shards have grouped."""
    kept, kernel = counted["half"]
    assert kept >= 64 * 2**20
    assert 0.98 * kept <= kernel <= 1.02 * kept


def test_labels_alone_are_next_to_nothing(counted):
    """`.cls` and `.txt` of samples of 1 MB, and of what lies between them nothing: a few pages of each."""
    everything, kernel = counted["labels"]
    assert everything >= 64 * 2**20
    assert 0 < kernel <= 0.02 * everything


def test_the_whole_job(counted):
    """Writing and loading together, indexes included."""
    meters, kernel = (sum(counted[phase][i] for phase in ("write_shards", "load")) for i in range(2))
    assert meters == pytest.approx(kernel, rel=0.02)
    assert counted["tiers"]["index"] > 0
    assert counted["tiers"]["origin"] == counted["tiers"]["cache"] == 0


def test_indexing_counts_no_byte_that_is_not_read(counted):
    """It skips payloads, and the kernel reads ahead into them: so it reads more than is asked for."""
    meters, kernel = counted["index"]
    assert 0 < meters <= 1.02 * kernel
