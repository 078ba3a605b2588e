"""Fixtures every test may use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Machines under load miss deadlines; a test that is too slow meets pytest's own timeout. And a gate says the
# same of the same tree: examples do not change. `--hypothesis-profile=explore` looks for others.
settings.register_profile(
    "pyimportance",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
always = settings.get_profile("pyimportance")
settings.register_profile("explore", always, derandomize=False, max_examples=2000)
settings.load_profile("pyimportance")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder with real data (CIFAR-10 as WebDataset tars); tests that need it skip without it."""
    folder = os.environ.get("PYIMPORTANCE_TEST_DATA")
    if not folder:
        pytest.skip("PYIMPORTANCE_TEST_DATA names no folder with test data")
    return Path(folder).resolve()


RANK_MAIN = """
import importlib.util, json, os, sys
from torch import distributed as dist
import torch

torch.set_num_threads(1)
script, store, rank, size, args = sys.argv[1:]
spec = importlib.util.spec_from_file_location("ranks", script)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
dist.init_process_group("gloo", init_method=f"file://{store}", rank=int(rank), world_size=int(size))
result = module.main(int(rank), int(size), *json.loads(args))
dist.barrier()
dist.destroy_process_group()
print(json.dumps(result), flush=True)
os._exit(0)  # as Python ends, a thread of gloo that lets go of a Python object aborts the process
"""


@pytest.fixture
def run_ranks(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., list[Any]]:
    """``run_ranks("script.py", size, *args)``: each rank's ``main(rank, size, *args)``, JSON both ways.
    The script stands beside the test; the ranks are gloo's.
    """

    def run(script: str, size: int, *args: Any) -> list[Any]:
        store = tmp_path / "store"
        command = [sys.executable, "-c", RANK_MAIN, str(request.path.parent / script), str(store)]
        ranks = [
            subprocess.Popen(
                [*command, str(rank), str(size), json.dumps(args)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"},
            )
            for rank in range(size)
        ]
        try:
            outputs = [process.communicate(timeout=250) for process in ranks]
        finally:
            for process in ranks:
                process.kill()
        for process, (_, errors) in zip(ranks, outputs, strict=True):
            assert process.returncode == 0, errors
        return [json.loads(out.splitlines()[-1]) for out, _ in outputs]

    return run


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Objects behind URLs: retries soon, and few."""
    from pyimportance.io import remote

    soon = {"init_backoff": timedelta(milliseconds=1), "max_backoff": timedelta(milliseconds=5), "base": 2}
    retry = {"max_retries": 2, "retry_timeout": timedelta(seconds=10), "backoff": soon}
    monkeypatch.setattr(remote, "_RETRY", retry)
    remote._store.cache_clear()
    yield
    remote._store.cache_clear()
