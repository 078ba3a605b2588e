"""Coverage-guided fuzzing of whatever reads strangers' files, under AddressSanitizer and
UndefinedBehaviorSanitizer.

``pytest -m fuzz`` builds the targets in ``tests/native/fuzz`` with clang's libFuzzer (Debian: clang and
libclang-rt-dev), where there is none with g++ and a driver of our own that mutates blindly, and runs each
from the seeds of ``corpus.py``, as often as PYIMPORTANCE_FUZZ_RUNS in the environment says, a million times
by default; it prints which it was. What must hold of every input stands in the targets; a finding leaves its
input behind. What reads tars is native. What reads manifests, indexes and seek tables in Python runs in a
target with an interpreter in it (``fuzz_readers.cpp``, ``readers.py``), for which Python must be there as a
shared library; and in any case, blindly, in ``tests/shards/test_mutated_files.py``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(12 * 3600)]

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
FUZZ = Path(__file__).parent / "fuzz"
NATIVE = ("index", "names", "scan", "stale")
READERS = ("manifest", "notes", "pointer", "sample_index", "seek_table")
RUNS = int(os.environ.get("PYIMPORTANCE_FUZZ_RUNS", "1000000"))
FLAGS = ["-std=c++17", "-O1", "-g1", "-fno-sanitize-recover=all", "-D_GLIBCXX_ASSERTIONS"]
TAR = sorted((CSRC / "tar").glob("*.cpp"))
SOURCES = [*(path for path in TAR if not path.name.startswith("bind")), CSRC / "parallel.cpp"]
BINDING = [*(path for path in TAR if path.name.startswith("bind")), *CSRC.glob("*_bind.cpp")]
MOST = {"seek_table": 1024}  # MiB in one piece: a frame of a GiB has this many; all else of an input is small

Build = Callable[..., Path]


def libfuzzer(tmp_path: Path) -> str | None:
    """A clang that has it."""
    source = tmp_path / "empty.cpp"
    source.write_text('extern "C" int LLVMFuzzerTestOneInput(const char *, unsigned long) { return 0; }\n')
    for name in ("clang++", *(f"clang++-{version}" for version in range(25, 10, -1))):
        command = [name, "-fsanitize=fuzzer,address,undefined", str(source), "-o", str(tmp_path / "empty")]
        if shutil.which(name) and subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return name
    return None


def with_python() -> list[str]:
    """What it takes to have an interpreter in a program."""
    pybind11 = pytest.importorskip("pybind11")
    of = sysconfig.get_config_var
    folder, name = str(of("LIBDIR")), f"python{of('LDVERSION')}"
    if not of("Py_ENABLE_SHARED") or not (Path(folder) / f"lib{name}.so").exists():
        pytest.skip("this Python is not there as a shared library")
    includes = [f"-I{path}" for path in (pybind11.get_include(), sysconfig.get_paths()["include"])]
    linked = [f"-L{folder}", f"-Wl,-rpath,{folder}", f"-l{name}"]
    return [*includes, *linked, f'-DPYI_PYTHON="{sys.executable}"', "-fvisibility=hidden"]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A target, built once."""

    @cache
    def build(target: str, driver: str, *options: str) -> Path:
        return compiled(target, driver, tmp_path_factory.mktemp(target), *options)

    return build


def compiled(target: str, driver: str, folder: Path, *options: str) -> Path:
    sources = [FUZZ / f"fuzz_{target}.cpp", *SOURCES]
    match target:
        case "readers":
            sources += BINDING
            options = (*options, *with_python())
        case "names" | "scan" | "stale":
            sources.append(FUZZ / "mutate.cpp")  # which knows headers
    command = ["g++", "-fsanitize=address,undefined", str(FUZZ / "driver.cpp")]
    if driver == "libFuzzer":
        clang = libfuzzer(folder)
        if clang is None:
            pytest.skip("there is no clang with libFuzzer")
        command = [clang, "-fsanitize=fuzzer,address,undefined"]
    elif shutil.which("g++") is None:
        pytest.skip("there is no g++")
    out = folder / target
    command += [*map(str, sources), *FLAGS, f"-I{CSRC}", f"-I{FUZZ}", *options, "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def run(program: Path, seeds: str, tmp_path: Path, runs: int, *options: str) -> tuple[int, str]:
    """The exit status, and what was said."""
    paths = os.pathsep.join([str(ROOT), str(FUZZ)])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, str(FUZZ / "corpus.py"), str(tmp_path / "seeds")]
    subprocess.run(command, check=True, env=environment)
    found = tmp_path / "found"
    found.mkdir()
    command = [str(program), f"-runs={runs}", "-seed=1", "-max_len=32768", *options]
    command += [f"-artifact_prefix={tmp_path}/input-", str(found), str(tmp_path / "seeds" / seeds)]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False, env=environment
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("target", [*NATIVE, *READERS])
def test_nothing_is_found(
    target: str, build: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    driver = "ours" if libfuzzer(tmp_path) is None else "libFuzzer"
    options = [f"-malloc_limit_mb={MOST.get(target, 64)}"]
    options += [f"--reader={target}"] if target in READERS else []
    program = build("readers" if target in READERS else target, driver)
    status, said = run(program, target, tmp_path, RUNS, *options)
    kept = sorted(map(str, tmp_path.glob("input-*")))
    assert status == 0, f"{kept}\n{said[-20_000:]}"
    executed = re.search(r"Done (\d+) runs", said)
    assert executed is not None
    assert int(executed[1]) >= RUNS
    with capsys.disabled():
        print(f"\n{target} by {driver}: {executed[1]} inputs, nothing found")


@pytest.mark.parametrize("driver", ["libFuzzer", "ours"])
def test_a_planted_mistake_is_found(driver: str, build: Build, tmp_path: Path) -> None:
    """Something that no seed has: a header must move, or get another name and a checksum that fits."""
    status, said = run(build("scan", driver, "-DPYI_PLANTED"), "scan", tmp_path, 200_000)
    assert status != 0
    assert "does not hold: a planted mistake is never reached" in said
    assert len(list(tmp_path.glob("input-*"))) == 1


@pytest.mark.parametrize(
    ("mistake", "report"),
    [("overflow", "heap-buffer-overflow"), ("claim", "out-of-memory"), ("error", "ZeroDivisionError")],
)
def test_a_mistake_planted_in_python_is_found(
    mistake: str, report: str, build: Build, tmp_path: Path
) -> None:
    """Behind checks of a manifest's fields."""
    driver = "ours" if libfuzzer(tmp_path) is None else "libFuzzer"
    if driver == "ours" and mistake == "claim":
        pytest.skip("libFuzzer counts what is allocated")
    options = ["-malloc_limit_mb=64", f"--reader=planted_{mistake}"]
    status, said = run(build("readers", driver), "manifest", tmp_path, 200_000, *options)
    assert status != 0
    assert report in said
    assert len(list(tmp_path.glob("input-*"))) == 1
