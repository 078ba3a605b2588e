"""pyimportance score and pyimportance partition: from training dynamics to who owns which sample."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyimportance.cli.output import JsonOption, check_output, progress_bar, show
from pyimportance.errors import ArgumentError, DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pyimportance.order.values import Partition
    from pyimportance.score.dynamics import Dynamics
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


def score(
    dynamics: Annotated[
        Path,
        typer.Argument(
            help="What `Dynamics.save` wrote (.npz), or a folder that dataset cartography logged."
        ),
    ],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Parquet file to write.")],
    measure: Annotated[
        str, typer.Option(help="loss_mean, forgetting, el2n, aum ...; an unknown name lists what there is.")
    ] = "loss_mean",
    index: Annotated[
        Path | None,
        typer.Option(help="The data's index: adds each sample's key, and checks that they match."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Score every sample by a measure of its training dynamics.

    The result is a Parquet table (id, key if an index is given, score) that any tool reads; samples that were
    never observed have no score (NaN) and come last in every order.

    Examples:

        pyimportance score dynamics.npz -o scores.parquet

        pyimportance score dynamics.npz -o scores.parquet --measure forgetting --index index.arrow
    """
    import numpy as np

    from pyimportance.score.dynamics import Dynamics
    from pyimportance.score.measures import score as compute
    from pyimportance.score.values import Scores
    from pyimportance.shards.sample_index import SampleIndex

    check_output(output, dynamics, index)
    with progress_bar("reading", unit="steps") as progress:
        progress(0, 3)
        known = None if index is None else SampleIndex.load(index)
        load = Dynamics.from_cartography if dynamics.is_dir() else Dynamics.load
        recorded = load(dynamics)
        check_measure(measure, recorded, dynamics)
        progress(1, 3, "scoring")
        scores = compute(recorded, measure)
        if known is not None:
            check_match(scores, known.ids, known.keys, dynamics, index)
            order = np.argsort(known.ids)
            scores = Scores(
                scores.values, known.ids[order], scores.measure, scores.descending,
                known.keys.take(order), scores.metadata,
            )  # fmt: skip
        progress(2, 3, "writing")
        scores.save(output)
    show(about_scores(scores) | {"written": str(output)}, as_json)


def check_measure(measure: str, recorded: Dynamics, path: Path) -> None:
    """ArgumentError for a measure that there is not, or that must be given more than what was recorded; what
    was not recorded, `score` says itself.
    """
    from pyimportance.score.measures.registry import REGISTRY
    from pyimportance.score.measures.scoring import measures

    chosen, possible = REGISTRY.get(measure), measures(recorded)
    if possible and (chosen is None or chosen.required):
        why = "is unknown" if chosen is None else f"takes {', '.join(chosen.required)}, from Python alone"
        raise ArgumentError(f"--measure {measure!r} {why}; of {path} there are {', '.join(possible)}")


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
        Path | None,
        typer.Option(
            help="Who holds the samples now: a folder of shards, or a partition; few samples then move."
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

        pyimportance partition scores.parquet -o p.parquet --workers 3 --capacity 1,1,2 --policy balanced
            --sizes index.arrow
    """
    from pyimportance.score.values import Scores

    check_output(output, scores, current, sizes, classes)
    if prune and current is None:
        raise ArgumentError("--prune: samples can only be left out of a --current")
    with progress_bar("reading", unit="steps") as progress:
        progress(0, 3)
        values = Scores.load(scores)
        holder, held_sizes = (None, None) if current is None else holders(current, values, scores, prune)
        progress(1, 3, "dividing")
        result = divide(
            values,
            scores,
            workers=workers,
            policy=policy,
            bins=bins,
            seed=seed,
            k=k,
            tolerance=tolerance,
            current=holder,
            sizes=held_sizes if sizes is None else sizes_of(sizes, values, scores),
            classes=None if classes is None else integers(classes),
            capacity=capacity,
        )
        progress(2, 3, "writing")
        result.save(output)
    show(about_partition(result) | {"written": str(output)}, as_json)


def divide(
    scores: Scores,
    scored: Path,
    *,
    workers: int | None,
    policy: str,
    bins: int | None,
    seed: int,
    k: int | None,
    tolerance: float | None,
    sizes: NDArray[Any] | None,
    classes: NDArray[Any] | None,
    capacity: str | None,
    current: Any = None,
) -> Partition:
    """The partition that the options of ``partition`` and ``shard`` ask for."""
    from pyimportance.order.partition import partition as compute

    if workers is None:
        if current is None:
            raise ArgumentError("--workers: say how many, or give --current to keep their number")
        workers = current.workers
    if bins is None:
        bins = 1 if current is None else current.bins
    given = {"k": k, "tolerance": tolerance}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if capacity is not None:
        options["capacity"] = numbers(capacity)
    try:
        return compute(
            scores,
            workers,
            policy=policy,
            bins=bins,
            seed=seed,
            current=current,
            sizes=sizes,
            classes=classes,
            **options,
        )
    except ArgumentError as error:  # say which file it is
        text = str(error)
        raise ArgumentError(f"{scored}{text[6:]}" if text.startswith("scores: ") else text) from None


def numbers(text: str) -> list[float]:
    """What --capacity lists, "1,1,2.5"."""
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise ArgumentError(f"--capacity {text!r}: must be numbers with commas between them") from None


def integers(path: Path) -> NDArray[Any]:
    """The array of a .npy file; DataError where it is none."""
    import numpy as np

    with open(path, "rb") as file:
        try:
            array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise DataError(f"not an array of numbers (.npy): {error}", path=path) from None
    return array


def sizes_of(path: Path, scores: Scores, scored: Path) -> NDArray[Any]:
    """Bytes of each scored sample: of an index, which is to have the same samples, or from a .npy file."""
    import numpy as np

    from pyimportance.shards.sample_index import SampleIndex

    if path.suffix != ".arrow":
        return integers(path)
    index = SampleIndex.load(path)
    check_match(scores, index.ids, index.keys, scored, path)
    sizes: NDArray[np.int64] = index.nbytes[np.argsort(index.ids)]
    return sizes


def holders(current: Path, scores: Scores, scored: Path, prune: bool) -> tuple[Any, Any]:
    """(a ShardSet or a Partition, bytes of each scored sample or None where they are not known).

    ArgumentError unless the scores are of exactly its samples; of some of them, with ``prune``.
    """
    import numpy as np
    import pyarrow as pa

    from pyimportance.order.values import Partition
    from pyimportance.shards.shard_set import ShardSet

    if not current.is_dir():
        partition = Partition.load(current)
        check_match(scores, partition.order, None, scored, current, prune=prune)
        return partition, None
    shards = ShardSet.open(current)
    indexes = [shards.index(worker) for worker in range(shards.workers)]
    ids = np.concatenate([index.ids for index in indexes])
    keys = pa.concat_arrays([index.keys for index in indexes])
    check_match(scores, ids, keys, scored, current, prune=prune)
    rows = np.argsort(ids)
    rows = rows[np.isin(ids[rows], scores.sample_ids())]
    return shards, np.concatenate([index.nbytes for index in indexes])[rows]


def check_match(
    scores: Scores,
    ids: NDArray[np.int64],
    keys: Any,
    scored: Path,
    indexed: Path | str | None,
    *,
    prune: bool | None = None,
) -> None:
    """ArgumentError unless the scores are of exactly the samples of ``indexed``: these ids and, where both
    sides know them, these keys (Arrow strings; in shards, the name of a tar may come before). With
    ``prune``, ids without a score are left out; None where a command cannot do that.
    """
    import numpy as np
    import pyarrow as pa

    wanted, rows = scores.sample_ids(), np.argsort(ids)
    missing = np.setdiff1d(ids, wanted, assume_unique=True).size
    fewer = missing > 0 and len(wanted) + missing == len(ids)  # and no others
    if len(wanted) != len(ids) - missing or (missing and not prune):
        raise ArgumentError(
            f"{scored} and {indexed} do not match: {len(wanted)} samples there, {len(ids)} here"
            + (", with other ids" if len(wanted) == len(ids) else "")
            + ("; --prune leaves the others out" if fewer and prune is False else "")
        )
    if scores.keys is None or keys is None:
        return
    here = keys.take(rows[np.isin(ids[rows], wanted)])
    if here.equals(scores.keys):
        return
    pairs = zip(wanted.tolist(), pa.array(scores.keys).to_pylist(), here.to_pylist(), strict=True)
    for sample, there, found in pairs:
        if found != there and not found.endswith(f"/{there}"):
            raise ArgumentError(
                f"{scored} and {indexed} do not match: sample {sample} has key {there!r} there, "
                f"{found!r} here"
            )


def about_scores(scores: Scores) -> dict[str, Any]:
    """What `inspect` tells of scores."""
    import numpy as np

    known = scores.values[~np.isnan(scores.values)]
    finite = known[np.isfinite(known)]
    quantiles = np.quantile(finite, [0, 0.25, 0.5, 0.75, 1]).tolist() if len(finite) else None
    return {
        "kind": "scores",
        "samples": scores.num_samples,
        "measure": scores.measure,
        "important": "high" if scores.descending else "low",
        "keys": scores.keys is not None,
        "not_scored": scores.num_samples - len(known),
        "infinite": len(known) - len(finite),
        "quartiles": quantiles,
        "metadata": dict(scores.metadata),
    }


def about_partition(partition: Partition) -> dict[str, Any]:
    """What `inspect` tells of a partition."""
    return {
        "kind": "partition",
        "samples": partition.num_samples,
        "workers": partition.workers,
        "bins": partition.bins,
        "policy": partition.policy,
        "measure": partition.measure,
        "samples_per_worker": partition.counts.sum(1).tolist(),
    }
