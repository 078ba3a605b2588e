"""pyimportance partition: from scores to who owns which sample."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyimportance.cli.output import JsonOption, check_output, progress_bar, show
from pyimportance.cli.scoring import check_match
from pyimportance.errors import ArgumentError, DataError
from pyimportance.io.urls import is_url, public

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pyimportance.order.values import Partition
    from pyimportance.score.values import Scores

WorkersOption = Annotated[int | None, typer.Option(help="Workers to divide the samples over.")]
PolicyOption = Annotated[str, typer.Option(help="random, stripes, blocks, snake, sticky or balanced.")]
BinsOption = Annotated[
    int | None,
    typer.Option(
        help="Runs of importance per worker, each in own shards; without it those of --current, or 1."
    ),
]
SeedOption = Annotated[int, typer.Option(help="Of the random policy.")]
KOption = Annotated[
    int | None, typer.Option("--k", help="Of sticky: samples per worker and stratum; more move fewer.")
]
ToleranceOption = Annotated[
    float | None,
    typer.Option(
        help="Of sticky, instead of --k: how far any worker's scores may be from all (Kolmogorov-Smirnov)."
    ),
]
SizesOption = Annotated[
    Path | None,
    typer.Option(
        help="Bytes (or cost) of each sample: an index, or integers by ascending id (.npy). --current shards "
        "know theirs."
    ),
]
ClassesOption = Annotated[
    Path | None,
    typer.Option(
        help="The class of each sample, integers by ascending id (.npy): the policy runs inside each class."
    ),
]
CapacityOption = Annotated[
    str | None,
    typer.Option(help="For unequal machines, a number per worker (1,1,2): samples in proportion to it."),
]


@dataclass(frozen=True)
class Division:
    """The options of ``partition`` and ``shard`` that say how samples are divided, as they are typed."""

    workers: int | None = None
    policy: str = "stripes"
    bins: int | None = None
    seed: int = 0
    k: int | None = None
    tolerance: float | None = None
    capacity: str | None = None

    def given(self) -> list[str]:
        """Which are not as they are if nobody says anything."""
        return [f"--{field.name}" for field in fields(self) if getattr(self, field.name) != field.default]


def partition(
    scores: Annotated[Path, typer.Argument(help="What `pyimportance score` wrote.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Parquet file to write.")],
    workers: WorkersOption = None,
    policy: PolicyOption = "stripes",
    bins: BinsOption = None,
    seed: SeedOption = 0,
    k: KOption = None,
    tolerance: ToleranceOption = None,
    sizes: SizesOption = None,
    classes: ClassesOption = None,
    capacity: CapacityOption = None,
    current: Annotated[
        str | None,
        typer.Option(
            help="Who holds the samples now: a folder of shards or its URL, or a partition; few samples then "
            "move."
        ),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Leave out samples of --current that have no row in the scores.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Divide the samples over workers by their scores.

    Examples:

        pyimportance partition scores.parquet -o partition.parquet --workers 8

        pyimportance partition scores.parquet -o next.parquet --policy sticky --k 16 --current shards

        pyimportance partition scores.parquet -o p.parquet --policy sticky --tolerance 0.01 --current shards

        pyimportance partition scores.parquet -o p.parquet --policy sticky --k 16 --current s3://bucket/shards

        pyimportance partition scores.parquet -o p.parquet --workers 3 --capacity 1,1,2 --policy balanced
            --sizes index.arrow
    """
    from pyimportance.score.values import Scores

    check_output(output, scores, current, sizes, classes)
    if prune and current is None:
        raise ArgumentError("--prune: samples can only be left out of a --current")
    division = Division(workers, policy, bins, seed, k, tolerance, capacity)
    # How many workers there are, and so a capacity of each, may be for --current to say.
    told = current is not None and workers is None
    check_division(replace(division, workers=1, capacity=None) if told else division)
    with progress_bar("reading", unit="steps") as progress:
        progress(0, 3)
        values = Scores.load(scores)
        holder, held_sizes = (None, None) if current is None else holders(current, values, scores, prune)
        held_sizes = held_sizes if sizes is None else sizes_of(sizes, values.sample_ids(), scores)
        classes_of = None if classes is None else integers(classes)
        progress(1, 3, "dividing")
        result = divide(values, scores, division, current=holder, sizes=held_sizes, classes=classes_of)
        progress(2, 3, "writing")
        result.save(output)
    show(about_partition(result, held_sizes, classes_of) | {"written": str(output)}, as_json)


def divide(
    scores: Scores,
    scored: Path,
    division: Division,
    *,
    sizes: NDArray[Any] | None,
    classes: NDArray[Any] | None,
    current: Any = None,
) -> Partition:
    """The partition that the options of ``partition`` and ``shard`` ask for."""
    from pyimportance.order.partition import partition as compute

    workers, bins = division.workers, division.bins
    if workers is None:
        if current is None:
            raise ArgumentError("--workers: say how many, or give --current to keep their number")
        workers = current.workers
    if bins is None:
        bins = 1 if current is None else current.bins
    given = {"k": division.k, "tolerance": division.tolerance}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if division.capacity is not None:
        options["capacity"] = numbers("--capacity", division.capacity)
    try:
        return compute(
            scores,
            workers,
            policy=division.policy,
            bins=bins,
            seed=division.seed,
            current=current,
            sizes=sizes,
            classes=classes,
            **options,
        )
    except ArgumentError as error:  # say which file it is
        text = str(error)
        raise ArgumentError(f"{scored}{text[6:]}" if text.startswith("scores: ") else text) from None


def check_division(division: Division) -> None:
    """Raises what `divide` has against its options whatever the samples are: before any are read."""
    import numpy as np

    from pyimportance.score.values import Scores

    one = Scores(np.zeros(1, np.float32))
    divide(one, Path(), division, sizes=np.ones(1, np.int64), classes=None)


def numbers(option: str, text: str, words: str = "") -> list[float]:
    """What an option lists, "1,1,2.5"; ``words``: what else it may be."""
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise ArgumentError(f"{option} {text!r}: must be {words}numbers with commas between them") from None


def integers(path: Path) -> NDArray[Any]:
    """The array of a .npy file; DataError where it is none."""
    import numpy as np

    with open(path, "rb") as file:
        try:
            array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise DataError(f"not an array of numbers (.npy): {error}", path=path) from None
    return array


def sizes_of(path: Path, ids: NDArray[Any], of: Path) -> NDArray[Any]:
    """Bytes of samples ``ids`` int64 [N], ascending: of an index of the same samples, or from a .npy file."""
    import numpy as np

    from pyimportance.shards.sample_index import SampleIndex

    if path.suffix != ".arrow":
        return integers(path)
    index = SampleIndex.load(path)
    rows = np.argsort(index.ids)
    if not np.array_equal(index.ids[rows], ids):
        raise ArgumentError(f"{of} and {path} do not match: they are not of the same samples")
    sizes: NDArray[np.int64] = index.nbytes[rows]
    return sizes


def holders(current: str, scores: Scores, scored: Path, prune: bool) -> tuple[Any, Any]:
    """(a ShardSet or a Partition, bytes of each scored sample or None where they are not known).

    ArgumentError unless the scores are of exactly its samples; of some of them, with ``prune``.
    """
    import numpy as np
    import pyarrow as pa

    from pyimportance.order.values import Partition
    from pyimportance.shards.shard_set import ShardSet

    if not (is_url(current) or Path(current).is_dir()):
        partition = Partition.load(current)
        check_match(scores, partition.order, None, scored, current, prune=prune)
        return partition, None
    shards, current = ShardSet.open(current), public(current)
    indexes = [shards.index(worker) for worker in range(shards.workers)]
    ids = np.concatenate([index.ids for index in indexes])
    keys = pa.concat_arrays([index.keys for index in indexes])
    check_match(scores, ids, keys, scored, current, prune=prune)
    rows = np.argsort(ids)
    rows = rows[np.isin(ids[rows], scores.sample_ids())]
    return shards, np.concatenate([index.nbytes for index in indexes])[rows]


def about_partition(
    partition: Partition, sizes: NDArray[Any] | None = None, classes: NDArray[Any] | None = None
) -> dict[str, Any]:
    """What `inspect` tells of a partition."""
    return {
        "kind": "partition",
        "samples": partition.num_samples,
        "workers": partition.workers,
        "bins": partition.bins,
        "policy": partition.policy,
        "measure": partition.measure,
        "samples_per_worker": partition.counts.sum(1).tolist(),
        **about_quality(partition, sizes, classes),
    }


def about_quality(
    partition: Partition, sizes: NDArray[Any] | None = None, classes: NDArray[Any] | None = None
) -> dict[str, Any]:
    """How alike the workers are, as far as the partition's scores, sizes and classes are known."""
    from pyimportance.order.quality import quality, shares

    numbers: dict[str, Any] = {}
    if partition.values is not None:
        told = quality(partition)
        numbers = {"mean_score": told.mean_of_all, "mean_score_per_worker": told.mean}
        numbers["ks_per_worker"] = told.ks
    nbytes, distance = shares(partition, sizes, classes)
    numbers |= {"bytes_per_worker": nbytes, "class_distance_per_worker": distance}
    return {name: plain(value) for name, value in numbers.items() if value is not None}


def plain(value: Any) -> Any:
    """Plain numbers, four digits of each that has a fraction; None for NaN, which JSON does not know."""
    import numpy as np

    if np.ndim(value):
        return [plain(one) for one in value]
    if isinstance(value, float | np.floating):
        return None if np.isnan(value) else float(f"{value:.4g}")
    return int(value)
