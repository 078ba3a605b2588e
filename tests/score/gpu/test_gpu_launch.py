"""How kernels are started (csrc/launch.h): more blocks than a grid has are refused, not cut down."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

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
