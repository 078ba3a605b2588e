"""Builds pyimportance._C (always) and pyimportance._cuda (where nvcc is found, or asked for).

PYIMPORTANCE_CUDA=auto|0|1 decides about CUDA by the compiler, never by a visible GPU: "auto" builds
it where nvcc is on PATH, "0" never, "1" fails loudly without nvcc.
"""

import os
import shutil
import subprocess
from pathlib import Path

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension
from pybind11.setup_helpers import build_ext as pybind11_build_ext
from setuptools import setup

CSRC = Path("csrc")
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
NEWEST_HEADER = max((h.stat().st_mtime for h in CSRC.rglob("*.h")), default=0.0)


def sources(suffix: str) -> list[str]:
    return sorted(str(path) for path in CSRC.rglob(f"*{suffix}"))


def outdated(obj: str, src: str) -> bool:
    """Recompile when the source, or any header, is newer than the object."""
    return not os.path.exists(obj) or os.stat(obj).st_mtime < max(os.stat(src).st_mtime, NEWEST_HEADER)


def find_nvcc() -> str | None:
    mode = os.environ.get("PYIMPORTANCE_CUDA", "auto")
    if mode not in ("auto", "0", "1"):
        raise SystemExit(f"PYIMPORTANCE_CUDA is {mode!r}; allowed are auto, 0 and 1")
    nvcc = None if mode == "0" else shutil.which("nvcc")
    if mode == "1" and nvcc is None:
        raise SystemExit("PYIMPORTANCE_CUDA=1, but there is no nvcc on PATH")
    return nvcc


def cuda_home(nvcc: str) -> Path:
    """The toolkit's folder, from the compiler itself: the one on PATH may be a link or a wrapper script."""
    plan = subprocess.run(
        [nvcc, "--dryrun", "-x", "cu", os.devnull], capture_output=True, text=True, check=True
    )
    top = next(line for line in plan.stderr.splitlines() if line.startswith("#$ TOP="))
    return Path(top.removeprefix("#$ TOP=")).resolve()


class build_ext(pybind11_build_ext):  # noqa: N801 (setuptools' name)
    """setuptools knows no .cu files: nvcc compiles them to objects, which the extension then links."""

    def build_extension(self, ext: Pybind11Extension) -> None:
        if nvcc := find_nvcc():
            names = [str(src) for src in ext.sources]
            ext.sources = [name for name in names if not name.endswith(".cu")]
            ext.extra_objects += [self.compile_kernel(nvcc, name) for name in names if name.endswith(".cu")]
        super().build_extension(ext)

    def compile_kernel(self, nvcc: str, src: str) -> str:
        obj = str(Path(self.build_temp) / src) + ".o"
        if outdated(obj, src):
            Path(obj).parent.mkdir(parents=True, exist_ok=True)
            gencode = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in ARCHITECTURES]
            gencode.append(f"-gencode=arch=compute_{ARCHITECTURES[-1]},code=compute_{ARCHITECTURES[-1]}")
            flags = ["-O3", "-std=c++17", "-Xcompiler=-fPIC,-fvisibility=hidden", "-Werror=all-warnings"]
            subprocess.check_call([nvcc, *flags, *gencode, "-Icsrc", "-c", src, "-o", obj])
        return obj


# What a change of should rebuild everything, and what a source distribution needs besides the sources.
NATIVE = sources(".h") + sources(".cu") + sources(".cuda.cc")
CXX_FLAGS = ["-O3", "-std=c++17", "-pthread", "-Wall", "-Wextra", "-fvisibility=hidden"]
extensions = [
    Pybind11Extension(
        "pyimportance._C",
        sources(".cpp"),
        depends=NATIVE,
        include_dirs=["csrc"],
        extra_compile_args=CXX_FLAGS,
        extra_link_args=["-pthread"],
    )
]
if nvcc := find_nvcc():
    toolkit = cuda_home(nvcc)
    extensions.append(
        Pybind11Extension(
            "pyimportance._cuda",
            sources(".cu") + sources(".cuda.cc"),
            depends=NATIVE,
            include_dirs=["csrc", str(toolkit / "include")],
            library_dirs=[str(toolkit / "lib64")],
            libraries=["cudart_static", "rt", "dl"],  # the wheel then needs nothing but the driver
            extra_compile_args=CXX_FLAGS,
            extra_link_args=["-pthread"],
        )
    )

ParallelCompile("PYIMPORTANCE_BUILD_JOBS", default=0, needs_recompile=outdated).install()
setup(ext_modules=extensions, cmdclass={"build_ext": build_ext})
