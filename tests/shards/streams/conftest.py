"""What a spool holds, as webdataset reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyimportance import SampleIndex

Samples = list[dict[str, Any]]


@pytest.fixture
def read(read_wds: Callable[[str | Path], Samples]) -> Callable[[SampleIndex], Samples]:
    """All samples of an index, in order; the index must list just these."""

    def samples(index: SampleIndex) -> Samples:
        found = [sample for file in index.files for sample in read_wds(file)]
        assert [s["__key__"] for s in found] == index.keys.to_pylist()
        assert index.ids.tolist() == list(range(len(found)))
        return found

    return samples
