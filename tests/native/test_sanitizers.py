"""The native code under AddressSanitizer with UndefinedBehaviorSanitizer, and under ThreadSanitizer.

`pytest -m sanitizers` builds the extension with each, into a copy of the package, and there runs the tests
that drive it once more, all work on several threads. Every report of any process of that run is a failure,
and a planted mistake of every kind must be reported. The interpreter and its packages are as they are: only
what csrc/ does is looked at.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [pytest.mark.sanitizers, pytest.mark.timeout(3 * 3600)]

ROOT = Path(__file__).parents[2]
FLAGS = ["-std=c++17", "-O1", "-g1", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all"]
FLAGS += ["-fPIC", "-pthread", "-fvisibility=hidden", "-D_GLIBCXX_ASSERTIONS"]
# Tests of how much a process may map or hold, of speed, of ranks, whose time goes into loading torch, and of
# forks in the midst of work, whose children the sanitizers' own locks and lists of threads stop; and of
# preloaded libraries, where the sanitizers want to be first.
UNFIT = "no_memory or test_memory or to_be_had or bounded_by or faster_than or test_exchange or forks_while"
UNFIT += " or test_faults or forked_child_has_threads"
# TSan ends a fork's child that begins a thread, as loader processes and other children that read do.
UNFIT_FOR_THREADS = f"{UNFIT} or hold_what_was_written or loader_process or forked_child"
NOT_NATIVE = ("tests/score/gpu", "tests/order/samplers")  # other code, and none at all


@dataclass(frozen=True)
class Sanitizer:
    """What the compiler calls it, its runtimes, a symbol that instrumented code has, the tests to run, and
    which of them not.
    """

    flag: str
    runtimes: tuple[str, ...]
    symbol: bytes
    tests: tuple[str, ...]
    least: int
    unfit: str


SANITIZERS = {
    "address": Sanitizer(
        "address,undefined",
        ("libasan.so", "libubsan.so"),
        b"__asan_init",
        (
            *(f"tests/{name}" for name in ("score", "order", "shards")),
            *(f"tests/load/test_{name}.py" for name in ("ahead", "ahead_native", "fields", "merge", "views")),
            "tests/test_pool.py",
        ),
        least=1000,
        unfit=UNFIT,
    ),
    "thread": Sanitizer(
        "thread",
        ("libtsan.so",),
        b"__tsan_init",
        (
            *(f"tests/score/test_{name}.py" for name in ("rows", "stored", "features", "tokens", "observe")),
            *(f"tests/score/test_{name}.py" for name in ("reduce", "ensembles", "own_measures", "merge")),
            "tests/score/test_every_measure.py",
            "tests/order/test_argsort.py",
            *(
                f"tests/shards/test_{name}.py"
                for name in ("scan", "crc32c", "copier", "write_shards", "verify")
            ),
            *(f"tests/load/test_{name}.py" for name in ("ahead", "ahead_native", "fields", "views")),
            "tests/test_pool.py",
        ),
        least=600,
        unfit=UNFIT_FOR_THREADS,
    ),
}
PLANTED = {
    "overflow": ("address", "int f() { int *x = new int[4]; int y = x[n]; delete[] x; return y; }"),
    "use after free": ("address", "int f() { int *x = new int[n]; delete[] x; return x[1]; }"),
    "signed overflow": ("address", "int f() { return n + 2147483647; }"),
    "vector": (
        "address",
        "#include <vector>\nint f() { std::vector<int> x(n); x.pop_back(); return x[n - 1]; }",
    ),
    "race": (
        "thread",
        "#include <thread>\nint f() { std::thread t([] { n = 1; }); n = 2; t.join(); return n; }",
    ),
}


def compiler() -> str:
    found = shutil.which("g++")
    if found is None:
        pytest.skip("there is no g++")
    return found


@dataclass(frozen=True)
class Tree:
    """A folder to build and run in, under a sanitizer."""

    folder: Path
    sanitizer: Sanitizer

    def build(self, sources: list[Path], out: Path, *options: str) -> None:
        """A shared library, two sources at a time."""
        flags = [*FLAGS, f"-fsanitize={self.sanitizer.flag}", *options]

        def compiled(numbered: tuple[int, Path]) -> str:
            made = f"{out}.{numbered[0]}.o"
            self._call([compiler(), *flags, "-c", str(numbered[1]), "-o", made])
            return made

        with ThreadPoolExecutor(2) as pool:
            objects = list(pool.map(compiled, enumerate(sources)))
        self._call([compiler(), *flags, "-shared", *objects, "-o", str(out)])
        assert self.sanitizer.symbol in out.read_bytes()

    def run(self, *arguments: str) -> tuple[subprocess.CompletedProcess[str], str]:
        """Python with these arguments, and the reports of it and of all processes that it started."""
        paths = [self._call([compiler(), f"-print-file-name={name}"]) for name in self.sanitizer.runtimes]
        if missing := [path for path in paths if not Path(path).is_absolute()]:
            pytest.skip(f"the compiler has no {', '.join(missing)}")
        common = f"log_path={self.folder / 'report'}:"
        environment = {
            **os.environ,
            "LD_PRELOAD": " ".join(paths),
            "ASAN_OPTIONS": common + "detect_leaks=0:allocator_may_return_null=1",
            "UBSAN_OPTIONS": common + "print_stacktrace=1",
            "TSAN_OPTIONS": common + "ignore_noninstrumented_modules=1",
            "PYTHONPATH": str(self.folder),
            "PYTHONMALLOC": "malloc",  # so that every object has bounds of its own
            "OMP_NUM_THREADS": "3",
            "PYIMPORTANCE_EVERY_THREAD": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        fixed = ["setarch", "--addr-no-randomize"]  # which older runtimes of TSan ask for
        able = shutil.which(fixed[0]) and subprocess.run([*fixed, "true"], check=False).returncode == 0
        command = [*(fixed if able else []), sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        return done, "\n".join(path.read_text() for path in sorted(self.folder.glob("report.*")))

    def _call(self, command: list[str]) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[str], Tree]:
    return lambda name: Tree(tmp_path, SANITIZERS[name])


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_is_reported(tree: Callable[[str], Tree], tmp_path: Path, mistake: str) -> None:
    name, code = PLANTED[mistake]
    source, library = tmp_path / "planted.cpp", tmp_path / "planted.so"
    source.write_text(
        "static volatile int n = 4;\n"
        + code
        + '\nextern "C" __attribute__((visibility("default"))) int g() { return f(); }\n'
    )
    planted = tree(name)
    planted.build([source], library, "-O0")
    done, reports = planted.run("-c", f"import ctypes; ctypes.CDLL({str(library)!r}).g()")
    assert done.returncode != 0
    said = reports + done.stderr  # the library's own assertions write there
    assert "planted.cpp" in said or "Assertion" in said


@pytest.mark.parametrize("name", SANITIZERS)
def test_the_native_code(
    tree: Callable[[str], Tree], tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pybind11 = pytest.importorskip("pybind11")
    native, sanitizer = tree(name), SANITIZERS[name]
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    for folder in ("pyimportance", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    includes = [ROOT / "csrc", pybind11.get_include(), sysconfig.get_paths()["include"]]
    extension = tmp_path / "pyimportance" / f"_C{sysconfig.get_config_var('EXT_SUFFIX')}"
    native.build(sorted((ROOT / "csrc").rglob("*.cpp")), extension, *(f"-I{path}" for path in includes))
    options = ["-q", "-n", "2", "-p", "no:cacheprovider", "-k", f"not ({sanitizer.unfit})"]
    options += [f"--ignore={folder}" for folder in NOT_NATIVE]
    done, reports = native.run("-m", "pytest", *options, "-o", "timeout=3600", *sanitizer.tests)
    ran = re.search(r"(\d+) passed", done.stdout)
    with capsys.disabled():
        print(f"\n{name}: {ran[0] if ran else 'no test passed'}, {reports.count('SUMMARY')} findings")
    assert not reports, reports
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
    assert ran is not None
    assert int(ran[1]) >= sanitizer.least
