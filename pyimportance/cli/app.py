"""The ``pyimportance`` command: its subcommands, and how errors end it."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from pyimportance import PyimportanceError, __version__
from pyimportance.cli import bench, data, demo, dividing, inspect, planning, scoring, upkeep
from pyimportance.cli.options import in_options
from pyimportance.score.engine import cuda

BAD_INPUT = 2
INTERRUPTED = 130
NOT_READ = 1
"""Where whoever read the output went away; what click makes of it too."""

_IN_OPTIONS = {
    " (allow_missing_eof=True takes what is there, if that is all)": "",
    'nonfinite="skip" leaves such samples out and counts them': "training diverged, try a lower --lr",
}
"""What messages of the library advise, in this command's words."""

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    demo.demo,
    data.index,
    scoring.score,
    dividing.partition,
    planning.plan,
    data.shard,
    data.repartition,
    upkeep.compact,
    upkeep.prune,
    upkeep.export,
    data.verify,
    inspect.inspect,
):
    app.command()(in_options(command))
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(bench.bench)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version, and whether CUDA is built in.")
    ] = False,
) -> None:
    """Turn what a model finds hard into where the bytes lie: importance-grouped WebDataset shards.

    From a data set and the dynamics a training loop recorded (`Dynamics.save`) to shards:

        pyimportance index 'data/train-*.tar' -o index.arrow

        pyimportance score dynamics.npz --index index.arrow -o scores.parquet

        pyimportance shard 'data/train-*.tar' shards --scores scores.parquet --workers 4

        pyimportance verify shards

    Or see the whole of it work: pyimportance demo
    """
    if version:
        print(f"pyimportance {__version__}")
        try:
            print(f"{cuda().__name__} is built")
        except PyimportanceError as error:
            print(error)
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(BAD_INPUT)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits: 0, or 2 with one line on standard error where the input is bad."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("always", module="pyimportance")
            warnings.showwarning = _warn  # type: ignore[assignment]
            status = app(args=arguments, prog_name="pyimportance", standalone_mode=False)
            sys.stdout.flush()  # here, where a full disk can still be told
    except PyimportanceError as error:
        _fail(str(error))
    except BrokenPipeError:
        _drop_output()
        sys.exit(NOT_READ)
    except OSError as error:
        if error.filename is None:
            _drop_output()
        _fail(f"{error.filename or 'standard output'}: {error.strerror or error}")
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED  # what typer makes of it in some versions
    except Exception as error:
        # A usage error; which class it is depends on typer's version (it used to come from click).
        if not hasattr(error, "format_message"):
            raise
        _fail(error.format_message())
    if status == INTERRUPTED:
        print("pyimportance: interrupted", file=sys.stderr)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str) -> None:
    for phrase, ours in _IN_OPTIONS.items():
        message = message.replace(phrase, ours)
    print(f"pyimportance: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(BAD_INPUT)


def _drop_output() -> None:
    """Lets what is still buffered vanish: writing it at exit would fail as it did now."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _warn(message: Warning | str, *_: Any) -> None:
    print(f"pyimportance: warning: {message}", file=sys.stderr)
