"""The bench runs, checks its answers, and reports what it measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench" / "bench_shards.py"


def test_quick() -> None:
    command = [sys.executable, str(BENCH), "--quick", "--json", "-"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["bench"] == "shards"
    assert {row["contender"] for row in report["rows"]} >= {
        "index + write_shards",
        "webdataset read + TarWriter",
        "repartition (3 of 4 move)",
        "verify",
    }
