"""Parts of one size that batches get as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

from pyimportance.checks import check_integer
from pyimportance.errors import ArgumentError

DTYPES: Final = {
    **{"uint8": 1, "int8": 1, "int16": 2, "int32": 4, "int64": 8},
    **{"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8},
}
"""Bytes of an element, by torch's name of its type."""


@dataclass(frozen=True)
class Field:
    """A part that holds an array and nothing else: C order, little-endian as every machine this runs on."""

    extension: str
    dtype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ArgumentError(
                f"fields[{self.extension!r}]: dtype {self.dtype!r}; allowed are {', '.join(DTYPES)}"
            )
        shape = tuple(check_integer(f"fields[{self.extension!r}]: shape", n, 1) for n in self.shape)
        object.__setattr__(self, "shape", shape)

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * DTYPES[self.dtype]

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


def check_fields(fields: Mapping[str, tuple[str, Sequence[int]]] | None) -> tuple[Field, ...]:
    """``{"x": ("uint8", (32, 32, 3))}`` as Fields. Raises ArgumentError."""
    try:
        pairs = [(e, dtype, tuple(shape)) for e, (dtype, shape) in (fields or {}).items()]
    except (TypeError, ValueError, AttributeError):
        raise ArgumentError(f"fields={fields!r}: must be {{extension: (dtype, shape)}}") from None
    return tuple(Field(extension, dtype, shape) for extension, dtype, shape in pairs)
