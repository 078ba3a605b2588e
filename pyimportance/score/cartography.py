"""Training dynamics as dataset cartography's code logs them, into Dynamics.

A folder of ``dynamics_epoch_0.jsonl``, ``dynamics_epoch_1.jsonl``, ...; each line is an object
{"guid": "a12", "logits_epoch_0": [0.1, -2.0, 3.5], "gold": 2}, in whatever order the epoch had. What is read
is untrusted.

Source: Swayamdipta et al. 2020, Dataset cartography.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.errors import DataError
from pyimportance.io.storage import read_whole
from pyimportance.score.dynamics import Dynamics
from pyimportance.score.tracker import Tracker

_FILE = re.compile(r"dynamics_epoch_(0|[1-9]\d{0,8})\.jsonl")
_LARGEST = float(np.finfo(np.float32).max)


@dataclass
class _Samples:
    """Those met so far: guid -> (id, gold), and how many logits every one of them has."""

    known: dict[str, tuple[int, int]] = field(default_factory=dict)
    classes: int = 0


def from_cartography(folder: str | os.PathLike[str]) -> Dynamics:
    """See `Dynamics.from_cartography`."""
    files, samples = _files(folder), _Samples()
    epochs = [_read(path, epoch, samples) for epoch, path in files]
    if not samples.known:
        raise DataError("holds no samples", path=os.path.dirname(files[0][1]))
    tracker = Tracker(len(samples.known), history="memory")
    gold = np.array([gold for _, gold in samples.known.values()], dtype=np.int64)
    for ids, logits in epochs:
        tracker.observe(ids, logits, gold[ids])
        tracker.end_epoch()
    return replace(tracker.dynamics(), keys=tuple(samples.known))


def _files(folder: str | os.PathLike[str]) -> list[tuple[int, str]]:
    place = os.fspath(folder)
    inner = os.path.join(place, "training_dynamics")
    place = inner if os.path.isdir(inner) else place
    try:
        matches = [match for name in os.listdir(place) if (match := _FILE.fullmatch(name))]
    except OSError as error:
        raise DataError(f"cannot be listed: {error.strerror}", path=place) from None
    if not matches:
        raise DataError("there is no dynamics_epoch_*.jsonl", path=place)
    found = sorted((int(match[1]), os.path.join(place, match[0])) for match in matches)
    for (before, _), (after, _) in pairwise(found):
        if after != before + 1:  # what was forgotten in between would look remembered
            raise DataError(f"there is no dynamics_epoch_{before + 1}.jsonl, but one of {after}", path=place)
    return found


def _read(path: str, epoch: int, samples: _Samples) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """An epoch's ids [B] and logits [B, C]; samples not met before are numbered on."""
    ids: list[int] = []
    logits: list[list[float]] = []
    for number, line in enumerate(read_whole(path, None, "index").split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            guid, z, gold = _record(line, epoch)
            if not samples.classes:
                samples.classes = len(z)
            if len(z) != samples.classes:
                raise ValueError(f"{len(z)} logits; the samples before have {samples.classes}")
            known, first = samples.known.setdefault(guid, (len(samples.known), gold))
            if gold != first:
                raise ValueError(f"gold of {guid!r} is {gold}; before it was {first}")
        except ValueError as error:
            raise DataError(f"line {number}: {error}", path=path) from None
        ids.append(known)
        logits.append(z)
    return np.array(ids, dtype=np.int64), np.array(logits, dtype=np.float32).reshape(
        len(ids), samples.classes
    )


def _record(line: bytes, epoch: int) -> tuple[str, list[float], int]:
    """guid, logits and gold of a line; ValueError where it is anything else."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(record, dict):
        raise ValueError(f"{_told(record)}; must be an object")
    guid, gold, z = record.get("guid"), record.get("gold"), record.get(f"logits_epoch_{epoch}")
    if type(guid) not in (str, int):
        raise ValueError(f"guid is {_told(guid)}; must be a string or an integer")
    if not isinstance(z, list) or not z:
        raise ValueError(f"logits_epoch_{epoch} is {_told(z)}; must be a list of numbers")
    for logit in z:
        if type(logit) not in (int, float) or not -_LARGEST <= logit <= _LARGEST:
            raise ValueError(f"logits_epoch_{epoch} holds {_told(logit)}; must be finite numbers of float32")
    if type(gold) is not int or not 0 <= gold < len(z):
        raise ValueError(f"gold is {_told(gold)}; must be an integer, 0 to {len(z) - 1}")
    return str(guid), z, gold


def _told(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
