"""Inputs that the tests of score share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest

from pyimportance import _C

Logits = Callable[[str, int, int, np.random.Generator], npt.NDArray[np.float32]]
KINDS = (
    "normal",
    "equal",
    "close",
    "margins",
    "huge",
    "ties",
    "confident",
    "masked",
    "offset",
    "tiny",
    "sparse",
)


@pytest.fixture(params=_C.instruction_sets())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test once with every instruction set that this processor has."""
    before = _C.instruction_set()
    _C.use_instruction_set(request.param)
    yield request.param
    _C.use_instruction_set(before)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """A way in which logits can be hard to get right."""
    return str(request.param)


@pytest.fixture(scope="session")
def make_logits() -> Logits:
    """(kind, rows, classes, generator) -> float32 [rows, classes], class 0 always finite."""
    return _logits


def _logits(kind: str, rows: int, classes: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    z = rng.standard_normal((rows, classes))
    if kind == "equal":
        z[:] = rng.choice([0.0, -3.5, 1e4], (rows, 1))
    elif kind == "close":
        z *= 1e-3
    elif kind == "margins":
        z[np.arange(rows), rng.integers(0, classes, rows)] += 10.0 ** rng.uniform(-3, 2, rows)
    elif kind == "huge":
        z = rng.choice([-1e4, 1e4, 9999.5, 0.0, -9999.0], (rows, classes))
    elif kind == "ties":
        z = np.round(z)
    elif kind == "confident":
        z[np.arange(rows), rng.integers(0, classes, rows)] += rng.choice([15, 20, 30, 40, 80], rows)
    elif kind == "masked":
        z[rng.random((rows, classes)) < 0.5] = -np.inf
        z[:, 0] = rng.standard_normal(rows)
    elif kind == "offset":
        z += rng.choice([-3e4, 3e4, 1e30], (rows, 1))
    elif kind == "tiny":  # subnormal, of either sign
        z *= rng.choice([1e-45, 1e-41, 1e-38], (rows, 1))
    elif kind == "sparse":  # whole vectors, and parts of a row, of nothing but -inf
        z[:, 1:] = np.where(rng.random((rows, classes - 1)) < 2 / classes, z[:, 1:], -np.inf)
    return z.astype(np.float32)
