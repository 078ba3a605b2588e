"""How the command ends where its output cannot be written, or nobody reads it, or it is told to stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyimportance import Scores
from pyimportance.demo import run
from pyimportance.demo.run import MARK, PARTIAL
from pyimportance.io.lock import locked

PROGRAM = [sys.executable, "-c", "from pyimportance.cli.app import main; main()"]


def test_a_reader_that_went_away_is_no_error(source: Path, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [*PROGRAM, "index", str(source), "-o", str(tmp_path / "i")]
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_standard_output_is_one_line(source: Path, tmp_path: Path) -> None:
    command = [*PROGRAM, "index", str(source), "-o", str(tmp_path / "i"), "--json"]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    message = "pyimportance: error: standard output: No space left on device\n"
    assert (ended.returncode, ended.stderr) == (2, message)


def test_a_full_disk_leaves_nothing_half_written(source: Path, tmp_path: Path) -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); "
    command = [PROGRAM[0], "-c", limited + PROGRAM[2], "index", str(source), "-o", str(tmp_path / "i")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"pyimportance: error: {tmp_path / 'i'}: cannot be written")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_on_a_terminal_long_work_tells_how_far_it_is(tmp_path: Path) -> None:
    Scores(np.arange(9, dtype=np.float32)).save(tmp_path / "s")
    ours, terminal = os.openpty()
    command = [*PROGRAM, "partition", str(tmp_path / "s"), "-o", str(tmp_path / "p"), "--workers", "2"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=terminal, env=environment, check=False)
    os.close(terminal)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert ended.returncode == 0, shown
    assert "writing" in shown
    assert "2/3" in shown
    assert b"kind" in ended.stdout
    assert b"writing" not in ended.stdout


def test_a_demo_that_is_terminated_cleans_up(tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--workers", "2", "--epochs", "1000", "--policy", "vanilla", "--out", str(out)]
    demo = subprocess.Popen([*PROGRAM, "demo", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        waited = time.monotonic() + 120
        while not list(out.glob("work-*/rank-001.err")) and time.monotonic() < waited:
            assert demo.poll() is None
            time.sleep(0.05)
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(60) == 128 + signal.SIGTERM
    finally:
        demo.kill()
        demo.communicate()
    assert {path.name for path in out.iterdir()} == {MARK, "data"}


def test_what_a_demo_finished_stays_beside_an_earlier_report_when_it_fails(
    cli: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (out / "work-killed" / "shards").mkdir(parents=True)
    for name in (MARK, "report.json", "bytes.png"):
        (out / name).write_text("old")
    # It diverges in its first epoch, so that this is also the test of losses that are no numbers.
    options = ("--workers", 2, "--epochs", 3, "--samples", 200, "--lr", 1e8, "--policy", "vanilla,stripes")
    outcome = cli("demo", "--out", out, *options)
    assert (outcome.status, outcome.out) == (2, "")
    finished, where, error = outcome.err.splitlines()
    assert finished.startswith("vanilla, seed 0: accuracy ")
    assert where == f"pyimportance: what was finished is in {out / PARTIAL}"
    for words in ("rank ", "logits: NaN or +inf", "of sample ", "try a lower --lr"):
        assert words in error
    assert "nonfinite" not in error
    partial = json.loads((out / PARTIAL).read_text())
    assert (partial["complete"], partial["runs"]) == (False, 1)
    assert [row["policy"] for row in partial["policies"]] == ["vanilla"]
    assert partial["policies"][0]["origin_bytes"] > 0
    assert {path.name for path in out.iterdir()} == {MARK, "data", PARTIAL, "report.json", "bytes.png"}
    assert (out / "report.json").read_text() == "old"


@pytest.mark.parametrize("finished", [True, False])
def test_an_interrupted_demo_says_so_and_what_is_left(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: bool
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        if finished:
            (tmp_path / PARTIAL).write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run_demo", interrupted)
    outcome = cli("demo", "--out", tmp_path)
    lines = [f"pyimportance: what was finished is in {tmp_path / PARTIAL}"] * finished
    assert outcome.err.splitlines() == [*lines, "pyimportance: interrupted"]
    assert (outcome.status, outcome.out) == (130, "")


def test_two_demos_do_not_share_a_folder(cli: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / MARK).touch()
    with locked(str(tmp_path / MARK)):
        cli("demo", "--out", tmp_path).refused(tmp_path, "another process is writing here")
    assert [path.name for path in tmp_path.iterdir()] == [MARK]
