"""The position of a loader as a small dict: `{"version", "generation", "options", "epoch", "consumed"}`.

``generation`` and ``options`` are the first 16 hex digits of digests; ``consumed`` holds a number per
worker. World size, batch size and loader processes are not in it, as no sequence depends on them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pyimportance.errors import ArgumentError
from pyimportance.load.plan import Recipe

VERSION = 1


def to_state(digest: str, recipe: Recipe, epoch: int, consumed: list[int]) -> dict[str, Any]:
    return {
        "version": VERSION,
        "generation": digest[:16],
        "options": _digest(recipe),
        "epoch": epoch,
        "consumed": consumed,
    }


def from_state(
    state: Mapping[str, Any], digest: str, recipe: Recipe, sizes: list[int]
) -> tuple[int, list[int]]:
    """(epoch, samples consumed per worker). Raises ArgumentError where the state is not of this data.

    sizes: the samples per worker and epoch.
    """
    try:
        version, generation, options = state["version"], state["generation"], state["options"]
        epoch, consumed = state["epoch"], list(state["consumed"])
    except (KeyError, TypeError) as error:
        raise ArgumentError(f"state: not a state of ImportanceDataset ({error!r})") from None
    if version != VERSION:
        raise ArgumentError(f"state: version {version!r}; this release reads {VERSION}")
    if generation != digest[:16]:
        raise ArgumentError(
            f"state: saved on generation {generation}, these shards are {digest[:16]}; "
            "open the generation it was saved on"
        )
    if options != _digest(recipe):
        raise ArgumentError(
            f"state: saved with other options than {recipe}; they decide the order, so they must be the same"
        )
    numbers = [epoch, *consumed]
    if not all(type(n) is int and n >= 0 for n in numbers):
        raise ArgumentError(f"state: epoch and consumed must be integers of 0 or more, got {numbers}")
    if len(consumed) != len(sizes) or any(c > n for c, n in zip(consumed, sizes, strict=True)):
        raise ArgumentError(f"state: consumed is {consumed}; the workers hold {sizes} samples")
    return epoch, consumed


def _digest(recipe: Recipe) -> str:
    return hashlib.sha256(json.dumps(asdict(recipe), sort_keys=True).encode()).hexdigest()[:16]
