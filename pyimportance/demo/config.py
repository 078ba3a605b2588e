"""DemoConfig: what the demo runs, checked before anything does, by what the runs themselves will ask."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from pyimportance.checks import check_integer, check_positive
from pyimportance.errors import ArgumentError
from pyimportance.order.checks import check_groups
from pyimportance.order.policies.registry import POLICIES, resolve
from pyimportance.score.measures import measures
from pyimportance.score.measures.registry import find
from pyimportance.train.checks import check_measure
from pyimportance.train.schedule import Schedule

if TYPE_CHECKING:
    from pyimportance.score.tracker import Tracker

VANILLA = ("vanilla", "vanilla-lru", "vanilla-full")
"""Global reshuffle each epoch: no cache, an LRU cache of LRU_SHARE / workers of the bytes, a full cache."""
FIXED = "random-fixed"
DEFAULT_POLICIES = (*VANILLA, FIXED, "stripes", "blocks", "sticky(k=16)")
LRU_SHARE = 1.25
LARGEST = (2 - 2**-23) * 2.0**127
"""Of float32, in which the network trains; torch refuses more, but only at the first step."""

_CALL = re.compile(r"([a-z0-9_]+)(?:\((.*)\))?")


@dataclass(frozen=True)
class DemoConfig:
    """Settings of the runs; every run of a seed starts from the same weights.

    ``policies`` and ``measure`` are names, with options where they take any: "sticky(k=4)", "sticky(4)",
    "dual(window=3)". A measure that needs a history or features gets them; those that need what training
    does not show (``rho``: another model's losses) are refused.

    Raises ArgumentError where a field is out of its range, and for what would fail during the runs.
    """

    epochs: int = 12
    workers: int = 4
    warmup: int = 2
    interval: int = 2
    warmup_on: Literal["local", "vanilla"] = "local"
    seeds: int = 1
    policies: tuple[str, ...] = DEFAULT_POLICIES
    measure: str = "loss_mean"
    bins: int = 4
    batch_size: int = 64
    lr: float = 0.2
    flip: bool = True
    shift: int = 2

    def __post_init__(self) -> None:
        least = {"epochs": 1, "warmup": 1, "interval": 1, "seeds": 1, "batch_size": 1, "shift": 0}
        for name, minimum in least.items():
            check_integer(name, getattr(self, name), minimum)
        check_groups(self.workers, self.bins)
        if check_positive("lr", self.lr) > LARGEST:
            raise ArgumentError(f"lr={self.lr}: must be at most {LARGEST:.4g}, float32's largest number")
        if self.epochs < self.warmup:
            raise ArgumentError(f"epochs={self.epochs}: must be at least warmup={self.warmup}")
        self.schedule()
        object.__setattr__(self, "policies", _policies(self.policies))
        object.__setattr__(self, "measure", _measure(self.measure, self.schedule()))

    def schedule(self) -> Schedule:
        """The schedule of the runs that repartition."""
        return Schedule(self.warmup, self.interval, total=self.epochs, warmup_on=self.warmup_on)

    @property
    def scoring(self) -> dict[str, Any]:
        """What a controller is told of the measure."""
        name, options = parse_measure(self.measure)
        return {"measure": name, "measure_options": options}

    def tracker(self, num_samples: int) -> Tracker:
        """A new tracker of what the measure needs."""
        return _tracker(self.measure, num_samples)

    @property
    def features(self) -> bool:
        """Whether the measure needs the last layer's input."""
        return "grand" in find(parse_measure(self.measure)[0]).needs

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, text: str) -> DemoConfig:
        values = json.loads(text)
        values["policies"] = tuple(values["policies"])
        return cls(**{field.name: values[field.name] for field in fields(cls)})


def parse_policy(text: str) -> tuple[str, dict[str, Any]]:
    """("sticky", {"k": 16}) from "sticky(k=16)" or "sticky(16)"; ArgumentError for anything else."""
    return _parse("policy", text, lambda name: POLICIES[name].options if name in POLICIES else ())


def parse_measure(text: str) -> tuple[str, dict[str, Any]]:
    """("dual", {"window": 3}) from "dual(window=3)" or "dual(3)"; ArgumentError for anything else."""
    return _parse("measure", text, lambda name: find(name).options if name in measures() else ())


def _tracker(text: str, num_samples: int) -> Tracker:
    from pyimportance.score.tracker import Tracker

    needs = find(parse_measure(text)[0]).needs
    return Tracker(num_samples, history="memory" if "history" in needs else None)


def _measure(text: str, schedule: Schedule) -> str:
    """The measure in full, which the runs can score by."""

    def problem(text: str) -> str | None:
        name, options = parse_measure(text)
        if name not in measures():
            return f"measure {text!r} is unknown"
        if missing := [option for option in find(name).required if option not in options]:
            return f"measure {text!r} takes {', '.join(missing)}, from Python alone"
        try:
            check_measure(name, options, _tracker(text, 1), schedule, None)
        except ArgumentError as error:
            return str(error) if text == name else f"measure {text!r}: {error}"
        return None

    name, options = parse_measure(text)
    if said := problem(text):
        possible = ", ".join(other for other in measures() if problem(other) is None)
        raise ArgumentError(said if options else f"{said}; possible here are {possible}")
    return f"{name}({', '.join(f'{key}={value}' for key, value in options.items())})" if options else name


def _policies(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The policies in full, each once."""
    if not texts:
        raise ArgumentError("policies: name at least one")
    names: list[str] = []
    for text in texts:
        own = text in (*VANILLA, FIXED)
        name = text if own else _policy(text)
        if name in names:
            raise ArgumentError(f"policy {text!r} is named twice in {', '.join(texts)}")
        names.append(name)
    return tuple(names)


def _policy(text: str) -> str:
    name, options = parse_policy(text)
    if name not in POLICIES:
        allowed = ", ".join((*VANILLA, FIXED, *POLICIES))
        raise ArgumentError(f"policy {text!r} is unknown; allowed are {allowed}")
    try:
        return resolve(name, options)[2]
    except ArgumentError as error:
        raise ArgumentError(f"policy {text!r}: {error}") from None


def _parse(what: str, text: str, options: Callable[[str], Iterable[str]]) -> tuple[str, dict[str, Any]]:
    match = _CALL.fullmatch(text)
    if match is None:
        raise ArgumentError(f'{what} {text!r} is not a name or "name(option=value)"')
    name, inside = match.groups()
    given: dict[str, Any] = {}
    for part in (inside or "").split(",") if inside else ():
        option, equals, value = part.partition("=")
        if not equals:  # the only option, or the first
            option, value = next(iter(options(name)), option), option
        given[option.strip()] = _value(value.strip())
    return name, given


def _value(text: str) -> int | float | bool | str:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, int | float) else text
