"""open_file: every read counted, every failure a DataError that says where."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyimportance import DataError
from pyimportance.io.meter import Meter
from pyimportance.io.storage import open_file, read_whole


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data.bin"
    path.write_bytes(bytes(range(100)))
    return path


def test_reads_are_counted(path: Path) -> None:
    meter = Meter()
    with open_file(path, meter, "disk") as file:
        assert meter.counts.sum() == 0
        assert file.size == 100
        assert file.pread(10, 3) == bytes([10, 11, 12])
        assert file.pread(100, 0) == b""
        file.charge(50, 2)
    assert (meter.bytes("disk"), meter.requests("disk")) == (53, 3)
    assert read_whole(path, meter, "index") == path.read_bytes()
    assert (meter.bytes("index"), meter.requests("index")) == (100, 1)


def test_a_mapped_file_is_counted_and_outlives_its_file(path: Path) -> None:
    meter = Meter()
    with open_file(path, meter, "index") as file:
        mapped = file.map()
    assert mapped[:3] == b"\0\1\2"
    assert meter.bytes("index") == 100


def test_reading_past_the_end(path: Path) -> None:
    with (
        open_file(path) as file,
        pytest.raises(DataError, match=r"data\.bin, offset 98: ends at 100; 3 bytes"),
    ):
        file.pread(98, 3)


def test_a_file_that_shrank_while_open(path: Path) -> None:
    with open_file(path) as file:
        os.truncate(path, 40)
        with pytest.raises(DataError, match="offset 40: ends here; 100 bytes from 0 were to be read, got 40"):
            file.pread(0, 100)


def test_a_file_closes_once(path: Path) -> None:
    with open_file(path) as file:
        fd = file.fileno()
    assert os.open(os.devnull, os.O_RDONLY) == fd  # the number is somebody else's now
    file.close()
    del file
    os.close(fd)  # an OSError where one of the two closed it


def test_a_closed_file_says_so(path: Path) -> None:
    file = open_file(path)
    file.close()
    for use in (file.fileno, file.map, lambda: file.pread(0, 1)):
        with pytest.raises(ValueError, match="is closed"):
            use()


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.tar: does not exist"):
        open_file(tmp_path / "nothing.tar")
    with pytest.raises(DataError, match="is not a regular file"):
        open_file(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(DataError, match="fifo: is not a regular file"):
        open_file(tmp_path / "fifo")
    (tmp_path / "empty").touch()
    assert read_whole(tmp_path / "empty") == b""
    with open_file(tmp_path / "empty") as file, pytest.raises(DataError, match="empty: is empty"):
        file.map()


@pytest.mark.parametrize(
    ("hard", "error"), [(1000, None), (300, None), (150, "100 files must be open at once, and this process")]
)
def test_many_files_at_once(tmp_path: Path, hard: int, error: str | None) -> None:
    for i in range(100):
        (tmp_path / f"{i}").write_bytes(b"x")
    code = (
        "import os, resource\n"
        "from pyimportance.io.storage import open_files\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (90, {hard}))\n"
        f"paths = [os.path.join({str(tmp_path)!r}, str(i)) for i in range(100)]\n"
        "with open_files(paths) as files:\n"
        "    print(sum(f.size for f in files))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if error is None:
        assert result.stdout == "100\n"
    else:
        assert f"ArgumentError: {error} may open 150; raise the limit" in result.stderr
