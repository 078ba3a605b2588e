"""The gates, so that one command (`pytest`) runs them all: ruff, mypy, clang-format."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CPP = sorted(str(p) for ext in ("h", "cpp", "cu", "cc") for p in (ROOT / "csrc").rglob(f"*.{ext}"))

GATES = {
    "ruff check": [sys.executable, "-m", "ruff", "check", "."],
    "ruff format": [sys.executable, "-m", "ruff", "format", "--check", "--diff", "."],
    "mypy": [sys.executable, "-m", "mypy"],
    "clang-format": [str(Path(sys.executable).parent / "clang-format"), "--dry-run", "-Werror", *CPP],
}


@pytest.mark.timeout(1200)  # mypy reads torch where it has no cache, and other tests' machines are busy
@pytest.mark.parametrize("gate", GATES)
def test_gate(gate: str) -> None:
    result = subprocess.run(GATES[gate], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
