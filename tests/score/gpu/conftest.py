"""Where the CUDA kernels run in these tests: on a device, and compiled as C++ on the host (on_host/)."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pyimportance import Ensemble, Tracker
from pyimportance.score import engine, sums
from pyimportance.score.device import DeviceEngine
from pyimportance.score.device_sums import DeviceSums
from pyimportance.score.engine import cuda
from pyimportance.score.history import ROW

HERE = Path(__file__).parent
ROOT = HERE.parent.parent.parent


@dataclass(frozen=True)
class Machine:
    """The extension, where its tensors live, and the stream to enqueue on."""

    native: ModuleType
    device: torch.device
    stream: Callable[[], int]

    def tensor(self, value: npt.ArrayLike | torch.Tensor) -> torch.Tensor:
        tensor = value if isinstance(value, torch.Tensor) else torch.from_numpy(np.asarray(value))
        return tensor.to(self.device)

    def poisoned(self, *shape: int) -> torch.Tensor:
        """Bytes that no kernel writes."""
        return torch.full(shape, 0xA5, dtype=torch.uint8, device=self.device)

    def rows(self, logits: Any, targets: npt.ArrayLike) -> npt.NDArray[np.void]:
        """The rows [B] that the kernels make of logits [B, C]."""
        y = self.tensor(targets)
        out, scratch = self.poisoned(len(y), 32), self.poisoned(len(y), 32)
        self.native.rows(self.tensor(logits), y, scratch, out, self.stream())
        rows: npt.NDArray[np.void] = out.cpu().numpy().view(ROW).reshape(-1)
        return rows


@pytest.fixture(scope="session")
def on_host(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], ModuleType]:
    """pyimportance._cuda with the host as its device, of the architecture asked for (__CUDA_ARCH__)."""

    @cache
    def built(architecture: int) -> ModuleType:
        return _built(tmp_path_factory.mktemp(f"sm_{architecture // 10}_on_host"), architecture)

    return built


def _built(folder: Path, architecture: int) -> ModuleType:
    pybind11 = pytest.importorskip("pybind11", reason="the kernels on the host need it to be built")
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler to build the kernels for the host with")
    flags = ["-std=c++17", "-O1", "-fPIC", "-w", "-DPYI_DEVICE_TYPE=dlpack::kCPU"]
    flags += [f"-D__CUDA_ARCH__={architecture}"]
    includes = [HERE / "on_host", ROOT / "csrc", pybind11.get_include()]
    flags += [f"-I{path}" for path in (*includes, sysconfig.get_path("include"))]
    # The bindings are one source: most of what they take is parsing pybind11.
    bindings = sorted(str(path.relative_to(ROOT / "csrc")) for path in (ROOT / "csrc").rglob("*.cuda.cc"))
    (folder / "bindings.cc").write_text("".join(f'#include "{path}"\n' for path in bindings))
    sources = [folder / "bindings.cc", *sorted((ROOT / "csrc").rglob("*.cu"))]
    # No kernel, and so the same for all architectures.
    bound = folder.parent / "bindings_on_host.o"
    outputs = [bound, *(folder / f"{source.parent.name}_{source.name}.o" for source in sources[1:])]
    commands = [
        [compiler, *flags, "-x", "c++", "-c", str(source), "-o", str(output)]
        for source, output in zip(sources, outputs, strict=True)
        if not output.exists()
    ]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    for process in running:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    library = folder / f"_cuda{sysconfig.get_config_var('EXT_SUFFIX')}"
    subprocess.run([compiler, "-shared", *map(str, outputs), "-o", str(library)], check=True)
    return _loaded(library)


def _loaded(path: Path) -> ModuleType:
    # Of modules that are named alike, pybind11 takes the second for the first.
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}._cuda", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _on_device() -> Machine:
    if not torch.cuda.is_available():
        missing = pytest.fail if os.environ.get("PYIMPORTANCE_NEEDS_GPU") == "1" else pytest.skip
        missing("torch finds no CUDA device")
    native = cuda()  # raises, as there is a device, where the extension is not built
    device = torch.device("cuda", torch.cuda.current_device())
    return Machine(native, device, lambda: torch.cuda.current_stream(device).cuda_stream)


# An architecture for each branch that the source has for some (test_gpu_launch.py).
ARCHITECTURES = (750, 800)
ON_HOST = [pytest.param(each, id=f"sm_{each // 10} on the host") for each in ARCHITECTURES]


@pytest.fixture(params=[*ON_HOST, pytest.param(None, marks=pytest.mark.gpu, id="on a device")])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """Runs the test in all these places."""
    if request.param is None:
        yield _on_device()
        torch.cuda.synchronize()
    else:
        on_host = request.getfixturevalue("on_host")
        yield Machine(on_host(request.param), torch.device("cpu"), lambda: -1)


@pytest.fixture
def trackers(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tracker]:
    """Trackers whose state is where the kernels run: Tracker(..., device="cuda"), or as if on the host."""
    if machine.device.type == "cpu":
        choose = engine.engine

        def pretend(device: str, num_samples: int) -> engine.Engine:
            if device != "cuda":
                return choose(device, num_samples)
            return OnHost(num_samples, machine.device, machine.native)

        monkeypatch.setattr("pyimportance.score.tracker.engine", pretend)
    return partial(Tracker, device="cuda")


@pytest.fixture
def ensembles(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ensemble]:
    """Likewise ensembles; Ensemble.from_members is theirs too."""
    if machine.device.type == "cpu":
        choose = sums.make_sums

        def pretend(device: str, num_samples: int, num_classes: int) -> sums.Sums:
            if device != "cuda":
                return choose(device, num_samples, num_classes)
            return SumsOnHost(num_samples, num_classes, machine.device, machine.native)

        monkeypatch.setattr("pyimportance.score.ensembles.make_sums", pretend)
    return partial(Ensemble, device="cuda")


class NoStreams:
    """Tensors and kernels on the host."""

    @contextmanager
    def _stream(self) -> Iterator[int]:
        yield -1


class OnHost(NoStreams, DeviceEngine):
    pass


class SumsOnHost(NoStreams, DeviceSums):
    pass


@pytest.fixture
def device() -> Iterator[Machine]:
    """For what only a device can show."""
    yield _on_device()
    torch.cuda.synchronize()
