"""Builds pyimportance._C (always) and pyimportance._cuda (where nvcc is found, or asked for).

PYIMPORTANCE_CUDA=auto|0|1 decides about CUDA by the compiler, never by a visible GPU: "auto" builds
it where nvcc is on PATH, "0" never, "1" fails loudly without nvcc. PYIMPORTANCE_CUDA_ARCHITECTURES, as
"80,90", names the devices to build for instead of all.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension
from pybind11.setup_helpers import build_ext as pybind11_build_ext
from setuptools import setup

CSRC = Path("csrc")
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
# Without fused multiply-adds but where the source asks for them, a fold gives the CPU's bits.
NVCC_FLAGS = ["-O3", "-std=c++17", "-fmad=false", "-Werror=all-warnings", "--threads=0"]
NVCC_FLAGS.append("-Xcompiler=-fPIC,-fvisibility=hidden")
NEWEST_HEADER = max((h.stat().st_mtime for h in CSRC.rglob("*.h")), default=0.0)


def sources(suffix: str) -> list[str]:
    return sorted(str(path) for path in CSRC.rglob(f"*{suffix}"))


def outdated(obj: str, src: str) -> bool:
    """Recompile when the source, or any header, is newer than the object."""
    return not os.path.exists(obj) or os.stat(obj).st_mtime < max(os.stat(src).st_mtime, NEWEST_HEADER)


class Toolkit(NamedTuple):
    nvcc: str
    home: Path
    architectures: list[int]


def find_toolkit() -> Toolkit | None:
    """The CUDA compiler to build with. Under "auto" one that is not usable is as good as none."""
    mode = os.environ.get("PYIMPORTANCE_CUDA", "auto")
    if mode not in ("auto", "0", "1"):
        raise SystemExit(f"PYIMPORTANCE_CUDA is {mode!r}; allowed are auto, 0 and 1")
    nvcc = None if mode == "0" else shutil.which("nvcc")
    if nvcc is None:
        if mode == "1":
            raise SystemExit("PYIMPORTANCE_CUDA=1, but there is no nvcc on PATH")
        return None
    try:
        return ask(nvcc)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        problem = f"{nvcc} is not usable ({error}): pyimportance._cuda is not built"
        if mode == "1":
            raise SystemExit(f"PYIMPORTANCE_CUDA=1, but {problem}") from None
        print(f"warning: {problem}", file=sys.stderr)
        return None


def ask(nvcc: str) -> Toolkit:
    """Where its toolkit lies (the nvcc on PATH may be a wrapper), and what it compiles for, as it says."""

    def output(*arguments: str) -> str:
        result = subprocess.run([nvcc, *arguments], capture_output=True, text=True, check=True)
        return result.stdout + result.stderr

    plan = output("--dryrun", "-x", "cu", os.devnull).splitlines()
    tops = [line.removeprefix("#$ TOP=") for line in plan if line.startswith("#$ TOP=")]
    known = output("--list-gpu-arch").split()
    asked = os.environ.get("PYIMPORTANCE_CUDA_ARCHITECTURES")
    wanted = ARCHITECTURES if asked is None else [int(text) for text in asked.split(",")]
    usable = [a for a in wanted if f"compute_{a}" in known]
    if not (tops and usable):
        raise ValueError(f"it names no toolkit, or none of the architectures {tuple(wanted)}")
    return Toolkit(nvcc, Path(tops[0]).resolve(), usable)


class build_ext(pybind11_build_ext):  # noqa: N801 (setuptools' name)
    """setuptools knows no .cu files: nvcc compiles them to objects, which the extension then links."""

    def build_extension(self, ext: Pybind11Extension) -> None:
        names = [str(src) for src in ext.sources]
        ext.sources = [name for name in names if not name.endswith(".cu")]
        ext.extra_objects += [self.compile_kernel(name) for name in names if name.endswith(".cu")]
        super().build_extension(ext)

    def compile_kernel(self, src: str) -> str:
        assert toolkit is not None
        obj = str(Path(self.build_temp) / src) + ".o"
        if outdated(obj, src):
            Path(obj).parent.mkdir(parents=True, exist_ok=True)
            newest = toolkit.architectures[-1]  # as PTX too, for devices that are newer still
            gencode = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in toolkit.architectures]
            gencode.append(f"-gencode=arch=compute_{newest},code=compute_{newest}")
            subprocess.check_call([toolkit.nvcc, *NVCC_FLAGS, *gencode, "-Icsrc", "-c", src, "-o", obj])
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
if toolkit := find_toolkit():
    extensions.append(
        Pybind11Extension(
            "pyimportance._cuda",
            sources(".cu") + sources(".cuda.cc"),
            depends=NATIVE,
            include_dirs=["csrc", str(toolkit.home / "include")],
            library_dirs=[str(toolkit.home / "lib64")],
            libraries=["cudart_static", "rt", "dl"],  # the wheel then needs nothing but the driver
            extra_compile_args=CXX_FLAGS,
            extra_link_args=["-pthread"],
        )
    )

ParallelCompile("PYIMPORTANCE_BUILD_JOBS", default=0, needs_recompile=outdated).install()
setup(ext_modules=extensions, cmdclass={"build_ext": build_ext})
