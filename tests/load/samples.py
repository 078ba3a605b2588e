"""What tests ask of samples and of the shards they came from."""

import math
from fractions import Fraction

import numpy as np
import torch


def ids(samples):
    return [sample["__index__"] for sample in samples]


def plain(value):
    """For comparison: what ours adds left out."""
    if isinstance(value, dict):
        added = ("__index__", "__weight__", "__pad__", "__local_path__")
        return {k: plain(v) for k, v in value.items() if k not in added}
    if isinstance(value, np.ndarray | torch.Tensor):
        return type(value).__name__, str(value.dtype), value.tolist()
    return type(value)(map(plain, value)) if isinstance(value, list | tuple) else value


def bytes_of(shards, which):
    """What the ranges of the samples with these ids add up to: headers, payloads and padding."""
    total = 0
    for w in range(shards.workers):
        index = shards.index(w)
        total += int(index.nbytes[np.isin(index.ids, list(which))].sum())
    return total


def best(index, fraction, descending, wanted=None):
    """The ids of a worker's most important samples, of those that are wanted."""
    pairs = zip(index.score.tolist(), index.ids.tolist(), strict=True)
    asked = None if wanted is None else set(wanted)
    ordered = sorted((pair for pair in pairs if asked is None or pair[1] in asked), reverse=descending)
    return [i for _, i in ordered[: math.ceil(Fraction(str(fraction)) * len(ordered))]]
