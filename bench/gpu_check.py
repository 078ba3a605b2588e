"""One command for a machine with a CUDA device: builds, runs the tests marked gpu, prints the GPU benchmark.

    python bench/gpu_check.py [--wheels DIR] [--json PATH]

Run it in a checkout, with a Python that has torch with CUDA, and nvcc on PATH. Nothing is downloaded: Python
packages that are missing or too old are taken from --wheels DIR, or named. It builds for this device alone.
All of it takes at most five minutes: a step that is still running then is stopped, and torch.compile, which
compiles for a quarter of a minute a case, is left out of the table where less than two minutes are left for
that. The exit status is 0 where everything was built and all tests passed; whether figures aimed at were
reached is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "build" / "gpu_check"
# What building, testing and the table need besides torch, at least in the versions that pyproject.toml names.
NEEDED = [
    "setuptools", "pybind11", "numpy", "pyarrow", "scipy", "pytest", "pytest-timeout", "hypothesis", "rich",
]  # fmt: skip
# Case, contender or None for the copy, and how many times as fast observe is meant to be.
AIMS = [
    (case, *aim)
    for case in ("[65536, 1000] float32", "[8192, 50257] bfloat16")
    for aim in ((None, 0.85), ("torch eager", 5.0), ("torch.compile", 1.3))
]


BUDGET = 300.0  # seconds, of all steps together
TO_COMPILE = 120.0  # seconds that must be left for torch.compile to be in the table


class FailedError(Exception):
    """A step did not do what it should."""


def step(title: str, command: Sequence[str], timeout: float, **environment: str) -> float:
    """Runs a command in the checkout, its output here; seconds."""
    print(f"== {title}: {' '.join(command)}", flush=True)
    path = os.pathsep.join(filter(None, (str(ROOT), str(SITE), os.environ.get("PYTHONPATH"))))
    start = time.monotonic()
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path, **environment},
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FailedError(f"{title} took longer than {timeout:.0f} s") from None
    if done.returncode:
        raise FailedError(f"{title} failed with status {done.returncode}")
    return time.monotonic() - start


def architecture() -> str:
    """Of the device, as setup.py takes it."""
    import torch

    if not torch.cuda.is_available():
        raise FailedError("torch finds no CUDA device")
    return "{}{}".format(*torch.cuda.get_device_capability())


def numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def missing() -> dict[str, str | None]:
    """The requirements that the steps would not find met, and the version of each that they would find."""
    declared = dict(re.findall(r'"([\w-]+)>=([\d.]+)"', (ROOT / "pyproject.toml").read_text()))
    found: dict[str, str | None] = {}
    for name in NEEDED:
        there = next(iter(distributions(name=name, path=[str(SITE), *sys.path])), None)
        if there is None or numbers(there.version) < numbers(declared[name]):
            found[f"{name}>={declared[name]}"] = there.version if there else None
    return found


def provide(wheels: str | None) -> None:
    wanted = missing()
    if wanted and wheels is None:
        told = ", ".join(f"{each} (there is {old})" if old else each for each, old in wanted.items())
        raise FailedError(f"missing are {told}; --wheels DIR names a folder with their wheels")
    if wanted and wheels is not None:
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--upgrade", "--target", str(SITE)]
        step("what is missing", [*pip, "--find-links", wheels, *wanted], 120)


def aims(report: dict[str, Any]) -> list[str]:
    """A line for each figure that is aimed at."""
    rows = {(row["case"], row["contender"]): row for row in report["rows"]}
    lines = []
    for case, contender, times in AIMS:
        ours, theirs = rows.get((case, "pyimportance")), rows.get((case, contender))
        if ours is None or (contender and theirs is None):
            got = None
        elif theirs is None:
            got = ours["input_gb_per_s"] / report["machine"]["copy_gb_per_s"]
        else:
            got = theirs["times_first"]["median"]
        verdict = (
            "not measured" if got is None else f"{got:.2f}, {'reached' if got >= times else 'NOT REACHED'}"
        )
        lines.append(f"{case}: {times} times {contender or 'the copy bandwidth'}: {verdict}")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="build, test and time what runs on a CUDA device")
    parser.add_argument(
        "--wheels", metavar="DIR", help="a folder with wheels of Python packages that are missing"
    )
    parser.add_argument("--json", metavar="PATH", help="write the report there as well")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out of the table")
    options = parser.parse_args(argv)
    if options.json and not Path(options.json).parent.is_dir():
        parser.error(f"--json {options.json}: there is no such folder")
    report: dict[str, Any] = {"seconds": {}}
    start = time.monotonic()

    def left() -> float:
        return max(BUDGET - (time.monotonic() - start), 1.0)

    try:
        provide(options.wheels)
        python, table = sys.executable, SITE / "report.json"
        SITE.mkdir(parents=True, exist_ok=True)
        report["seconds"]["build"] = step(
            "build",
            [python, "setup.py", "-q", "build_ext", "--inplace"],
            left(),
            PYIMPORTANCE_CUDA="1",
            PYIMPORTANCE_CUDA_ARCHITECTURES=architecture(),
        )
        tests = [python, "-m", "pytest", "-q", "-m", "gpu", "tests/score/gpu", "-p", "no:cacheprovider"]
        report["seconds"]["tests"] = step("tests", tests, left(), PYIMPORTANCE_NEEDS_GPU="1")
        bench = [python, "bench/_gpu.py", "--json", str(table)]
        if options.no_compile or left() < TO_COMPILE:
            bench.append("--no-compile")
        report["seconds"]["table"] = step("table", bench, left())
        report["bench"] = json.loads(table.read_text())
        report["aims"] = aims(report["bench"])
    except FailedError as error:
        report["failed"] = str(error)
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n")
    print("\n".join([*report.get("aims", []), f"seconds: {report['seconds']}"]))
    print(f"FAILED: {report['failed']}" if "failed" in report else "built, tested, timed")
    return 1 if "failed" in report else 0


if __name__ == "__main__":
    sys.exit(main())
