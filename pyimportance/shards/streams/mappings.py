"""Any iterable of samples as WebDataset has them: dicts with ``__key__`` and a field per part (fields.py)."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from pyimportance.errors import DataError
from pyimportance.io.meter import Meter
from pyimportance.shards.streams.fields import key_of, parts_of
from pyimportance.shards.streams.stream import Sample, Samples, State, Stream


def stream_of(samples: Iterable[Any], first: Mapping[str, Any]) -> Stream:
    """One unit; ``first`` is the first sample: all that tells it from another iterable."""
    what = "an iterable of samples"
    state = State(_sum_of(first))
    return Stream(what, (Samples("samples", what, partial(_read, samples), lambda: state),))


def _read(samples: Iterable[Any], meter: Meter | None) -> Iterator[Sample]:
    for number, sample in enumerate(samples):
        if not isinstance(sample, Mapping):
            raise DataError(f"sample {number}: is a {type(sample).__name__}; a dict is needed")
        try:
            yield key_of(sample), parts_of(sample)
        except DataError as e:
            raise DataError(f"sample {number}: {e.problem}", member=_shown_key(sample)) from None


def _sum_of(sample: Mapping[str, Any]) -> list[Any]:
    try:
        return [key_of(sample), [[e, len(data), zlib.crc32(data)] for e, data in parts_of(sample).items()]]
    except DataError:
        return []  # reading it says so


def _shown_key(sample: Mapping[str, Any]) -> str | None:
    key = sample.get("__key__")
    return key if isinstance(key, str) else None
