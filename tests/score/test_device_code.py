"""The arithmetic of a row compiles as device code, in a kernel of one thread per row."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"

KERNEL = """
#include "observe/arithmetic.h"
#include "observe/row.h"

__global__ void rows(const float* logits, const long long* targets, pyi::Row* out, int classes, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const float* z = logits + static_cast<long long>(i) * classes;
  float top = -INFINITY, second = -INFINITY;
  int place = 0;
  for (int k = 0; k < classes; ++k) {
    second = fmaxf(second, fminf(z[k], top));
    if (z[k] > top) place = k, top = z[k];
  }
  pyi::Sums<double> sums{};
  for (int k = 0; k < classes; ++k) {
    if (k != place) pyi::add_class<double>(sums, z[k], top);
  }
  const bool right = targets[i] == place;
  const auto row = pyi::finish<double>(z[targets[i]], top, second, sums, right);
  out[i] = {row.loss, row.margin, static_cast<float>(sqrt(row.el2n_squared)), static_cast<float>(row.entropy),
            right ? pyi::kCorrect : pyi::kWrong};
}
"""


def test_the_arithmetic_compiles_for_the_device(tmp_path: Path) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc is not on PATH")
    (tmp_path / "rows.cu").write_text(KERNEL)
    command = [nvcc, "-std=c++17", "-arch=sm_80", "-Werror=all-warnings", f"-I{CSRC}", "-cubin", "rows.cu"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
