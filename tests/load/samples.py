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


PAGE, REQUEST = 4 << 10, 4 << 20


def requests(index, rows, join=0, extensions=None):
    """[(file, begin, end)] of what is read of these rows, or of some parts of them, in one window: stretches
    of at most 4 MiB, joined where no whole page of the file, or less than ``join`` bytes, lies between;
    join < 0: without gaps.
    """

    def joins(end, begin):
        pages = range(-(-end // PAGE), begin // PAGE)
        return begin == end if join < 0 else begin - end < join or not pages

    found = []
    for row in sorted(set(rows.tolist()), key=lambda row: (index.file[row], index.offset[row])):
        end, some = int(index.offset[row]), []
        for p in range(index.part_start[row], index.part_start[row + 1]):
            begin, end = end, int(index.part_offset[p]) + -(-int(index.part_size[p]) // 512) * 512
            if extensions is None or index.extensions[index.part_ext[p]] in extensions:
                if some and joins(some[-1][1], begin):
                    begin = some.pop()[0]
                some.append((begin, end))
        for begin, end in some:
            file, first, last = found[-1] if found else (-1, 0, 0)
            if file == index.file[row] and joins(last, begin) and end - first <= REQUEST:
                found[-1] = file, first, end
            else:
                found.append((int(index.file[row]), begin, end))
    return found


def best(index, fraction, descending, wanted=None):
    """The ids of a worker's most important samples, of those that are wanted."""
    pairs = zip(index.score.tolist(), index.ids.tolist(), strict=True)
    asked = None if wanted is None else set(wanted)
    ordered = sorted((pair for pair in pairs if asked is None or pair[1] in asked), reverse=descending)
    return [i for _, i in ordered[: math.ceil(Fraction(str(fraction)) * len(ordered))]]
