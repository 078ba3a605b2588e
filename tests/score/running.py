"""How the native code runs in a block of a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pyimportance import _C


@contextmanager
def instruction_set(name: str) -> Iterator[None]:
    before = _C.instruction_set()
    _C.use_instruction_set(name)
    try:
        yield
    finally:
        _C.use_instruction_set(before)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """On so many, however little there is to do."""
    before = _C.use_every_thread(True)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OMP_NUM_THREADS", str(count))
            yield
    finally:
        _C.use_every_thread(before)
