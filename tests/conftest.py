"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

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
