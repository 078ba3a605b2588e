"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Machines under load miss deadlines; a test that is too slow meets pytest's own timeout.
settings.register_profile("pyimportance", deadline=None)
settings.load_profile("pyimportance")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder with real data (CIFAR-10 as WebDataset tars); tests that need it skip without it."""
    folder = os.environ.get("PYIMPORTANCE_TEST_DATA")
    if not folder:
        pytest.skip("PYIMPORTANCE_TEST_DATA names no folder with test data")
    return Path(folder).resolve()
