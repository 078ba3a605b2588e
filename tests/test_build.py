"""The build: PYIMPORTANCE_CUDA and the compiler decide which extensions there are, and failures are loud."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
CSRC = ROOT / "csrc"


def configure(mode: str, path: str) -> subprocess.CompletedProcess[str]:
    """Runs setup.py far enough to decide what would be built."""
    environment = {**os.environ, "PYIMPORTANCE_CUDA": mode, "PATH": path}
    command = [sys.executable, "setup.py", "--version"]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=250
    )


def test_asking_for_cuda_without_a_compiler_fails_and_says_so(tmp_path: Path) -> None:
    result = configure("1", str(tmp_path))
    assert result.returncode != 0
    assert "PYIMPORTANCE_CUDA=1, but there is no nvcc on PATH" in result.stderr


@pytest.mark.parametrize("mode", ["auto", "0"])
def test_no_compiler_is_no_error_otherwise(mode: str, tmp_path: Path) -> None:
    assert configure(mode, str(tmp_path)).returncode == 0


@pytest.mark.parametrize(("mode", "fails"), [("auto", False), ("1", True)])
def test_a_compiler_that_is_not_usable_is_named(mode: str, fails: bool, tmp_path: Path) -> None:
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\nexit 7\n")
    nvcc.chmod(0o755)
    result = configure(mode, f"{tmp_path}:/bin:/usr/bin")
    assert (result.returncode != 0) == fails
    assert f"{nvcc} is not usable" in result.stderr
    assert "exit status 7" in result.stderr


def test_an_unknown_mode_is_named(tmp_path: Path) -> None:
    result = configure("yes", str(tmp_path))
    assert result.returncode != 0
    assert "PYIMPORTANCE_CUDA is 'yes'; allowed are auto, 0 and 1" in result.stderr


def test_the_architectures_that_are_asked_for(tmp_path: Path) -> None:
    """None of those that this compiler knows: the error says which were asked for."""
    nvcc = tmp_path / "nvcc"
    nvcc.write_text('#!/bin/sh\n[ "$1" = --list-gpu-arch ] && echo compute_90 || echo "#$ TOP=/nowhere"\n')
    nvcc.chmod(0o755)
    for asked, fails in (("75,80", True), ("80,90", False), ("ninety", True)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYIMPORTANCE_CUDA_ARCHITECTURES", asked)
            result = configure("1", f"{tmp_path}:/bin:/usr/bin")
        assert (result.returncode != 0) == fails, result.stderr
        assert not fails or f"{nvcc} is not usable" in result.stderr
        assert asked != "75,80" or "none of the architectures (75, 80)" in result.stderr


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["PTX", "all"])
@pytest.mark.parametrize("source", sorted(CSRC.rglob("*.cu")), ids=lambda source: source.name)
def test_kernels_compile(source: Path, whole: bool, tmp_path: Path) -> None:
    """With the flags of setup.py, where no device is needed: to PTX, and for all architectures it builds."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("there is no nvcc")
    setup = (ROOT / "setup.py").read_text()
    flags = re.findall(r'"(-[^"]+)"', re.findall(r"NVCC_FLAGS = .*", setup)[0])
    assert {"-fmad=false", "-Werror=all-warnings"} <= set(flags)
    built = re.findall(r"\d+", re.findall(r"^ARCHITECTURES = .*", setup, re.MULTILINE)[0])
    known = subprocess.run(
        [nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=True
    ).stdout.split()
    usable = [a for a in built if f"compute_{a}" in known]  # an older nvcc lacks the newest
    assert "75" in built
    assert usable
    targets = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in usable] if whole else ["-arch=compute_90"]
    command = [nvcc, *flags, *targets, "-c" if whole else "-ptx", f"-I{CSRC}", str(source)]
    done = subprocess.run([*command, "-o", str(tmp_path / "o")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_cuda_extension_takes_device_tensors_only() -> None:
    if shutil.which("nvcc") is None:
        pytest.skip("there is no nvcc, so _cuda is not built")
    cuda = pytest.importorskip("pyimportance._cuda", reason="built with PYIMPORTANCE_CUDA=0")

    class OnTheHost:
        """A NumPy array that answers DLPack requests whatever the stream."""

        def __init__(self, array: np.ndarray) -> None:
            self.array = array

        def __dlpack__(self, stream: int) -> object:
            assert stream == 1  # the legacy default stream's number
            return self.array.__dlpack__()

    logits, targets = OnTheHost(np.zeros((2, 3), np.float32)), OnTheHost(np.zeros(2, np.int64))
    out = OnTheHost(np.zeros((2, 32), np.uint8))
    with pytest.raises(ValueError, match="logits: must be on a CUDA device"):
        cuda.rows(logits, targets, out, out, 0)
