"""Fixtures every test may use."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests import forked

# OpenMP's threads (torch's) wait for each other in busy loops. On a loaded machine that takes ten times
# as much as their work. Read when torch is imported, also by processes that tests start.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# A shell's background job ignores SIGINT, and so would all that tests start and interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

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


@pytest.fixture(scope="session", autouse=True)
def fsync() -> Iterator[Callable[[int], None]]:
    """The real os.fsync. Here it waits for no disk, as nobody pulls the plug; in other processes it does."""
    real = os.fsync
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)
        yield real


@pytest.fixture
def run_ranks(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """``run_ranks("script.py", size, *args)``: what each rank's ``main(rank, size, *args)`` returned, as JSON
    has it. The script stands beside the test; the ranks are gloo's.
    """

    def run(script: str, size: int, *args: Any) -> list[Any]:
        folder, path = tmp_path_factory.mktemp("ranks"), str(request.path.parent / script)
        ends = forked.together(
            forked.rank, [(path, folder, rank, size, args) for rank in range(size)], folder
        )
        assert ends == [""] * size, "\n".join(ends)
        return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(size)]

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
