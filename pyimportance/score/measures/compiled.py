"""A Python function of one sample, compiled by numba to one that the native loop calls without the GIL.

A compiled function cannot raise through native code (numba would print and go on with 0). So it is called
inside a try, says by its status that it failed, and the sample it failed for is then looked at in Python.
Indexes are checked, as they are in Python: a sample that was observed once has no ``loss[5]``.
"""

from __future__ import annotations

import importlib
import re
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyimportance.errors import ArgumentError

_NEEDS_NUMBA = "measures of your own need numba, which is not installed: pip install numba"


@dataclass(frozen=True)
class Compiled:
    """The address of ``int32 f(const double*, int64 n[, int64 target], double* score)``; 0: it went well."""

    name: str
    function: Callable[..., float]
    dispatcher: Any  # the same, compiled, to be called from Python
    callback: Any  # whose code lies at the address

    @property
    def address(self) -> int:
        return int(self.callback.address)

    def failure(self, arguments: tuple[Any, ...], sample: str) -> ArgumentError:
        """What to raise about a sample for which the callback failed."""
        error, line = _raised(self.dispatcher, self.function, arguments)
        if line is None:
            line = _line_in_python(self.function, arguments, error)
        problem = (
            f"{type(error).__name__}: {error}" if error is not None else "it failed, and then did not again"
        )
        where = f"{self.function.__code__.co_filename}:{line or self.function.__code__.co_firstlineno}"
        return ArgumentError(f"measure {self.name!r}: {where}: {problem} (for {sample})")


def compile_of_history(name: str, function: Callable[..., float]) -> Compiled:
    """Of float64 [n] arrays, as many as it has parameters."""
    count = len(parameters(function))
    rows = ", ".join(f"numbers[{i}]" for i in range(count))
    return _compile(name, function, "numbers, n, score", f"numbers = carray(numbers, ({count}, n))", rows)


def compile_of_logits(name: str, function: Callable[..., float]) -> Compiled:
    """Of float64 [C] and an int64."""
    return _compile(
        name, function, "logits, n, target, score", "logits = carray(logits, n)", "logits, target"
    )


def parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of a function's positional parameters."""
    code = function.__code__
    return code.co_varnames[: code.co_argcount]


def _compile(name: str, function: Callable[..., float], given: str, prepare: str, passed: str) -> Compiled:
    try:
        numba: Any = importlib.import_module("numba")
    except ImportError:
        raise ArgumentError(f"measure {name!r}: {_NEEDS_NUMBA}") from None
    types = numba.types
    row, number, pointer = types.Array(types.float64, 1, "C"), types.int64, types.CPointer(types.float64)
    target = "target" in given
    dispatcher = numba.njit(boundscheck=True)(function)
    try:
        dispatcher.compile((row, number) if target else (row,) * len(parameters(function)))
        # numba unpacks no arrays into arguments, so the call is written out.
        source = (
            f"def callback({given}):\n"
            f"    {prepare}\n"
            f"    try:\n"
            f"        score[0] = float(measure({passed}))\n"
            f"    except Exception:\n"
            f"        return 1\n"
            f"    return 0\n"
        )
        scope = {"carray": numba.carray, "measure": dispatcher}
        exec(source, scope)
        signature = types.int32(pointer, number, *((number,) if target else ()), pointer)
        callback = numba.cfunc(signature)(scope["callback"])
    except Exception as error:  # numba's own, and whatever its passes raise for code they do not know
        raise _cannot_be_compiled(name, function, error) from error
    return Compiled(name, function, dispatcher, callback)


def _cannot_be_compiled(name: str, function: Callable[..., Any], error: Exception) -> ArgumentError:
    file, first = function.__code__.co_filename, function.__code__.co_firstlineno
    last = max((line for *_, line in function.__code__.co_lines() if line), default=first)
    named = (
        int(match) for match in re.findall(r"line (\d+)|\((\d+)\)", str(error)) for match in match if match
    )
    line = next((number for number in named if first <= number <= last), first)
    said = [text for text in str(error).splitlines() if text.strip() and not text.startswith("Failed in")]
    problem = said[0] if said else type(error).__name__
    if "callback" in problem or "float(" in str(error):
        problem = f"must return one number ({problem})"
    return ArgumentError(f"measure {name!r}: {file}:{line}: numba cannot compile this: {problem}")


def _raised(
    call: Callable[..., Any], function: Callable[..., Any], arguments: Iterable[Any]
) -> tuple[Exception | None, int | None]:
    """What a call raises, and the line of the function that it comes from."""
    try:
        call(*arguments)
    except Exception as error:
        file, name = function.__code__.co_filename, function.__name__
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == file and frame.name == name]
        return error, lines[-1] if lines else None
    return None, None


def _line_in_python(
    function: Callable[..., Any], arguments: tuple[Any, ...], error: Exception | None
) -> int | None:
    """The line at which the function fails in Python: numba does not say where it divided by zero.

    NumPy's numbers divide by zero without an exception; those of Python, and NumPy asked to raise, do not.
    """
    floats = tuple(a.astype(object) if isinstance(a, np.ndarray) else a for a in arguments)
    expected = (type(error), FloatingPointError)
    for attempt in (floats, arguments):
        with np.errstate(divide="raise", invalid="raise"):
            found, line = _raised(function, function, attempt)
        if isinstance(found, expected) and line is not None:
            return line
    return None
