"""Scores: one importance score per sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError
from pyimportance.score import inputs

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, eq=False, repr=False)
class Scores:
    """One score per sample, and which end of it is the important one.

    values      float32 [N] (other real numbers are converted); NaN: no score, which sorts last
    ids         int64 [N] sample ids >= 0, strictly ascending; None: 0..N-1 (a billion cost 4 bytes each)
    measure     what the scores measure
    descending  True where a high value is the more important
    keys        N WebDataset keys in the order of the ids (strings; kept as an Arrow array), or None
    metadata    what else there is to know, str -> str: a fallback that was taken, a number of epochs

    The arrays are read-only. Raises ArgumentError where a field is not as described.
    """

    values: npt.NDArray[np.float32]
    ids: npt.NDArray[np.int64] | None = None
    measure: str = "custom"
    descending: bool = True
    keys: Sequence[str] | pa.Array | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        set_field = object.__setattr__  # the dataclass is frozen
        set_field(self, "values", _frozen("values", self.values, np.float32, "fiu"))
        if self.ids is not None:
            set_field(self, "ids", _frozen("ids", self.ids, np.int64, "iu"))
            self._check_ids(self.ids)
        if self.keys is not None:
            set_field(self, "keys", self._key_array(self.keys))
        if type(self.measure) is not str or type(self.descending) is not bool:
            raise ArgumentError(
                f"measure={self.measure!r}, descending={self.descending!r}: must be a string and a bool"
            )
        if not isinstance(self.metadata, Mapping):
            raise ArgumentError(f"metadata={self.metadata!r}: must be a mapping of strings to strings")
        for key, value in self.metadata.items():
            if type(key) is not str or type(value) is not str:
                raise ArgumentError(f"metadata: {key!r} is {value!r}; keys and values must be strings")
        set_field(self, "metadata", MappingProxyType(dict(self.metadata)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies are made anew, as read-only as this is (and a mappingproxy cannot be copied)."""
        fields = (self.values, self.ids, self.measure, self.descending, self.keys, dict(self.metadata))
        return type(self), fields

    def _check_ids(self, ids: npt.NDArray[np.int64]) -> None:
        if ids.shape != self.values.shape:
            raise ArgumentError(f"ids: {ids.size} of them for {self.values.size} values")
        if ids.size and ids[0] < 0:
            raise ArgumentError(f"ids: {ids[0]} at position 0 is negative")
        if (stays := ids[1:] <= ids[:-1]).any():
            at = int(stays.argmax()) + 1
            raise ArgumentError(
                f"ids: {ids[at]} at position {at} follows {ids[at - 1]}; ids must ascend strictly"
            )

    def _key_array(self, keys: Sequence[str] | pa.Array) -> pa.Array:
        import pyarrow as pa

        try:
            joined = keys.combine_chunks() if isinstance(keys, pa.ChunkedArray) else pa.array(keys)
            array = joined.cast(pa.large_string())
        except (pa.ArrowException, TypeError) as error:
            raise ArgumentError(f"keys: must be strings ({error})") from None
        if len(array) != self.num_samples or array.null_count:
            raise ArgumentError(
                f"keys: {len(array)} of them, {array.null_count} missing, for {self.num_samples} values"
            )
        return array

    @property
    def num_samples(self) -> int:
        """N."""
        return int(self.values.size)

    def sample_ids(self) -> npt.NDArray[np.int64]:
        """int64 [N]: the ids, written out where ``ids`` is None."""
        return np.arange(self.num_samples, dtype=np.int64) if self.ids is None else self.ids

    def save(self, path: str | PathLike[str]) -> None:
        """Write a Parquet file (columns id, key if known, score; the rest in its schema metadata).

        It appears whole or not at all: OutputError where it cannot be written.
        """
        from pyimportance.score.parquet import save_scores

        save_scores(self, path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Scores:
        """Read what ``save`` wrote. Raises DataError, naming the file, where it is anything else."""
        from pyimportance.score.parquet import load_scores

        return load_scores(path)

    def __repr__(self) -> str:
        end = "high" if self.descending else "low"
        return f"Scores({self.num_samples} samples, measure={self.measure!r}, important={end!r})"


def _frozen(name: str, value: npt.ArrayLike, dtype: type[np.generic], kinds: str) -> npt.NDArray[np.generic]:
    """A read-only C-contiguous view (a copy where the dtype differs)."""
    array = inputs.as_array(name, value)
    if array.dtype.kind not in kinds or array.ndim != 1:
        allowed = "integers" if dtype is np.int64 else "real numbers"
        raise ArgumentError(f"{name}: {array.dtype} of shape {list(array.shape)}; must be {allowed} [N]")
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and sorts as such
        view = np.ascontiguousarray(array, dtype=dtype).view()
    view.flags.writeable = False
    return view
