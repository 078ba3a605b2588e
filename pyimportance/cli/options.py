"""What the library says of arguments, in terms of a command's options."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any

from typer.models import OptionInfo

from pyimportance.errors import ArgumentError


def in_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command, with ArgumentErrors that name its options as one types them: "--batch-size 0: must be ..."
    for "batch_size=0: must be ...", "--policy 'x' is unknown" for "policy 'x' is unknown", "--sizes: ..." for
    "sizes: ...".
    """

    @functools.wraps(command)
    def run(*arguments: Any, **given: Any) -> None:
        try:
            command(*arguments, **given)
        except ArgumentError as error:
            raise ArgumentError(_reworded(str(error), _options(command))) from error

    return run


def _options(command: Callable[..., None]) -> list[str]:
    """The parameters of a command that are options."""
    parameters = inspect.signature(command, eval_str=True).parameters.values()
    return [
        p.name
        for p in parameters
        if any(isinstance(said, OptionInfo) for said in getattr(p.annotation, "__metadata__", ()))
    ]


def _reworded(message: str, options: list[str]) -> str:
    names = "|".join(options)  # as "name=value", but not in "sticky(name=value)"; or first of all
    named = re.compile(rf"(?<![\w.-])(?<!\w\()({names})=(?=[^=])|^({names})( (?=')|(?=: ))")
    return named.sub(lambda m: f"--{(m[1] or m[2]).replace('_', '-')}{' ' if m[1] else m[3]}", message)
