"""pyimportance demo."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from pyimportance.cli.output import JsonOption, show

DIGITS = {"batch_size": 16, "lr": 0.1, "flip": False, "shift": 1}
"""Defaults for scikit-learn's digits: few, tiny, and not themselves when mirrored."""
IMAGES = {"batch_size": 64, "lr": 0.2, "flip": True, "shift": 1}


def demo(
    *,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of WebDataset tars of images with `.cls` labels; scikit-learn's digits without."
        ),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(help="Tars to test on, if not DATA/test-\\*.tar; a seeded 10 % without either."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for report.json and plots.")] = Path("pyimportance-demo"),
    epochs: Annotated[int, typer.Option(help="Epochs of every run.")] = 12,
    workers: Annotated[int, typer.Option(help="Training processes, each with a partition of its own.")] = 4,
    warmup: Annotated[int, typer.Option(help="Epochs before the first scores.")] = 2,
    warmup_on: Annotated[
        str,
        typer.Option(
            help="What those epochs read: 'local', a random partition of which every rank holds its own, or "
            "'vanilla', everything reshuffled over the ranks each epoch, as published; then comes the first "
            "partition."
        ),
    ] = "local",
    interval: Annotated[int, typer.Option(help="Epochs between repartitions.")] = 2,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="Run these only; repeat it, or give a list with commas: vanilla, vanilla-lru, vanilla-full, "
            "random-fixed, random, stripes, blocks, snake, balanced, sticky, 'sticky(k=4)', "
            "'sticky(tolerance=0.01)'."
        ),
    ] = None,
    measure: Annotated[
        str,
        typer.Option(
            help="What to score by: loss_mean, forgetting, el2n, aum, 'dual(window=2)' ...; an unknown name "
            "lists what there is."
        ),
    ] = "loss_mean",
    seeds: Annotated[int, typer.Option(help="Repeat every run from so many paired seeds.")] = 1,
    samples: Annotated[int | None, typer.Option(help="Train on the first so many samples only.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Per process; 16 for the digits, else 64 by default.")
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(help="Peak of the one-cycle rate; 0.1 for the digits, else 0.2 by default."),
    ] = None,
    flip: Annotated[
        bool | None,
        typer.Option("--flip/--no-flip", help="Mirror images at random; by default all but the digits."),
    ] = None,
    plots: Annotated[bool, typer.Option("--plots", help="Also write data_map.png and bytes.png.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train on real images and count every byte: importance-grouped shards beside plain loaders.

    Trains a small network data-parallel, one process per worker, once per policy, every run for real:

    - **vanilla**, **vanilla-lru**, **vanilla-full** reshuffle everything each epoch, as a plain loader does:
      without a cache, with an LRU cache of 1.25/WORKERS of the bytes per rank, with room for all of them;

    - **random-fixed** keeps a random partition for good: the saving without any scoring;

    - **stripes**, **blocks**, **sticky** warm up, then score the samples by what training showed and
      repartition every INTERVAL epochs.

    The settings are checked before anything is trained. An earlier report in OUT stays until the new one
    replaces it; a demo that is stopped leaves what it finished in report-partial.json, and starts again from
    nothing.

    Each policy is a training of its own. On two cores, ten epochs of 20,480 images of CIFAR-10 take about 80
    seconds a policy, ten minutes for the seven that run by default; all 50,000, for 12 epochs, take half an
    hour. Of the digits all seven take a minute or two.

    Examples:

        pyimportance demo

        pyimportance demo --data cifar10 --samples 20480 --epochs 10 --plots

        pyimportance demo --data cifar10 --policy vanilla,random-fixed,sticky --seeds 5 --json
    """
    from pyimportance.demo.config import DEFAULT_POLICIES, DemoConfig
    from pyimportance.demo.results import table
    from pyimportance.demo.run import PARTIAL, run_demo

    given = {"batch_size": batch_size, "lr": lr, "flip": flip}
    chosen: dict[str, Any] = {**(DIGITS if data is None else IMAGES)}
    chosen |= {name: value for name, value in given.items() if value is not None}
    # At commas, but for those between the options of a policy.
    names = [name.strip() for text in policy or [] for name in re.split(r",(?![^(]*\))", text)]
    config = DemoConfig(
        epochs=epochs,
        workers=workers,
        warmup=warmup,
        interval=interval,
        seeds=seeds,
        policies=tuple(names or DEFAULT_POLICIES),
        measure=measure,
        warmup_on=cast(Any, warmup_on),  # DemoConfig refuses anything else
        **chosen,
    )
    runs = config.seeds * len(config.policies)
    with _unwinding(), _left(out / PARTIAL), _progress(runs, config.epochs) as progress:
        values = run_demo(config, out, data=data, test=test, samples=samples, plots=plots, progress=progress)
    show(values, as_json, table(values))
    print(f"pyimportance: all figures are in {out / 'report.json'}", file=sys.stderr)


@contextmanager
def _unwinding() -> Iterator[None]:
    """Lets SIGTERM end the demo as an exception does: processes are stopped, working files removed."""

    def end(number: int, _: Any) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _left(partial: Path) -> Iterator[None]:
    """Says where the finished runs are of a demo that ends before its end."""

    def written() -> int | None:
        return partial.stat().st_mtime_ns if partial.exists() else None

    before = written()
    try:
        yield
    except BaseException:
        if written() not in (None, before):
            print(f"pyimportance: what was finished is in {partial}", file=sys.stderr)
        raise


@contextmanager
def _progress(runs: int, epochs: int) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A bar over all epochs of all runs; a line per run where standard error is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    console = Console(stderr=True, highlight=False)
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), "epochs", TimeElapsedColumn())
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        task = progress.add_task("starting the ranks", total=runs * epochs)
        done = 0

        def update(said: Mapping[str, Any]) -> None:
            nonlocal done
            run = f"{said['policy']}, seed {said['seed']}"
            if said["event"] == "epoch":
                done += 1
                progress.update(task, completed=done, description=f"{run}: loss {said['loss']:.3f}")
            else:
                accuracy = said["ranks"][0]["accuracy"]
                console.print(f"{run}: accuracy {100 * accuracy:.2f} %", markup=False)

        yield update
