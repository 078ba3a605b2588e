"""Files: few are open at a time, however many are read."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from pyimportance import DataError
from pyimportance.io.files import Files
from pyimportance.io.meter import Meter


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    for i in range(6):
        (tmp_path / f"{i}").write_bytes(bytes([i]))
    return [str(tmp_path / f"{i}") for i in range(6)]


def test_the_longest_unused_is_closed(paths: list[str]) -> None:
    meter = Meter()
    with Files(meter, 3) as files:
        first = [files.get(path, "disk") for path in paths[:3]]
        assert files.get(paths[0]) is first[0]
        fourth = files.get(paths[3])
        with pytest.raises(ValueError, match="is closed"):
            first[1].fileno()
        assert [file.pread(0, 1) for file in (first[0], first[2], fourth)] == [b"\0", b"\2", b"\3"]
        assert (meter.bytes("disk"), meter.bytes("origin")) == (2, 1)
        again = files.get(paths[1])
        assert again.pread(0, 1) == b"\1"
    for file in (first[0], first[2], fourth, again):
        with pytest.raises(ValueError, match="is closed"):
            file.fileno()
    with files:
        assert files.get(paths[0]).pread(0, 1) == b"\0"  # usable again


def test_a_copy_has_files_of_its_own(paths: list[str]) -> None:
    with Files() as files:
        file = files.get(paths[0])
        with pickle.loads(pickle.dumps(files)) as copy:
            assert copy.get(paths[0]).fileno() != file.fileno()
        assert file.pread(0, 1) == b"\0"


def test_one_that_is_not_there(paths: list[str]) -> None:
    os.unlink(paths[4])
    with Files(limit=1) as files:
        files.get(paths[0])
        with pytest.raises(DataError, match="4: does not exist"):
            files.get(paths[4])
        assert files.get(paths[5]).pread(0, 1) == b"\5"


@pytest.mark.parametrize(
    ("soft", "hard", "room", "after"),
    [(90, 1000, 100, 356), (90, 300, 100, 300), (90, 120, 60, 120), (400, 400, 100, 400)],
)
def test_room_for_a_hundred_files(soft: int, hard: int, room: int, after: int) -> None:
    """All of them, half of what the process may open, or what it may open but for a reserve."""
    code = (
        "from resource import RLIMIT_NOFILE, getrlimit, setrlimit\n"
        "from pyimportance.io.storage import make_room\n"
        f"setrlimit(RLIMIT_NOFILE, ({soft}, {hard}))\n"
        "print(make_room(100), getrlimit(RLIMIT_NOFILE)[0], end='')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == f"{room} {after}"
