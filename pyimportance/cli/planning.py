"""pyimportance plan: what a job would cost before it runs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from pyimportance.cli.data import SourceArgument, SpoolOption, is_read_in_order, read_source, survey_source
from pyimportance.cli.output import JsonOption, show, text
from pyimportance.errors import ArgumentError

if TYPE_CHECKING:
    from rich.table import Table

    from pyimportance.shards.estimate import Estimate


def plan(
    source: SourceArgument,
    *,
    partition: Annotated[Path, typer.Option(help="What `pyimportance partition` wrote.")],
    spool: SpoolOption = None,
    shard_bytes: Annotated[int, typer.Option(help="Size at which a shard is full.")] = 256 * 2**20,
    shard_samples: Annotated[int | None, typer.Option(help="Samples at which a shard is full.")] = None,
    compression: Annotated[str | None, typer.Option(help="As `shard` has it: 'zstd'.")] = None,
    level: Annotated[int | None, typer.Option(help="Of zstd, 1 to 22; 3 if not given.")] = None,
    frame_bytes: Annotated[
        int | None, typer.Option(help="Of a frame, decompressed; 256 KiB if not given.")
    ] = None,
    keys: Annotated[str, typer.Option(help="As `shard` has it: 'error' or 'prefix'.")] = "error",
    latency: Annotated[
        float | None, typer.Option(help="Milliseconds of a request to the source; 0.1 of disks, 30 of URLs.")
    ] = None,
    bandwidth: Annotated[
        float | None, typer.Option(help="MB per second of the source; 1000 of disks, 1250 of URLs.")
    ] = None,
    at_once: Annotated[
        int | None, typer.Option(help="Requests to the source under way; 4 to disks, 32 to URLs.")
    ] = None,
    disk_latency: Annotated[float | None, typer.Option(help="Milliseconds of a read here; 0.1.")] = None,
    disk_bandwidth: Annotated[
        float | None, typer.Option(help="MB per second, read or written, of the disk here; 1000.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what `shard` would cost, before it runs: requests, bytes, disk space, time.

    Samples can be read where they lie ("direct"), or the source once from start to end into a spool on this
    disk, and samples from there ("spool"). Shards, bytes and requests are those of the job; seconds follow
    by the assumptions that are printed: requests * latency / at once + bytes / bandwidth of each storage.
    Nothing but the headers is read; with --compression also some MiB of samples from all over the shards,
    which are compressed: what all of them come to, and how long that takes, is an estimate from those.
    A source that can only be read from start to end is read once for that, and the spool is the only way;
    the copy stays in --spool, if it is given, and the rest of the plan is from there.

    Examples:

        pyimportance plan index.arrow --partition partition.parquet

        pyimportance plan 'https://host/train-{000..999}.tar' --partition partition.parquet --latency 80

        pyimportance plan images --partition partition.parquet
    """
    from pyimportance.checks import check_nonnegative, check_positive
    from pyimportance.order.values import Partition
    from pyimportance.shards.estimate import Costs, estimate
    from pyimportance.shards.layout import Layout, Zstd
    from pyimportance.shards.work import check_keys

    layout = Layout(shard_bytes, shard_samples, compression=Zstd.of(compression, level, frame_bytes))
    check_keys(keys)
    known = {
        "latency": latency and check_nonnegative("latency", latency) / 1e3,
        "bandwidth": bandwidth if bandwidth is None else check_positive("bandwidth", bandwidth) * 1e6,
        "at_once": at_once,
        "disk_latency": disk_latency and check_nonnegative("disk_latency", disk_latency) / 1e3,
        "disk_bandwidth": (
            disk_bandwidth
            if disk_bandwidth is None
            else check_positive("disk_bandwidth", disk_bandwidth) * 1e6
        ),
    }
    Costs.of((), **known)  # before the source is read
    parts = Partition.load(partition)
    if spool is None and layout.compression is not None and is_read_in_order(source):
        raise ArgumentError("--compression: samples are to be read from a spool that stays; give --spool DIR")
    surveyed = survey_source(source) if spool is None else None
    index, in_order = surveyed or (read_source(source, spool), None)
    found = estimate(
        index,
        parts,
        layout=layout,
        keys=cast(Literal["error", "prefix"], keys),
        costs=Costs.of([source] if in_order is not None else index.files, **known),
        in_order=in_order,
    )
    about = {"stored_bytes": found.stored_bytes, "cheaper": found.cheaper}
    show(asdict(found) | about, as_json, None if as_json else _table(found))


def _table(found: Estimate) -> Table:
    from rich.table import Table

    c = found.costs
    table = Table(
        "",
        "requests",
        "bytes of the source",
        "bytes of the disk",
        "disk space",
        "seconds",
        title=f"{found.cheaper} is {'cheaper' if found.direct else 'the only way'}",
        caption=(
            f"source: {c.latency * 1e3:g} ms a request, {c.bandwidth / 1e6:g} MB/s, {c.at_once} at once; "
            f"disk: {c.disk_latency * 1e3:g} ms, {c.disk_bandwidth / 1e6:g} MB/s\n"
            f"shards per worker {_range(found.shards)}, bytes per worker {_range(found.bytes)}\n"
            f"bytes of a shard {_range((found.smallest, found.largest))}{_about_compression(found)}"
        ),
    )
    for name, way in (("direct", found.direct), ("spool", found.spool)):
        if way is None:
            continue
        row: list[Any] = [way.requests, way.bytes, way.disk_bytes, way.space]
        table.add_row(name, *map(text, row), f"{way.seconds:,.{1 if way.seconds >= 10 else 3}f}")
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _about_compression(found: Estimate) -> str:
    ratio = found.compression
    if ratio is None:
        return ""
    return (
        f", before compression\nestimated by {text(ratio.sampled)} bytes of samples: compressed to "
        f"{ratio.value:.1%}, {text(found.stored_bytes)} bytes in all, by each thread "
        f"{ratio.bandwidth / 1e6:,.0f} MB/s"
    )


def _range(values: tuple[int, ...]) -> str:
    low, high = text(min(values)), text(max(values))
    return low if low == high else f"{low} to {high}"
