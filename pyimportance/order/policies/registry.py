"""The policies by name, with the options each takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError
from pyimportance.order.policies import balanced, blocks, random, snake, sticky, stripes


@dataclass(frozen=True)
class Policy:
    """``assign`` (see the package's docstring), the default of every option it takes, and their ``check``:
    it is called with all of them and returns them as ``assign`` takes them, or raises ArgumentError."""

    assign: Callable[..., npt.NDArray[np.int32]]
    options: Mapping[str, Any] = field(default_factory=dict)
    check: Callable[..., dict[str, Any]] = dict


POLICIES: Mapping[str, Policy] = {
    "random": Policy(random.assign),
    "stripes": Policy(stripes.assign),
    "blocks": Policy(blocks.assign),
    "snake": Policy(snake.assign),
    "sticky": Policy(sticky.assign, {"k": None, "tolerance": None}, sticky.check),
    "balanced": Policy(balanced.assign),
}


def policies() -> tuple[str, ...]:
    """The names ``partition(policy=)`` takes."""
    return tuple(POLICIES)


def resolve(name: str, options: Mapping[str, Any]) -> tuple[Policy, dict[str, Any], str]:
    """The policy, its options with defaults filled in, and both as text: "sticky(k=16)".

    Raises ArgumentError for a name or an option there is not, and for a value that is not allowed.
    """
    policy = POLICIES.get(name)
    if policy is None:
        raise ArgumentError(f"policy {name!r} is unknown; allowed are {', '.join(POLICIES)}")
    for option in options:
        if option not in policy.options:
            allowed = f"its options are {', '.join(policy.options)}" if policy.options else "it takes none"
            raise ArgumentError(f"policy {name!r} has no option {option!r}; {allowed}")
    chosen = policy.check(**{**policy.options, **options})
    text = ", ".join(f"{option}={value}" for option, value in chosen.items())
    return policy, chosen, f"{name}({text})" if text else name
