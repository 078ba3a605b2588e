"""Measures of the users' own: Python functions of one sample, run by the native loop on all threads."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from pyimportance import _C
from pyimportance.errors import ArgumentError
from pyimportance.score import inputs
from pyimportance.score.dynamics import Dynamics
from pyimportance.score.history import NAMES
from pyimportance.score.measures.compiled import Compiled, compile_of_history, compile_of_logits
from pyimportance.score.measures.history import parts
from pyimportance.score.measures.registry import IMPORTANT, REGISTRY, Array, Measure
from pyimportance.score.values import Scores
from pyimportance.threads import default_threads

F = TypeVar("F", bound=Callable[..., float])

_OWN: dict[str, Callable[..., float]] = {}  # of a history; they stand in the registry too
_OF_LOGITS: dict[str, tuple[str, Callable[..., float]]] = {}  # with what a high value means
_COMPILED: dict[Callable[..., float], Compiled] = {}


def measure(name: str, *, high: str, of: str = "history") -> Callable[[F], F]:
    """Makes a function of one sample a measure: ``@measure("spread", high="ambiguous")``.

    name  what `score` (of="logits": `score_logits`) is to know it by; not that of a built-in measure. Your
          own may be defined anew
    high  what a high value means: hard, ambiguous, rare, easy, clean or settled; the first three are the more
          important end
    of    "history": the parameters are any of loss, p_true, correct, margin, el2n, entropy and grand, each
          the float64 [n] array of that sample's observations in order, n > 0. A history must have been kept.
          "logits": the parameters are ``logits``, float64 [C], and ``target``, an integer

    The function returns one number; NaN: no score, and the scores' metadata say of how many samples that were
    observed ("unscored"). It stays a function of Python. When the measure is first
    used, numba compiles it (nopython): it may use numbers, arrays, much of NumPy and other functions compiled
    by numba. Divisions by zero raise, and indexes are checked. What it raises, and what cannot be compiled,
    comes out of `score` as ArgumentError that names file, line and sample.

    Raises ArgumentError where an argument, or a parameter of the function, is none of these.
    """
    if type(name) is not str or not name.isidentifier():
        raise ArgumentError(f"name={name!r}: must be a word of letters, digits and _")
    if name in REGISTRY.keys() - _OWN.keys():
        raise ArgumentError(f"name={name!r}: there is a measure of that name")
    if high not in IMPORTANT:
        raise ArgumentError(f"high={high!r}: must be one of {', '.join(IMPORTANT)}")
    if of not in ("history", "logits"):
        raise ArgumentError(f"of={of!r}: must be 'history' or 'logits'")

    def register(function: F) -> F:
        wanted = _parameters(name, function, of)
        if of == "logits":
            _OF_LOGITS[name] = high, function
        else:
            _OWN[name] = function
            apply = partial(_score_history, name, function, wanted)
            compiling = partial(_of_history, name, function)
            REGISTRY[name] = Measure(
                name, high, (*wanted, "history"), apply, notes=_unscored_of_runs, prepare=compiling
            )
        return function

    return register


def _parameters(name: str, function: Callable[..., Any], of: str) -> tuple[str, ...]:
    if not inspect.isfunction(function):
        raise ArgumentError(f"measure {name!r}: {type(function).__name__}; must be a Python function")
    found = inspect.signature(function).parameters.values()
    allowed = NAMES if of == "history" else ("logits", "target")
    for parameter in found:
        if parameter.name not in allowed or parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
            raise ArgumentError(
                f"measure {name!r}: parameter {str(parameter)!r} of {function.__name__}; those of a measure "
                f"of {of} are {', '.join(allowed)}"
            )
    names = tuple(parameter.name for parameter in found)
    if not names or (of == "logits" and names != allowed):
        wanted = "at least one of" if of == "history" else "these, in this order:"
        raise ArgumentError(
            f"measure {name!r}: {function.__name__} takes {', '.join(names) or 'nothing'}; must take "
            f"{wanted} {', '.join(allowed)}"
        )
    return names


def _score_history(name: str, function: Callable[..., float], wanted: tuple[str, ...], d: Dynamics) -> Array:
    compiled = _of_history(name, function)
    values = np.full(d.num_samples, np.nan)
    assert d.history is not None
    for part in parts(d.num_samples, d.history.epochs * len(wanted)):
        arrays = [np.ascontiguousarray(d.history.array(quantity, part)) for quantity in wanted]
        values[part], failed = _C.score_histories(compiled.address, arrays, default_threads())
        if failed >= 0:
            seen = ~np.isnan(arrays[0][:, failed])
            sample = tuple(array[seen, failed] for array in arrays)
            raise compiled.failure(sample, f"sample {part.start + failed}")
    return values


def score_logits(
    logits: Any, targets: Any, measure: str, *, ids: Any = None, descending: bool | None = None
) -> Scores:
    """Scores of a batch by a measure of your own of one sample's logits (``@measure(name, of="logits")``).

    logits      [B, C] floating point, NumPy or torch; float64 is read as float32
    targets     [B] integers 0..C-1
    measure     its name
    ids         [B] sample ids, each once, in any order; None: 0..B-1. The scores are in the order of the ids
    descending  whether a high score is the more important; by default as ``high`` said

    Raises ArgumentError for an unknown name, wrong shapes or targets, an id that is there twice, and where
    the function cannot be compiled or fails, naming its line and the sample.
    """
    if measure not in _OF_LOGITS:
        raise ArgumentError(
            f"measure={measure!r}: must be one of your own of logits, here {', '.join(_OF_LOGITS) or 'none'}"
        )
    high, function = _OF_LOGITS[measure]
    rows = inputs.as_array("targets", targets).size
    z = inputs.matrix("logits", logits, (rows, "C"))
    y = inputs.class_numbers("targets", targets, rows, z.shape[1])
    numbers = np.arange(rows, dtype=np.int64) if ids is None else inputs.integers("ids", ids)
    if numbers.shape != (rows,):
        raise ArgumentError(f"ids: {numbers.size} of them for {rows} rows of logits")
    compiled = _compiled(function, lambda: compile_of_logits(measure, function))
    values, failed = _C.score_rows(compiled.address, z, y, default_threads())
    if failed >= 0:
        arguments = inputs.as_array("logits", logits)[failed].astype(np.float64), int(y[failed])
        raise compiled.failure(arguments, f"sample {numbers[failed]}")
    order = np.argsort(numbers, kind="stable")
    with np.errstate(over="ignore"):
        scores: npt.NDArray[np.float32] = values[order].astype(np.float32)
    return Scores(
        values=scores,
        ids=None if ids is None else numbers[order],
        measure=measure,
        metadata=_unscored(np.isnan(values)),
        descending=IMPORTANT[high] if descending is None else descending,
    )


def _unscored(without: npt.NDArray[np.bool_]) -> dict[str, str]:
    count = np.count_nonzero(without)
    return {"unscored": str(count)} if count else {}


def _unscored_of_runs(runs: Sequence[Dynamics], values: npt.NDArray[np.float32]) -> dict[str, str]:
    return _unscored(np.isnan(values) & np.any([run.count > 0 for run in runs], axis=0))


def _of_history(name: str, function: Callable[..., float]) -> Compiled:
    return _compiled(function, lambda: compile_of_history(name, function))


def _compiled(function: Callable[..., float], compile_it: Callable[[], Compiled]) -> Compiled:
    if function not in _COMPILED:
        _COMPILED[function] = compile_it()
    return _COMPILED[function]
