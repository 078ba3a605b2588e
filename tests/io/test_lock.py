"""One process at a time holds a file, and a process that died holds none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pyimportance import OutputError
from pyimportance.io.lock import locked

HOLD = """
import sys, time
from pyimportance.io.lock import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_holds_reads_and_writes(tmp_path: Path) -> None:
    path = str(tmp_path / "job")
    with locked(path) as file:
        assert file.read() == b""
        file.write(b"first and longer")
        file.write(b"second")
        with pytest.raises(OutputError, match="job: another process is writing here"), locked(path):
            pass
    with locked(path) as file:
        assert file.read() == b"second"


def test_a_killed_process_lets_go(tmp_path: Path) -> None:
    path = str(tmp_path / "job")
    child = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    with pytest.raises(OutputError, match="another process is writing here"), locked(path):
        pass
    child.kill()
    child.communicate()
    with locked(path) as file:
        assert file.read() == b""


def test_where_nothing_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for path in (tmp_path / "no" / "job", tmp_path / "link"):
        with pytest.raises(OutputError, match="cannot be written"), locked(str(path)):
            pass
    assert not (tmp_path / "elsewhere").exists()
