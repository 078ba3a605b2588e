"""bench/gpu_check.py, as far as it goes without a device."""

from __future__ import annotations

import json
import re
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
    bench: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    check = bench("gpu_check")
    monkeypatch.setattr(check, "SITE", tmp_path / "site")
    monkeypatch.setattr(check, "ROOT", tmp_path)
    monkeypatch.setattr(check, "NEEDED", ["pytest", "surely-not-there"])
    (tmp_path / "pyproject.toml").write_text('["pytest>=8", "surely-not-there>=2.1"]')
    with pytest.raises(check.FailedError, match=r"missing are surely-not-there>=2\.1; --wheels DIR"):
        check.provide(None)


def test_what_is_too_old_is_as_good_as_missing(
    bench: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A license of pyproject.toml's form is an error of setuptools before 77, which images of torch have."""
    check = bench("gpu_check")
    monkeypatch.setattr(check, "SITE", tmp_path / "site")
    assert check.missing() == {}
    for name, version in (("setuptools", "75.8.0"), ("pybind11", "2.13.6"), ("pytest", "8.0")):
        info = tmp_path / "old" / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(str(tmp_path / "old"))
    assert check.missing() == {"setuptools>=77": "75.8.0", "pybind11>=3.0": "2.13.6"}
    with pytest.raises(check.FailedError, match=r"setuptools>=77 \(there is 75\.8\.0\), pybind11>=3\.0 \("):
        check.provide(None)
    steps: list[list[str]] = []
    monkeypatch.setattr(check, "step", lambda title, command, timeout: steps.append(command))
    check.provide("wheels")
    assert steps[0][-4:] == ["--find-links", "wheels", "setuptools>=77", "pybind11>=3.0"]
    info = tmp_path / "site" / "setuptools-80.1.dist-info"  # as pip leaves it there
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: setuptools\nVersion: 80.1\n")
    assert check.missing() == {"pybind11>=3.0": "2.13.6"}


def test_every_version_needed_is_declared(bench: Callable[[str], ModuleType]) -> None:
    """In pyproject.toml, once for each: a change of it is heeded here."""
    check = bench("gpu_check")
    project = (check.ROOT / "pyproject.toml").read_text()
    for name in check.NEEDED:
        assert len(set(re.findall(rf'"{name}>=([\d.]+)"', project))) == 1, name
    minversion = re.findall(r'minversion = "([\d.]+)"', project)
    assert f'"pytest>={minversion[0]}"' in project


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
