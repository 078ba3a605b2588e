"""Samples -> a batch, as ``batched=True`` yields them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from pyimportance.load.ahead import Sample

Batch = dict[str, Any]

_ARRAYS = {"__index__": np.int64, "__weight__": np.float32, "__pad__": np.bool_}


def batches(samples: Iterable[Sample], batch_size: int) -> Iterator[Batch]:
    """Runs of ``batch_size`` samples, the last one shorter, each as a dict of columns.

    ``__index__`` int64 [B], ``__weight__`` float32 [B] and ``__pad__`` bool [B] are arrays; keys, URLs and
    parts are lists, None where a sample lacks a part that others have. DataLoader(batch_size=None) turns
    the arrays into tensors; with collate_fn=dict it passes them on as they are, which is quicker.
    """
    samples = iter(samples)
    while chunk := list(islice(samples, batch_size)):
        yield collate(chunk)


def collate(samples: list[Sample]) -> Batch:
    names = samples[0].keys()
    if all(sample.keys() == names for sample in samples):
        batch: Batch = {name: [sample[name] for sample in samples] for name in names}
    else:
        names = dict.fromkeys(name for sample in samples for name in sample).keys()
        batch = {name: [sample.get(name) for sample in samples] for name in names}
    for name, dtype in _ARRAYS.items():
        batch[name] = np.array(batch[name], dtype)
    return batch
