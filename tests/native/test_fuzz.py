"""Coverage-guided fuzzing of the native tar code under AddressSanitizer and UndefinedBehaviorSanitizer.

``pytest -m fuzz`` builds the targets in ``tests/native/fuzz`` with clang's libFuzzer (Debian: clang and
libclang-rt-dev), where there is none with g++ and a driver of our own that mutates blindly, and runs each
from the seeds of ``corpus.py``, as often as PYIMPORTANCE_FUZZ_RUNS in the environment says, a million times
by default; it prints which it was. What must hold of every input stands in the targets; a finding leaves its
input behind. What reads indexes, manifests and seek tables in Python runs under atheris where it is
installed, see ``fuzz/readers.py``, and in any case in ``tests/shards/test_mutated_files.py``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(12 * 3600)]

ROOT = Path(__file__).parents[2]
FUZZ = Path(__file__).parent / "fuzz"
TARGETS = sorted(path.stem.removeprefix("fuzz_") for path in FUZZ.glob("fuzz_*.cpp"))
RUNS = int(os.environ.get("PYIMPORTANCE_FUZZ_RUNS", "1000000"))
FLAGS = ["-std=c++17", "-O1", "-g1", "-fno-sanitize-recover=all", "-D_GLIBCXX_ASSERTIONS"]
SOURCES = [p for p in sorted((ROOT / "csrc" / "tar").glob("*.cpp")) if not p.name.startswith("bind")]
SOURCES.append(ROOT / "csrc" / "parallel.cpp")
OF_TARS = [FUZZ / "mutate.cpp"]  # an index has no headers to put right
READERS = ("manifest", "pointer", "notes", "index", "seek_table")  # of readers.py


def libfuzzer(tmp_path: Path) -> str | None:
    """A clang that has it."""
    source = tmp_path / "empty.cpp"
    source.write_text('extern "C" int LLVMFuzzerTestOneInput(const char *, unsigned long) { return 0; }\n')
    for name in ("clang++", *(f"clang++-{version}" for version in range(25, 10, -1))):
        command = [name, "-fsanitize=fuzzer,address,undefined", str(source), "-o", str(tmp_path / "empty")]
        if shutil.which(name) and subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return name
    return None


def build(target: str, driver: str, tmp_path: Path, *options: str) -> Path:
    out = tmp_path / target
    sources = [FUZZ / f"fuzz_{target}.cpp", *([] if target == "index" else OF_TARS), *SOURCES]
    command = ["g++", "-fsanitize=address,undefined", *map(str, [FUZZ / "driver.cpp", *sources])]
    if driver == "libFuzzer":
        clang = libfuzzer(tmp_path)
        if clang is None:
            pytest.skip("there is no clang with libFuzzer")
        command = [clang, "-fsanitize=fuzzer,address,undefined", *map(str, sources)]
    elif shutil.which("g++") is None:
        pytest.skip("there is no g++")
    includes = [f"-I{ROOT / 'csrc'}", f"-I{FUZZ}"]
    done = subprocess.run(
        [*command, *FLAGS, *options, *includes, "-o", str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return out


def run(program: Path, tmp_path: Path, runs: int) -> subprocess.CompletedProcess[str]:
    subprocess.run([sys.executable, str(FUZZ / "corpus.py"), str(tmp_path / "seeds")], check=True)
    found = tmp_path / "found"
    found.mkdir()
    folders = [str(found), str(tmp_path / "seeds" / program.name)]
    options = [f"-runs={runs}", "-seed=1", "-max_len=32768", f"-artifact_prefix={tmp_path}/input-"]
    return subprocess.run([str(program), *options, *folders], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_found(target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    driver = "ours" if libfuzzer(tmp_path) is None else "libFuzzer"
    done = run(build(target, driver, tmp_path), tmp_path, RUNS)
    kept = sorted(map(str, tmp_path.glob("input-*")))
    assert done.returncode == 0, f"{kept}\n{done.stderr[-20_000:]}"
    executed = re.search(r"Done (\d+) runs", done.stderr)
    assert executed is not None
    assert int(executed[1]) >= RUNS
    with capsys.disabled():
        print(f"\n{target} by {driver}: {executed[1]} inputs, nothing found")


@pytest.mark.parametrize("target", READERS)
def test_nothing_is_found_of_what_python_reads(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("atheris")
    runs = RUNS // 10  # Python under coverage is slow
    options = [target, f"-runs={runs}", "-seed=1", f"-artifact_prefix={tmp_path}/input-"]
    done = subprocess.run(
        [sys.executable, str(FUZZ / "readers.py"), *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    kept = sorted(map(str, tmp_path.glob("input-*")))
    assert done.returncode == 0, f"{kept}\n{done.stdout[-5_000:]}\n{done.stderr[-20_000:]}"
    assert f"Done {runs} runs" in done.stderr
    with capsys.disabled():
        print(f"\n{target} by atheris: {runs} inputs, nothing found")


@pytest.mark.parametrize("driver", ["libFuzzer", "ours"])
def test_a_planted_mistake_is_found(driver: str, tmp_path: Path) -> None:
    """Something that no seed has: a header must move, or get another name and a checksum that fits."""
    done = run(build("scan", driver, tmp_path, "-DPYI_PLANTED"), tmp_path, 200_000)
    assert done.returncode != 0
    assert "does not hold: a planted mistake is never reached" in done.stderr
    assert len(list(tmp_path.glob("input-*"))) == 1
