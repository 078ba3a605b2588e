"""pyimportance bench: runs the benchmark scripts of a checkout."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Annotated

import typer

from pyimportance.errors import ArgumentError


def bench(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            help="observe, tracking, reduce, ensembles, score, order, scale, movement, shards or load; "
            "without, their names."
        ),
    ] = None,
) -> None:
    """Run a benchmark of this checkout's bench/ folder; what follows the name is passed on to it.

    Each runs its peers (torch, NumPy, numba, webdataset) in turn with it, and prints machine, versions,
    threads, bytes, and medians with their intervals. It checks every answer that it times: with a wrong one
    it ends with status 1 and no figures. They are scripts, not part of the installed package: run this inside
    a checkout.

    Examples:

        pyimportance bench

        pyimportance bench observe

        pyimportance bench order --quick --repeats 5 --json order.json
    """
    folder = find_bench(Path.cwd())
    names = sorted(path.stem.removeprefix("bench_") for path in folder.glob("bench_*.py"))
    if name is None:
        print("\n".join(names))
        return
    if name not in names:
        raise ArgumentError(f"bench {name!r} is unknown; there are {', '.join(names)}")
    script = folder / f"bench_{name}.py"
    sys.argv = [str(script), *context.args]
    sys.path.insert(0, str(folder))  # as Python does for a script: they share modules
    runpy.run_path(str(script), run_name="__main__")


def find_bench(start: Path) -> Path:
    """The bench/ folder of the checkout that ``start`` lies in, or that this module was imported from."""
    for place in (start, *start.parents, Path(__file__).parents[2]):
        if any((place / "bench").glob("bench_*.py")) and (place / "pyproject.toml").exists():
            return place / "bench"
    raise ArgumentError(
        f"there is no bench/ folder above {start}: benchmarks are not installed, run this inside a checkout"
    )
