"""How kernels are started (csrc/launch.h), and that these tests run all of their source on the host."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.score.gpu.conftest import ARCHITECTURES

ROOT = Path(__file__).parents[3]
PROGRAM = """
#include "launch.h"
int started = 0;
void kernel(int) { started = 1; }
int main() {
  using pyi::cuda::launch;
  const std::int64_t many[] = {std::int64_t{1} << 31, (std::int64_t{1} << 32) + 1, INT64_MAX};
  for (std::int64_t blocks : many) {
    if (launch(kernel, blocks, nullptr, 1) != cudaErrorInvalidConfiguration || started) return 1;
  }
  if (launch(kernel, 0, nullptr, 1) != cudaSuccess || started) return 2;
  return launch(kernel, 2, nullptr, 1) == cudaSuccess && started ? 0 : 3;
}
"""


def test_more_blocks_than_a_grid_has(tmp_path: Path) -> None:
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    (tmp_path / "program.cpp").write_text(PROGRAM)
    command = [compiler, "-std=c++17", "-w", f"-I{Path(__file__).parent / 'on_host'}", f"-I{ROOT / 'csrc'}"]
    subprocess.run([*command, str(tmp_path / "program.cpp"), "-o", str(tmp_path / "program")], check=True)
    assert subprocess.run([str(tmp_path / "program")], check=False).returncode == 0


def test_every_branch_for_an_architecture_is_run_on_the_host() -> None:
    """What is written in PTX stands in one file, in whose place they have another."""
    branches = set()
    for path in sorted((ROOT / "csrc").rglob("*.*")):
        for condition in re.findall(r"^ *#.*__CUDA_ARCH__.*", path.read_text(), re.MULTILINE):
            rest = re.sub(r"#ifn?def __CUDA_ARCH__|defined\(__CUDA_ARCH__\)", "", condition)
            branches |= {int(limit) for limit in re.findall(r"__CUDA_ARCH__ >= (\d+)", rest)}
            assert "__CUDA_ARCH__" not in re.sub(r"__CUDA_ARCH__ >= \d+", "", rest), f"{path}: {condition}"
        assert path.name == "ptx.h" or not re.search(r"\basm\b", path.read_text()), path
    edges = sorted(branches)
    assert edges
    sides = {sum(each >= edge for edge in edges) for each in ARCHITECTURES}
    assert sides == set(range(len(edges) + 1))


def test_each_architecture_is_another_module(on_host: Callable[[int], ModuleType]) -> None:
    modules = [on_host(each) for each in ARCHITECTURES]
    assert len({id(module.rows) for module in modules}) == len(ARCHITECTURES)
    files = [module.__file__ or "" for module in modules]
    assert all(f"sm_{each // 10}_" in file for each, file in zip(ARCHITECTURES, files, strict=True))
