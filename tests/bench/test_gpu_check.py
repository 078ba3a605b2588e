"""bench/gpu_check.py, as far as it goes without a device."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

CASE = "[65536, 1000] float32"


def test_what_is_aimed_at(bench: Callable[[str], ModuleType]) -> None:
    ours = {"case": CASE, "contender": "pyimportance", "input_gb_per_s": 900.0, "times_first": None}
    eager = {
        "case": CASE,
        "contender": "torch eager",
        "input_gb_per_s": 100.0,
        "times_first": {"median": 4.0},
    }
    lines = bench("gpu_check").aims({"rows": [ours, eager], "machine": {"copy_gb_per_s": 1000.0}})
    assert lines[:4] == [
        f"{CASE}: 0.85 times the copy bandwidth: 0.90, reached",
        f"{CASE}: 5.0 times torch eager: 4.00, NOT REACHED",
        f"{CASE}: 1.3 times torch.compile: not measured",
        "[8192, 50257] bfloat16: 0.85 times the copy bandwidth: not measured",
    ]


def test_what_is_missing_is_named(
    bench: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    check = bench("gpu_check")
    monkeypatch.setitem(check.NEEDED, "surely_not_there", "surely-not-there")
    with pytest.raises(check.FailedError, match="missing are surely-not-there; --wheels DIR names a folder"):
        check.provide(None)


@pytest.mark.parametrize("fails", [False, True])
def test_a_step_that_fails_is_the_end(
    bench: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    fails: bool,
) -> None:
    check = bench("gpu_check")
    monkeypatch.setattr(check, "SITE", tmp_path / "site")
    monkeypatch.setattr(check, "architecture", lambda: "90")
    commands: list[list[str]] = []

    def run(title: str, command: list[str], timeout: int, **environment: str) -> float:
        commands.append(command)
        if title == "tests" and fails:
            raise check.FailedError("tests failed with status 1")
        if title == "table":
            machine = {"copy_gb_per_s": 1000.0}
            Path(command[command.index("--json") + 1]).write_text(
                json.dumps({"rows": [], "machine": machine})
            )
        return 1.0

    monkeypatch.setattr(check, "step", run)
    path = tmp_path / "report.json"
    assert check.main(["--json", str(path), "--no-compile"]) == int(fails)
    report = json.loads(path.read_text())
    assert report["seconds"].keys() == ({"build"} if fails else {"build", "tests", "table"})
    assert ("failed" in report) == fails
    assert capsys.readouterr().out.splitlines()[-1] == (
        "FAILED: tests failed with status 1" if fails else "built, tested, timed"
    )
    assert fails or "--no-compile" in commands[-1]


@pytest.mark.parametrize(("takes", "compiles"), [(50.0, True), (100.0, False)])
def test_all_steps_share_five_minutes(
    bench: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    takes: float,
    compiles: bool,
) -> None:
    check = bench("gpu_check")
    monkeypatch.setattr(check, "SITE", tmp_path / "site")
    monkeypatch.setattr(check, "architecture", lambda: "90")
    now, limits, tables = [0.0], [], []

    def run(title: str, command: list[str], timeout: float, **environment: str) -> float:
        limits.append(timeout)
        now[0] += takes
        if title == "build":
            assert environment["PYIMPORTANCE_CUDA_ARCHITECTURES"] == "90"
        if title == "table":
            tables.append("--no-compile" not in command)
            Path(command[command.index("--json") + 1]).write_text(
                json.dumps({"rows": [], "machine": {"copy_gb_per_s": 1000.0}})
            )
        return takes

    monkeypatch.setattr(check, "step", run)
    monkeypatch.setattr(check.time, "monotonic", lambda: now[0])
    assert check.main([]) == 0
    assert limits == [300, 300 - takes, 300 - 2 * takes]
    assert tables == [compiles]


def test_a_step_says_how_it_failed(bench: Callable[[str], ModuleType]) -> None:
    check = bench("gpu_check")
    with pytest.raises(check.FailedError, match="it failed with status 3"):
        check.step("it", ["sh", "-c", "exit 3"], 60)
    with pytest.raises(check.FailedError, match="it took longer than 1 s"):
        check.step("it", ["sleep", "30"], 1)
