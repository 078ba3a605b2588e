"""What commands print: results on standard output (a table, or JSON), progress on standard error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyimportance.errors import ArgumentError
from pyimportance.io.atomic import check_writable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def check_output(output: Path, *inputs: Path | str | None) -> None:
    """OutputError where a command could not write its result, ArgumentError where that would replace one of
    the files it reads.
    """
    check_writable(output)
    for name in inputs:
        if name is not None and output.exists() and Path(name).exists() and output.samefile(name):
            raise ArgumentError(f"--output {output}: is also what is read")


def stdout() -> Console:
    """A console on standard output; wide enough for the tables where that is no terminal."""
    import sys

    from rich.console import Console

    return Console(soft_wrap=False) if sys.stdout.isatty() else Console(width=160)


def show(values: Mapping[str, Any], as_json: bool, rendered: RenderableType | None = None) -> None:
    """Prints a result: JSON, or ``rendered``, or one ``name  value`` line per entry."""
    if as_json:
        print(json.dumps(values, indent=2))
    elif rendered is not None:
        stdout().print(rendered)
    else:
        width = max(map(len, values), default=0)
        for name, value in values.items():
            print(f"{name.replace('_', ' '):<{width}}  {text(value)}")


def text(value: Any) -> str:
    """A value for people: thousands apart, lists in a line."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {text(entry)}" for key, entry in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(text, value)) or "-"
    return str(value)


@contextmanager
def progress_bar(what: str, unit: str = "bytes") -> Iterator[Callable[..., None]]:
    """A bar on standard error, moved by calling it with (done, total), or (done, total, what) where something
    else begins; only where that is a terminal. Of "steps", which take what they take, it tells how long they
    took so far.
    """
    from rich import progress as rich
    from rich.console import Console

    console = Console(stderr=True)
    count = rich.DownloadColumn() if unit == "bytes" else rich.MofNCompleteColumn()
    clock = rich.TimeElapsedColumn() if unit == "steps" else rich.TimeRemainingColumn()
    columns = ("{task.description}", rich.BarColumn(), count, clock)
    with rich.Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total, what=None: bar.update(task, completed=done, total=total, description=what)
