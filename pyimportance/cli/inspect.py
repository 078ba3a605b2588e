"""pyimportance inspect."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyimportance.cli.data import GenerationOption, about_index, about_shards
from pyimportance.cli.dividing import (
    ClassesOption,
    SizesOption,
    about_partition,
    about_quality,
    integers,
    numbers,
    sizes_of,
)
from pyimportance.cli.output import JsonOption, show
from pyimportance.cli.scoring import about_scores
from pyimportance.errors import ArgumentError, DataError
from pyimportance.io.urls import is_url

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pyimportance.order.values import Partition
    from pyimportance.score.dynamics import Dynamics
    from pyimportance.shards.shard_set import ShardSet


def inspect(
    path: Annotated[
        str,
        typer.Argument(
            help="Folder of shards or an index, also behind URLs; dynamics, scores or a partition."
        ),
    ],
    *,
    generation: GenerationOption = None,
    sizes: SizesOption = None,
    classes: ClassesOption = None,
    batch_size: Annotated[
        int, typer.Option(help="Samples per batch and rank that shards are loaded in.")
    ] = 256,
    shuffle: Annotated[
        str | None,
        typer.Option(help="As shards are to be loaded: 'true' (the default), 'shards' or 'false'."),
    ] = None,
    mix: Annotated[
        str | None,
        typer.Option(help="Likewise: 'stratified', 'sequential', or how often each bin is read (2,1,0.5)."),
    ] = None,
    window_bytes: Annotated[
        int | None,
        typer.Option(help="Likewise: of samples that are shuffled at a time; 32 MiB if not given."),
    ] = None,
    keep: Annotated[
        float | None, typer.Option(help="Likewise: the fraction of the samples that is read.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what a file or folder of pyimportance's is, and what it holds.

    Of a partition and of shards, also how alike the workers are: in mean score and, as Kolmogorov-Smirnov
    distance, in the distribution of scores; with --classes and (of a partition) --sizes, in these as well.

    Of shards, also how well they are mixed when they are loaded in batches of --batch-size, by default or as
    --shuffle, --mix, --window-bytes and --keep say, for the worker worst off: how many neighbours in storage,
    of fewer than --batch-size places away, a sample has in its batch, and how far the bins (and --classes) of
    a batch are from those of all (total variation distance); on average, beside what a random order is
    expected to have.

    Examples:

        pyimportance inspect shards

        pyimportance inspect scores.parquet --json

        pyimportance inspect s3://bucket/shards --generation 2

        pyimportance inspect shards --batch-size 64 --shuffle shards
    """
    order: dict[str, Any] = {"mix": mix, "window_bytes": window_bytes, "keep": keep}
    order["shuffle"] = {"true": True, "false": False}.get(shuffle, shuffle) if shuffle else None
    if mix is not None and mix not in ("stratified", "sequential"):
        order["mix"] = numbers("--mix", mix, "stratified, sequential, or ")
    order = {name: value for name, value in order.items() if value is not None}
    about = describe(path, generation, sizes=sizes, classes=classes, batch_size=batch_size, order=order)
    show(about, as_json)


def describe(
    name: str,
    generation: int | None = None,
    *,
    sizes: Path | None = None,
    classes: Path | None = None,
    batch_size: int = 256,
    order: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What ``name`` holds, by its content (behind a URL an index ends in .arrow, and all else is shards);
    DataError where it is nothing of ours.

    order: options of ImportanceDataset that decide in which order shards are read.
    """
    from pyimportance.order.values import Partition
    from pyimportance.score.dynamics import Dynamics
    from pyimportance.score.values import Scores
    from pyimportance.shards.sample_index import SampleIndex
    from pyimportance.shards.shard_set import ShardSet

    path = Path(name)
    are_shards = not name.endswith(".arrow") if is_url(name) else path.is_dir()
    divides = path.is_file() and first_bytes(path).startswith(b"PAR1") and is_partition(path)
    if (sizes and not divides) or (classes and not (divides or are_shards)):  # shards know sizes
        raise ArgumentError("--sizes and --classes are of a partition's samples, and this is none")
    if generation is not None and not are_shards:
        raise ArgumentError("generation: only shards have them")
    if order and not are_shards:
        raise ArgumentError(f"{next(iter(order))}: only shards are loaded")
    if are_shards:
        shards = ShardSet.open(name, generation=generation)
        partition, nbytes = owned(shards)
        of_samples = None if classes is None else integers(classes)
        alike = about_quality(partition, nbytes, of_samples)
        if "bytes_per_worker" in alike:  # without what tars hold of samples that have moved away
            alike["live_bytes_per_worker"] = alike.pop("bytes_per_worker")
        return about_shards(shards) | alike | about_mixing(shards, batch_size, of_samples, order or {})
    magic = b"ARROW1" if is_url(name) else first_bytes(path)
    if magic == b"ARROW1":
        return about_index(SampleIndex.load(name))
    if magic.startswith(b"PK") and zipfile.is_zipfile(path):
        return about_dynamics(Dynamics.load(path))
    if magic.startswith(b"PAR1"):
        if divides:
            partition = Partition.load(path)
            return about_partition(
                partition,
                None if sizes is None else sizes_of(sizes, partition.ids, path),
                None if classes is None else integers(classes),
            )
        return about_scores(Scores.load(path))
    raise DataError("is no index, dynamics, scores, partition or folder of shards", path=path)


def owned(shards: ShardSet) -> tuple[Partition, NDArray[np.int64]]:
    """Who owns which samples, with their scores where all indexes have them; their bytes by ascending id."""
    import numpy as np

    from pyimportance.order.values import Partition

    indexes = [shards.index(worker) for worker in range(shards.workers)]
    scores = [index.score for index in indexes if index.score is not None]
    ids = np.concatenate([index.ids for index in indexes])
    partition = Partition(
        shards.workers,
        1,
        ids,
        np.cumsum([0, *map(len, indexes)]),
        np.concatenate(scores) if len(scores) == len(indexes) else None,
    )
    return partition, np.concatenate([index.nbytes for index in indexes])[np.argsort(ids)]


def about_mixing(
    shards: ShardSet, batch_size: int, classes: NDArray[np.int64] | None, order: Mapping[str, Any]
) -> dict[str, Any]:
    """`shuffle_quality` of the worst worker, with the defaults of ImportanceDataset but for ``order``; where
    none has a whole batch, that this is so."""
    from pyimportance.load.dataset import ImportanceDataset
    from pyimportance.load.quality import shuffle_quality

    ranks = [
        ImportanceDataset(shards, batch_size=batch_size, rank=w, world_size=shards.workers, **order)
        for w in range(shards.workers)
    ]
    found = [shuffle_quality(rank, classes) for rank in ranks if len(rank) >= batch_size]
    if not found:
        most = max(map(len, ranks))
        return {
            "mixing": f"no worker has a batch of {batch_size} (--batch-size); the largest has {most} samples"
        }
    about: dict[str, Any] = {"batch_size": batch_size}
    for name, said in (
        ("neighbours", "neighbours_in_batch"),
        ("bins", "bins_per_batch_distance"),
        ("classes", "classes_per_batch_distance"),
    ):
        figures = [figure for quality in found if (figure := getattr(quality, name)) is not None]
        if figures:
            worst = max(figures, key=lambda figure: figure.mean)
            about |= {said: worst.mean, f"{said}_if_random": worst.random}
    return about


def first_bytes(path: Path) -> bytes:
    """By which kinds of files are told apart."""
    with open(path, "rb") as file:
        return file.read(6)


def is_partition(path: Path) -> bool:
    """Whether the schema of a Parquet file is a partition's."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return "worker" in pq.read_schema(path).names
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a Parquet file: {error}", path=path) from None


def about_dynamics(dynamics: Dynamics) -> dict[str, Any]:
    """What `inspect` tells of dynamics."""
    return {
        "kind": "dynamics",
        "samples": dynamics.num_samples,
        "epochs": dynamics.epochs,
        "never_observed": int((dynamics.count == 0).sum()),
        "quantities": list(dynamics.quantities),
    }
