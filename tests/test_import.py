"""`import pyimportance` stays light."""

from __future__ import annotations

import subprocess
import sys

import pytest

import pyimportance

HEAVY = ("torch", "numba", "scipy", "pyarrow", "webdataset", "obstore")


def loaded(statement: str) -> list[str]:
    code = f"import sys; {statement}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout.split()


def test_import_is_light() -> None:
    assert loaded("import pyimportance") == []


def test_the_light_import_test_can_fail() -> None:
    assert loaded("import pyimportance, pyarrow") == ["pyarrow"]


def test_every_public_name_resolves() -> None:
    for name in pyimportance.__all__:
        assert getattr(pyimportance, name) is not None


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = pyimportance.nonsense
