"""The position of a loader as a small dict of plain values:
`{"version", "generation", "digest", "options", "epoch", "consumed"}`.

``digest`` and ``options`` are the first 16 hex digits of those of the generation and of the recipe;
``consumed`` holds a number per worker. World size, batch size and loader processes are not in it, as no
sequence depends on them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pyimportance.errors import ArgumentError
from pyimportance.load.plan import Recipe

VERSION = 3  # 1 did not name the number of the generation, 2 was of other orders
DIGITS = 16


@dataclass(frozen=True)
class Position:
    """consumed: how many samples of each worker were yielded in the epoch."""

    generation: int
    digest: str
    epoch: int
    consumed: tuple[int, ...]

    def __post_init__(self) -> None:
        numbers = [self.generation, self.epoch, *self.consumed]
        if not all(type(n) is int and n >= 0 for n in numbers):
            raise ArgumentError(
                f"state: generation, epoch and consumed must be integers of 0 or more, got {numbers}"
            )

    def to_state(self, recipe: Recipe) -> dict[str, Any]:
        return {
            "version": VERSION,
            "generation": self.generation,
            "digest": self.digest[:DIGITS],
            "options": _digest(recipe),
            "epoch": self.epoch,
            "consumed": list(self.consumed),
        }

    @staticmethod
    def from_state(state: Mapping[str, Any], recipe: Recipe) -> Position:
        """Raises ArgumentError where it is no state, or one of other options than ``recipe``."""
        try:
            version, options = state["version"], state["options"]
            generation, digest = state["generation"], state["digest"]
            epoch, consumed = state["epoch"], tuple(state["consumed"])
        except (KeyError, TypeError) as error:
            raise ArgumentError(f"state: not a state of ImportanceDataset ({error!r})") from None
        if version != VERSION:
            raise ArgumentError(f"state: version {version!r}; this release reads {VERSION}")
        if options != _digest(recipe):
            raise ArgumentError(
                f"state: saved with other options than {recipe}; "
                "they decide the order, so they must be the same"
            )
        return Position(generation, digest, epoch, consumed)

    def check(self, root: str, digest: str, sizes: list[int]) -> None:
        """Raises ArgumentError where it is not of the shards in ``root``; sizes: samples per worker."""
        if self.digest != digest[:DIGITS]:
            raise ArgumentError(
                f"state: saved on generation {self.generation} with digest {self.digest}; that of {root} has "
                f"{digest[:DIGITS]}, so these are other shards"
            )
        fits = len(self.consumed) == len(sizes)
        if not fits or any(c > n for c, n in zip(self.consumed, sizes, strict=True)):
            raise ArgumentError(f"state: consumed is {list(self.consumed)}; the workers hold {sizes} samples")


@dataclass(frozen=True)
class ProcessPosition:
    """What a loader process has ``yielded`` of the samples that fell to it from a position on.

    It is saved beside that position, as `{"place": [rank, world size, process, processes], "yielded"}`.
    """

    rank: int
    world_size: int
    process: int
    processes: int
    yielded: int

    def to_state(self) -> dict[str, Any]:
        return {
            "place": [self.rank, self.world_size, self.process, self.processes],
            "yielded": self.yielded,
        }

    @staticmethod
    def from_state(state: Mapping[str, Any]) -> ProcessPosition | None:
        """None where it is the state of a training process."""
        if "place" not in state:
            return None
        numbers = [*state["place"], state.get("yielded")]
        if len(numbers) != 5 or not all(type(n) is int and n >= 0 for n in numbers):
            raise ArgumentError(f"state: place and yielded must be five integers of 0 or more, got {numbers}")
        return ProcessPosition(*numbers)

    def check(self, rank: int, world_size: int, info: Any) -> None:
        """Raises ArgumentError unless it is of this process; info: torch's get_worker_info()."""
        this, place = "the training process", [rank, world_size]
        if info is not None:
            this = f"loader process {info.id} of {info.num_workers}"
            place += [info.id, info.num_workers]
        if [self.rank, self.world_size, self.process, self.processes] != place:
            raise ArgumentError(
                f"state: of loader process {self.process} of {self.processes} on rank {self.rank} of "
                f"{self.world_size}; this is {this} on rank {rank} of {world_size}. Keep num_workers, or "
                "save state_dict(batches=n) in the training process, which resumes on any shape"
            )


def check_consumed(batches: int, *, begun: bool, in_order: bool = True) -> None:
    """Raises ArgumentError where nobody has ``begun`` to read what so many batches are said to be of, or
    where, as they are not ``in_order``, their number does not tell which they were."""
    if batches and not begun:
        raise ArgumentError(
            f"batches={batches}: no iteration of this epoch, generation and position has begun; what is set "
            "while one lasts is for the next"
        )
    if batches and not in_order:
        raise ArgumentError(
            f"batches={batches}: of a DataLoader(in_order=False), so that their number does not tell which "
            "they were; in_order=True, or state_dict(epoch=) between epochs"
        )


def check_claim(batches: int, claimed: int, yielded: int) -> None:
    """Raises ArgumentError where so many batches, ``claimed`` samples, are more than this process yielded."""
    if yielded < claimed:
        raise ArgumentError(
            f"batches={batches}: by batch_size they have {claimed} samples, and {yielded} were yielded; the "
            "training loop's batches must be of batch_size"
        )


def _digest(recipe: Recipe) -> str:
    return hashlib.sha256(json.dumps(asdict(recipe), sort_keys=True).encode()).hexdigest()[:DIGITS]
