"""Predictions of a classifier, given as logits or as probabilities; and their probabilities in float64.

What takes one takes the other, in any of four types, without a copy of the whole: blocks of samples are
converted as they are used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.checks import check_positive
from pyimportance.errors import ArgumentError
from pyimportance.score import inputs

Array = npt.NDArray[np.float64]

# How far from 1 a row of probabilities may sum: what 16-bit floats leave of it.
SUM_TOLERANCE = 0.01
BLOCK = 1 << 19  # numbers at a time: 4 MiB of float64, and a few temporaries of the size


@dataclass(frozen=True)
class Predictions:
    """Logits or probabilities [..., N, C], of passes, layers or members if there are axes before.

    name         "logits" or "probs": the argument they were given as
    values       float32, float64, float16 or inputs.BFLOAT16
    temperature  T > 0, by which logits are divided (1 for probabilities)
    axes         what errors call an index: ("pass", "row")
    """

    name: str
    values: npt.NDArray[Any]
    temperature: float
    axes: tuple[str, ...]

    @property
    def num_samples(self) -> int:
        """N."""
        return int(self.values.shape[-2])

    @property
    def num_classes(self) -> int:
        """C."""
        return int(self.values.shape[-1])

    def blocks(self) -> Iterator[tuple[slice, Array]]:
        """Samples, and their probabilities float64 [..., n, C], which sum to 1.

        ArgumentError, naming row and class, for NaN or +inf, and for what is no distribution.
        """
        if self.name == "probs":
            for part, p in self._widened():
                yield part, self._normalised(p, part.start)
            return
        for part, z in self.shifted_logits():
            with np.errstate(over="ignore"):  # to -inf, of probability 0
                p = np.exp(np.divide(z, self.temperature, out=z), out=z)
            p /= p.sum(-1, keepdims=True)
            yield part, p

    def shifted_logits(self) -> Iterator[tuple[slice, Array]]:
        """Samples, and their logits less the row's largest, float64 [..., n, C]; errors as of `blocks`."""
        for part, z in self._widened():
            self._check(z, ~(z < np.inf), part.start, "must be finite, or -inf")
            top = z.max(-1, keepdims=True)
            self._check_rows(top, top > -np.inf, part.start, "is -inf for every class")
            with np.errstate(over="ignore"):
                np.subtract(z, top, out=z)
            yield part, z

    def _widened(self) -> Iterator[tuple[slice, Array]]:
        each = max(1, BLOCK * self.num_samples // max(self.values.size, 1))
        for start in range(0, self.num_samples, each):
            part = slice(start, min(start + each, self.num_samples))
            yield part, widened(self.values[..., part, :])

    def _normalised(self, p: Array, start: int) -> Array:
        self._check(p, ~((p >= 0) & (p <= 1 + SUM_TOLERANCE)), start, "must be within 0..1")
        total = p.sum(-1, keepdims=True)
        fine = np.abs(total - 1) <= SUM_TOLERANCE
        self._check_rows(total, fine, start, "sums to {:g}; must be 1, give or take 0.01")
        p /= total
        return p

    def _check(self, values: Array, wrong: npt.NDArray[np.bool_], start: int, wanted: str) -> None:
        if wrong.any():
            *at, k = (int(i) for i in np.argwhere(wrong)[0])
            value = values[(*at, k)]
            raise ArgumentError(f"{self.name}: {value:g} at {self._place(at, start)}, class {k}; {wanted}")

    def _check_rows(self, values: Array, fine: npt.NDArray[np.bool_], start: int, problem: str) -> None:
        if not fine.all():
            at = [int(i) for i in np.argwhere(~fine)[0]]
            raise ArgumentError(
                f"{self.name}: {self._place(at[:-1], start)} {problem.format(values[tuple(at)])}"
            )

    def _place(self, at: list[int], start: int) -> str:
        at = [*at[:-1], at[-1] + start]
        return ", ".join(f"{axis} {i}" for axis, i in zip(self.axes, at, strict=True))


def chosen(logits: Any, probs: Any, temperature: Any) -> tuple[str, Any, float]:
    """The name of the one that is not None, it itself, and the temperature: 1 of probabilities."""
    if (logits is None) == (probs is None):
        raise ArgumentError("logits, probs: exactly one of the two must be given")
    name, value = ("logits", logits) if probs is None else ("probs", probs)
    scale = check_positive("temperature", temperature)
    if name == "probs" and scale != 1:
        raise ArgumentError(f"temperature={temperature!r}: is of logits; probabilities have none")
    return name, value, scale


def predictions(
    logits: Any,
    probs: Any,
    shape: tuple[int | str, ...],
    *,
    temperature: Any = 1.0,
    axes: tuple[str, ...] = ("row",),
) -> Predictions:
    """The one of ``logits`` and ``probs`` that is not None; its shape (inputs.floats) ends in classes."""
    name, value, scale = chosen(logits, probs, temperature)
    array = inputs.floats(name, value, shape, bfloat16=True)
    if array.ndim and array.shape[-1] == 0:
        raise ArgumentError(f"{name}: shape {list(array.shape)}; there must be at least one class")
    return Predictions(name, _native(array), scale, axes)


def entropy(p: Array) -> Array:
    """Of probabilities [..., C], in nats; at least 0."""
    terms = p * np.log(np.where(p > 0, p, 1.0))
    values: Array = np.maximum(-terms.sum(-1), 0.0)
    return values


def widened(array: npt.NDArray[Any]) -> Array:
    """A copy in float64."""
    if array.dtype == inputs.BFLOAT16:
        bits = np.ascontiguousarray(array).view(np.uint16).astype(np.uint32) << 16
        return bits.view(np.float32).astype(np.float64)
    return array.astype(np.float64)


def _native(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Of a type, alignment and byte order that native code reads where it lies; else a copy."""
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype(np.float64)
    whole = all(stride % array.itemsize == 0 for stride in array.strides)
    if array.flags.aligned and array.dtype.isnative and whole:
        return array
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
