"""The gates, so that one command (`pytest`) runs them all: ruff, mypy, clang-format."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = (ROOT / "csrc", ROOT / "tests" / "native")
CPP = sorted(str(p) for f in FOLDERS for ext in ("h", "cpp", "cu", "cc") for p in f.rglob(f"*.{ext}"))

GATES = {
    "ruff check": [sys.executable, "-m", "ruff", "check", "."],
    "ruff format": [sys.executable, "-m", "ruff", "format", "--check", "--diff", "."],
    "mypy": [sys.executable, "-m", "mypy"],
    "clang-format": [str(Path(sys.executable).parent / "clang-format"), "--dry-run", "-Werror", *CPP],
}


# NumPy has left Python 3.10: its last version there has other types than the one the code is checked with.
OLD_TYPES = pytest.mark.skipif(sys.version_info < (3, 11), reason="mypy needs the types of NumPy 2.4")


@pytest.mark.timeout(1200)  # mypy reads torch where it has no cache, and other tests' machines are busy
@pytest.mark.parametrize("gate", [pytest.param(g, marks=OLD_TYPES if g == "mypy" else ()) for g in GATES])
def test_gate(gate: str) -> None:
    result = subprocess.run(GATES[gate], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
