"""Calls that fail as disks make them fail: each is a clear error and taken up again, or goes unnoticed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyimportance import Partition, index

Divide = Callable[..., Partition]
ROOT = Path(__file__).parents[2]

# (call, whose path has this in it, at which call of that kind, errno) -> what the error says; "" for none.
# 4 is EINTR, 5 EIO, 28 ENOSPC; 0: half of what was asked for is done.
CASES: list[tuple[tuple[str, str, int, int], str]] = [
    (("preadv", "source/", 3, 4), ""),
    (("preadv", "source/", 2, 0), ""),
    (("pwrite", "out/", 2, 4), ""),
    (("pwrite", "out/", 2, 0), ""),
    (("preadv", "source/data-003", 12, 5), r"source/data-003.tar, member '003-000"),
    (("preadv", "source/data-003", 12, 5), r": cannot be read (Input/output error)"),
    (("pwrite", ".tar", 4, 28), ".tar: cannot be written (No space left on device)"),
    (("pwrite", "job.json", 3, 5), "job.json: cannot be written (Input/output error)"),
    (("fsync", ".tar.", 2, 5), ".tar: cannot be written (Input/output error)"),
    (("fsync", "index-000000.arrow.", 1, 5), "index-000000.arrow: cannot be written (Input/output error)"),
    (("fsync", "manifest.json.", 1, 5), "manifest.json: cannot be written (Input/output error)"),
]

PROGRAM = """
import json, os, sys
from pyimportance import Partition, PyimportanceError, ShardSet, index, write_shards

source, parts, folder, cases = *sys.argv[1:4], json.loads(sys.argv[4])
found, parts = index(source), Partition.load(parts)
whole = write_shards(found, parts, f"{folder}/whole", shard_bytes=20_000)
for number, fault in enumerate(cases):
    out, said = f"{folder}/{number}/out", ""
    os.environ |= dict(zip(("FAULT_CALL", "FAULT_PATH", "FAULT_AT", "FAULT_ERRNO"), map(str, fault)))
    try:
        write_shards(found, parts, out, shard_bytes=20_000)
    except PyimportanceError as e:
        said = str(e)
    del os.environ["FAULT_CALL"]
    os.stat(out)
    assert os.path.exists(f"{out}/manifest.json") == (not said), said
    assert not [n for _, _, names in os.walk(out) for n in names if n.endswith(".tmp")], said
    open(f"{out}/job.json", "rb").close()
    again = write_shards(found, parts, out, shard_bytes=20_000)
    assert again.digest == whole.digest and again.verify().ok, said
    print(said)
"""


def test_disks_that_fail(source: Path, tmp_path: Path, divide: Divide) -> None:
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.skip("the library that fails is built by cc, for Linux")
    library = tmp_path / "faults.so"
    made: Any = ["cc", "-shared", "-fPIC", "-Wall", "-Werror", str(ROOT / "tests/shards/faults.c")]
    subprocess.run([*made, "-o", str(library), "-ldl"], check=True)
    divide(index(source), 2, 2).save(tmp_path / "parts.parquet")
    arguments = [
        str(source),
        str(tmp_path / "parts.parquet"),
        str(tmp_path),
        json.dumps([c for c, _ in CASES]),
    ]
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    for (fault, said), line in zip(CASES, ended.stdout.splitlines(), strict=True):
        assert said in line, fault
        assert bool(said) == bool(line), fault
