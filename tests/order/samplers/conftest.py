"""How far a mean over many draws may lie from what is claimed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest

Z = Callable[[Sequence[float], float, float], float]


def standard_errors(observed: Sequence[float], expected: float, variance: float) -> float:
    """Between the mean of independent draws and its expectation, the variance of one draw being known."""
    return (math.fsum(observed) / len(observed) - expected) / math.sqrt(variance / len(observed))


@pytest.fixture(scope="session")
def z() -> Z:
    return standard_errors
