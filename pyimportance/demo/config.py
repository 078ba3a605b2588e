"""DemoConfig: what the demo runs."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from typing import Any

from pyimportance.checks import check_integer
from pyimportance.errors import ArgumentError
from pyimportance.train.schedule import Schedule

VANILLA = ("vanilla", "vanilla-lru", "vanilla-full")
"""Global reshuffle each epoch: no cache, an LRU cache of LRU_SHARE / workers of the bytes, a full cache."""
FIXED = "random-fixed"
DEFAULT_POLICIES = (*VANILLA, FIXED, "stripes", "blocks", "sticky(k=16)")
LRU_SHARE = 1.25

_POLICY = re.compile(r"([a-z_]+)(?:\((?:k=)?([0-9]+)\))?")


def parse_policy(text: str) -> tuple[str, dict[str, Any]]:
    """("sticky", {"k": 16}) from "sticky(k=16)" or "sticky(16)"; ArgumentError for anything else."""
    match = _POLICY.fullmatch(text)
    if match is None:
        raise ArgumentError(f'policy {text!r} is not a name or "name(k=16)"')
    name, k = match.groups()
    return name, {} if k is None else {"k": int(k)}


@dataclass(frozen=True)
class DemoConfig:
    """Settings of the runs; every run of a seed starts from the same weights.

    Raises ArgumentError where a field is out of its range; policies are checked by name and option.
    """

    epochs: int = 12
    workers: int = 4
    warmup: int = 2
    interval: int = 2
    seeds: int = 1
    policies: tuple[str, ...] = DEFAULT_POLICIES
    measure: str = "loss_mean"
    bins: int = 4
    batch_size: int = 64
    lr: float = 0.2
    flip: bool = True
    shift: int = 2

    def __post_init__(self) -> None:
        from pyimportance.order.policies.registry import resolve
        from pyimportance.score.measures import measures

        least = {"epochs": 1, "workers": 1, "seeds": 1, "bins": 1, "batch_size": 1, "shift": 0}
        for name, minimum in least.items():
            check_integer(name, getattr(self, name), minimum)
        if not self.lr > 0:
            raise ArgumentError(f"lr={self.lr}: must be above 0")
        if self.measure not in measures():
            raise ArgumentError(f"measure {self.measure!r} is unknown; allowed are {', '.join(measures())}")
        if not self.policies:
            raise ArgumentError("policies: name at least one")
        names = []
        for policy in self.policies:
            if policy in (*VANILLA, FIXED):
                names.append(policy)
            else:
                name, options = parse_policy(policy)
                names.append(resolve(name, options)[2])
        if len(set(names)) < len(names):
            raise ArgumentError(f"policies: one is named twice in {', '.join(names)}")
        object.__setattr__(self, "policies", tuple(names))
        self.schedule()

    def schedule(self) -> Schedule:
        """The schedule of the runs that repartition."""
        return Schedule(warmup=self.warmup, interval=self.interval, total=self.epochs)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, text: str) -> DemoConfig:
        values = json.loads(text)
        values["policies"] = tuple(values["policies"])
        return cls(**{field.name: values[field.name] for field in fields(cls)})
