"""pyimportance index, shard, repartition and verify: the data's side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from pyimportance.cli.dividing import (
    BinsOption,
    CapacityOption,
    ClassesOption,
    Division,
    KOption,
    PolicyOption,
    SeedOption,
    ToleranceOption,
    WorkersOption,
    check_division,
    divide,
    integers,
)
from pyimportance.cli.output import JsonOption, check_output, progress_bar, show
from pyimportance.cli.scoring import check_match
from pyimportance.errors import ArgumentError, PyimportanceError
from pyimportance.io.urls import public

if TYPE_CHECKING:
    from pyimportance.shards.sample_index import SampleIndex
    from pyimportance.shards.shard_set import ShardSet

SourceArgument = Annotated[
    str,
    typer.Argument(
        help="WebDataset tars: a path, a folder, a URL, a glob or braces ({000..009}), or an index. With "
        "--spool also compressed tars, folders of images, Parquet files and MDS directories."
    ),
]


SpoolOption = Annotated[
    Path | None,
    typer.Option(help="Folder for a copy of the source in plain tars, if it must be read from start to end."),
]


GenerationOption = Annotated[
    int | None, typer.Option(help="Of shards: this generation, not the current one.")
]


def index(
    source: SourceArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Arrow IPC file to write.")],
    spool: SpoolOption = None,
    checksums: Annotated[
        bool, typer.Option("--checksums", help="Read payloads as well; whoever copies them then compares.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Index WebDataset tars: where every sample and each of its parts lies.

    One pass over the tar headers; payloads are skipped, but for --checksums. Broken input (a truncated tar,
    interleaved keys, a repeated extension) is refused with the file, the member and the offset. What has no
    headers to find samples by (.tar.gz, .tar.zst, folders of images, Parquet, MDS) is first copied to plain
    tars in --spool, which stay: they are what is indexed.

    Examples:

        pyimportance index 'data/train-*.tar' -o index.arrow

        pyimportance index 'data/train-{000..009}.tar' -o index.arrow --json

        pyimportance index images -o index.arrow --spool tars
    """
    check_output(output, source)
    result = read_source(source, spool, checksums=checksums)
    check_output(output, *result.files)
    result.save(output)
    show(about_index(result) | {"written": str(output)}, as_json)


def shard(
    source: SourceArgument,
    out: Annotated[
        str,
        typer.Argument(help="Folder or s3, gs, az URL to write: new, empty, or an interrupted run of it."),
    ],
    *,
    partition: Annotated[Path | None, typer.Option(help="What `pyimportance partition` wrote.")] = None,
    scores: Annotated[
        Path | None, typer.Option(help="Instead of --partition: scores, partitioned by the options below.")
    ] = None,
    workers: WorkersOption = None,
    policy: PolicyOption = "stripes",
    bins: BinsOption = None,
    seed: SeedOption = 0,
    k: KOption = None,
    tolerance: ToleranceOption = None,
    classes: ClassesOption = None,
    capacity: CapacityOption = None,
    shard_bytes: Annotated[int, typer.Option(help="Size at which a shard is full.")] = 256 * 2**20,
    shard_samples: Annotated[
        int | None, typer.Option(help="Samples at which a shard is full, if it is not before.")
    ] = None,
    order: Annotated[
        str, typer.Option(help="Of the samples in a shard: by 'score', or 'shuffled' (by the seed).")
    ] = "score",
    compression: Annotated[
        str | None, typer.Option(help="'zstd': compressed shards, of frames that are read one by one.")
    ] = None,
    level: Annotated[int | None, typer.Option(help="Of zstd, 1 to 22; 3 if not given.")] = None,
    frame_bytes: Annotated[
        int | None, typer.Option(help="Of a frame, decompressed; 256 KiB if not given.")
    ] = None,
    keys: Annotated[
        str, typer.Option(help="Keys that two samples share: 'error', or 'prefix' the source shard's name.")
    ] = "error",
    spool: SpoolOption = None,
    exchange: Annotated[
        str,
        typer.Option(
            help="'direct': read samples where they lie. 'spool': copy the source once, in order, to --spool "
            "(without it, a folder that is removed), and read them there. 'auto': for URLs what `plan` finds "
            "cheaper."
        ),
    ] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Write importance-grouped shards: each worker's samples in tars of their own, most important first.

    Nothing is decoded, every payload is copied as it is, and the same input gives the same bytes. Interrupted
    and started again, it completes. A source that can only be read from start to end (.tar.gz, .tar.zst,
    folders of images, Parquet, MDS) is copied to plain tars first: to --spool, which stays, or to a folder
    beside the shards, OUT.spool, which is removed once they are complete.

    Examples:

        pyimportance shard 'data/train-*.tar' shards --scores scores.parquet --workers 8 --bins 4

        pyimportance shard index.arrow shards --partition partition.parquet
    """
    import numpy as np

    from pyimportance.order.checks import check_classes
    from pyimportance.order.values import Partition
    from pyimportance.score.values import Scores
    from pyimportance.shards.exchange import Exchange, check_exchange
    from pyimportance.shards.layout import Layout, Order, Zstd
    from pyimportance.shards.writer import check_out, write_shards

    compressed = Zstd.of(compression, level, frame_bytes)  # refuses anything else
    layout = Layout(shard_bytes, shard_samples, cast(Order, order), compressed)  # so does this
    check_out(out, keys)  # before the source is read
    check_exchange(exchange)
    in_order = spool is None and is_read_in_order(source)
    if in_order and exchange == "direct":
        raise ArgumentError("exchange='direct': the source can only be read in order")
    if (partition is None) == (scores is None):
        raise ArgumentError("give either --partition or --scores with --workers")
    division = Division(workers, policy, bins, seed, k, tolerance, capacity)
    if partition is not None:
        if idle := division.given() + ["--classes"] * (classes is not None):
            raise ArgumentError(f"{', '.join(idle)}: --partition is divided already; give --scores instead")
        plan, samples = Partition.load(partition), read_source(source, spool, out)
    else:
        assert scores is not None
        if workers is None:
            raise ArgumentError("--workers: say over how many the samples of --scores are to be divided")
        check_division(division)
        values = Scores.load(scores)
        classes_of = None if classes is None else check_classes(integers(classes), values.num_samples)
        samples = read_source(source, spool, out)
        check_match(values, samples.ids, samples.keys, scores, source)
        sizes = samples.nbytes[np.argsort(samples.ids)]
        plan = divide(values, scores, division, sizes=sizes, classes=classes_of)
    with progress_bar("writing shards") as progress:
        shards = write_shards(
            source if in_order else samples,
            plan,
            out,
            shard_bytes=layout.shard_bytes,
            shard_samples=layout.shard_samples,
            order=layout.order,
            compression=None if compressed is None else "zstd",
            level=level,
            frame_bytes=frame_bytes,
            keys=cast(Literal["error", "prefix"], keys),  # write_shards refuses anything else
            spool=spool,
            exchange=cast(Exchange, exchange),
            progress=progress,
        )
    show(about_shards(shards), as_json)


def repartition(
    shards: Annotated[str, typer.Argument(help="Folder of shards, or its s3, gs or az URL.")],
    partition: Annotated[Path, typer.Option(help="Who is to own the samples from now on.")],
    as_json: JsonOption = False,
) -> None:
    """Add a generation in which the samples belong as a new partition says.

    Only samples that change workers are read and written, to delta shards; the old generation stays readable.

    Example:

        pyimportance partition scores.parquet -o next.parquet --policy sticky --current shards

        pyimportance repartition shards --partition next.parquet
    """
    import numpy as np

    from pyimportance.order.values import Partition
    from pyimportance.shards.generations import repartition as move
    from pyimportance.shards.shard_set import ShardSet

    old, plan = ShardSet.open(shards), Partition.load(partition)
    with progress_bar("moving samples", unit="workers") as progress:
        new = move(old, plan, progress=progress)
    ids = np.concatenate([new.index(worker).ids for worker in range(new.workers)])
    moved = int((new.worker_of(ids) != old.worker_of(ids)).sum())
    pruned = old.num_samples - new.num_samples
    show(about_shards(new) | {"moved": moved, "pruned": pruned}, as_json)


def verify(
    shards: Annotated[str, typer.Argument(help="Folder of shards, or its URL.")],
    *,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="First make lost or damaged indexes anew, where that can be exact."),
    ] = False,
    partition: Annotated[
        Path | None, typer.Option(help="For --repair: what the generation was written for.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(help="For --repair: the tars that the shards were written from, or their index."),
    ] = None,
    generation: GenerationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check shards against their manifest and indexes: sizes, checksums, every sample in its place.

    Reads everything. What is wrong is named, and the exit status is 2.

    Examples:

        pyimportance verify shards

        pyimportance verify shards --repair --partition partition.parquet --source 'data/train-*.tar'
    """
    from pyimportance.order.values import Partition
    from pyimportance.shards.shard_set import ShardSet

    if not repair and (
        idle := [n for n, v in (("partition", partition), ("source", source)) if v is not None]
    ):
        raise ArgumentError(f"{idle[0]}: only --repair uses it")
    opened = ShardSet.open(shards, generation=generation)
    problems: list[str] = []
    about: dict[str, Any] = {}
    if repair:
        plan = None if partition is None else Partition.load(partition)
        index = None if source is None else read_source(source)
        made = opened.repair(partition=plan, source=index)
        about["repaired"] = list(made.repaired)
        problems += map(str, made.problems)
    with progress_bar("verifying") as progress:
        report = opened.verify(progress=progress)
    problems += map(str, report.problems)
    if as_json or report.ok:
        show(about_shards(opened) | about | {"verified": report.ok, "problems": problems}, as_json)
    if not report.ok:
        more = f" (and {len(problems) - 1} more problems; --json lists them)" if len(problems) > 1 else ""
        raise PyimportanceError(problems[0] + more)


def read_source(
    source: str, spool: Path | None = None, out: str | None = None, *, checksums: bool = False
) -> SampleIndex:
    """The index of tars, or one that was saved; of what is read in order that of its ``spool``, or of the one
    that `write_shards` goes on with for ``out``.
    """
    from pyimportance.shards.exchange import temporary_spool
    from pyimportance.shards.index import index as read
    from pyimportance.shards.sample_index import SampleIndex
    from pyimportance.shards.spool import spool_stream
    from pyimportance.shards.streams.recognise import recognise
    from pyimportance.shards.streams.stream import Stream

    if source.endswith(".arrow"):
        if checksums:
            raise ArgumentError("--checksums: SOURCE is an index already; name its tars")
        return SampleIndex.load(source)
    if not isinstance(stream := recognise(source), Stream):
        with progress_bar("indexing") as progress:
            return read(source, progress=progress, checksums=checksums)
    folder = temporary_spool(out) if spool is None and out is not None else None
    with progress_bar(f"copying to the spool {folder or spool or ''}".rstrip()) as progress:
        if folder is not None:
            return spool_stream(stream, folder, progress=progress, temporary=True)
        return read(source, spool=spool, progress=progress)


def survey_source(source: str) -> tuple[SampleIndex, list[int]] | None:
    """Of what is read in order, the index that its spool would have, and bytes of its units; else None."""
    from pyimportance.shards.spool import survey
    from pyimportance.shards.streams.recognise import recognise
    from pyimportance.shards.streams.stream import Stream

    if source.endswith(".arrow") or not isinstance(stream := recognise(source), Stream):
        return None
    with progress_bar("reading") as progress:
        return survey(stream, progress=progress), [state.nbytes for state in stream.states()]


def is_read_in_order(source: str) -> bool:
    """Whether it is no tars that can be read anywhere, nor an index of some."""
    from pyimportance.shards.streams.recognise import recognise
    from pyimportance.shards.streams.stream import Stream

    return not source.endswith(".arrow") and isinstance(recognise(source), Stream)


def about_index(index: SampleIndex) -> dict[str, Any]:
    """What `inspect` tells of an index."""
    return {
        "kind": "index",
        "samples": index.num_samples,
        "files": len(index.files),
        "extensions": list(index.extensions),
        "bytes": int(index.nbytes.sum()),
        "payload_bytes": int(index.part_size.sum()),
        "digest": index.digest,
    }


def about_shards(shards: ShardSet) -> dict[str, Any]:
    """What `inspect` tells of a folder of shards."""
    samples, nbytes = ([0] * shards.workers for _ in range(2))
    for info in shards.shards:
        samples[info.worker] += info.live
        nbytes[info.worker] += info.nbytes
    return {
        "kind": "shards",
        "folder": public(shards.root),
        "generation": shards.generation,
        "samples": shards.num_samples,
        "workers": shards.workers,
        "bins": shards.bins,
        "compact": shards.is_compact,
        "policy": shards.policy,
        "measure": shards.measure,
        "tars": len(shards.shards),
        "bytes": sum(info.nbytes for info in shards.shards),
        **about_compression(shards),
        "samples_per_worker": samples,
        "bytes_per_worker": nbytes,
        "digest": shards.digest,
    }


def about_compression(shards: ShardSet) -> dict[str, Any]:
    """How shards are compressed, and what they would be without; nothing of plain ones."""
    zstd = shards.manifest.layout.compression
    if zstd is None:
        return {}
    return {
        "compression": "zstd",
        "level": zstd.level,
        "frame_bytes": zstd.frame_bytes,
        "library": shards.manifest.library,
        "tar_bytes": sum(info.content_bytes for info in shards.shards),
    }
