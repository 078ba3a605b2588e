"""The choice of the native code, and what is said where there is none."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from pathlib import Path

import pytest
import torch

import pyimportance
from pyimportance import ArgumentError, PyimportanceError
from pyimportance.score.engine import cuda, engine
from pyimportance.score.host import HostEngine


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which the import system looks for pyimportance's modules that are not loaded yet."""
    loaded = sys.modules.pop("pyimportance._cuda", None)
    monkeypatch.setattr(pyimportance, "__path__", [str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", [PathFinder])  # an editable install's finder goes by no path
    importlib.invalidate_caches()
    yield tmp_path
    sys.modules.pop("pyimportance._cuda", None)
    vars(pyimportance).pop("_cuda", None)
    if loaded is not None:
        sys.modules["pyimportance._cuda"] = loaded


def test_devices() -> None:
    assert isinstance(engine("cpu", 4), HostEngine)
    for device in ("tpu", "cuda:", "cuda:x", "cpu:0", 3):
        with pytest.raises(ArgumentError, match=f'device=\'{device}\': must be "cpu", "cuda" or "cuda:N"'):
            engine(device, 4)
    if not torch.cuda.is_available():
        with pytest.raises(ArgumentError, match="device='cuda': torch finds no CUDA device"):
            engine("cuda", 4)


def test_the_cuda_extension_where_it_was_built(package: Path) -> None:
    (package / "_cuda.py").write_text("rows = 1\n")
    assert cuda().rows == 1


@pytest.mark.usefixtures("package")
def test_why_it_is_missing_where_it_was_not_built() -> None:
    text = r"_cuda is not built, as there was no usable nvcc on PATH or .* PYIMPORTANCE_CUDA=1 tells what is"
    with pytest.raises(PyimportanceError, match=text):
        cuda()


def test_why_it_is_missing_where_the_loader_refuses_it(package: Path) -> None:
    library = package / f"_cuda{EXTENSION_SUFFIXES[0]}"
    library.write_bytes(b"no library, but long enough for the header of one" * 10)
    with pytest.raises(PyimportanceError, match=rf"_cuda is built, but .*: {library}: invalid ELF header"):
        cuda()


def test_why_it_is_missing_where_it_misses_something_itself(package: Path) -> None:
    (package / "_cuda.py").write_text("import surely_not_there\n")
    with pytest.raises(PyimportanceError, match="is built, but it cannot be loaded: No module named 'surely"):
        cuda()
