"""Benches that get an answer wrong: what is wrong -> (bench, what it must say, what makes it so)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

Function = Callable[..., Any]
Breaks = Callable[[ModuleType, pytest.MonkeyPatch], None]


class Mutants(dict[str, tuple[str, str, Breaks]]):
    """``@mutants(bench, says)`` makes a function that breaks the bench's module one of them, by its name."""

    def __call__(self, bench: str, says: str) -> Callable[[Breaks], Breaks]:
        def register(breaks: Breaks) -> Breaks:
            self[breaks.__name__] = (bench, says, breaks)
            return breaks

        return register


def from_call(number: int, right: Function, wrong: Function) -> Function:
    """``right`` in the first calls, as a check of the first answer alone would see."""
    calls = 0

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        return (right if calls < number else wrong)(*args, **kwargs)

    return call


def traded(parts: Any) -> Any:
    """The last sample of worker 0 and the first of worker 1 change places."""
    order, end = parts.order.copy(), parts.offsets[1]
    order[[end - 1, end]] = order[[end, end - 1]]
    return dataclasses.replace(parts, order=order)
