"""pyimportance score and pyimportance partition: from training dynamics to who owns which sample."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyimportance.cli.output import JsonOption, show
from pyimportance.errors import ArgumentError

if TYPE_CHECKING:
    from pyimportance.order.values import Partition
    from pyimportance.score.values import Scores
    from pyimportance.shards.sample_index import SampleIndex

WorkersOption = Annotated[int | None, typer.Option(help="Workers to divide the samples over.")]
PolicyOption = Annotated[str, typer.Option(help="random, stripes, blocks, snake or sticky.")]
BinsOption = Annotated[int, typer.Option(help="Runs of importance per worker, each in shards of its own.")]
SeedOption = Annotated[int, typer.Option(help="Of the random policy.")]
KOption = Annotated[
    int | None, typer.Option("--k", help="Of sticky: samples per worker and stratum; more move fewer.")
]


def score(
    dynamics: Annotated[Path, typer.Argument(help="What `Dynamics.save` wrote (.npz).")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Parquet file to write.")],
    measure: Annotated[
        str, typer.Option(help="loss_mean, forgetting, el2n, aum ...; an unknown name lists them all.")
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

    known = None if index is None else SampleIndex.load(index)
    scores = compute(Dynamics.load(dynamics), measure)
    if known is not None:
        check_match(scores, known, dynamics, index)
        order = np.argsort(known.ids)
        scores = Scores(
            scores.values, known.ids[order], scores.measure, scores.descending,
            known.keys.take(order), scores.metadata,
        )  # fmt: skip
    scores.save(output)
    show(about_scores(scores) | {"written": str(output)}, as_json)


def partition(
    scores: Annotated[Path, typer.Argument(help="What `pyimportance score` wrote.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Parquet file to write.")],
    workers: WorkersOption = None,
    policy: PolicyOption = "stripes",
    bins: BinsOption = 1,
    seed: SeedOption = 0,
    k: KOption = None,
    current: Annotated[
        Path | None,
        typer.Option(
            help="Who holds the samples now: a folder of shards, or a partition; few samples then move."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Divide the samples over workers by their scores.

    Examples:

        pyimportance partition scores.parquet -o partition.parquet --workers 8

        pyimportance partition scores.parquet -o next.parquet --policy sticky --k 16 --current shards
    """
    from pyimportance.score.values import Scores

    result = divide(
        Scores.load(scores), workers=workers, policy=policy, bins=bins, seed=seed, k=k, current=current
    )
    result.save(output)
    show(about_partition(result) | {"written": str(output)}, as_json)


def divide(
    scores: Scores,
    *,
    workers: int | None,
    policy: str,
    bins: int,
    seed: int,
    k: int | None,
    current: Path | None = None,
) -> Partition:
    """The partition that the options of ``partition`` and ``shard`` ask for."""
    from pyimportance.order.partition import partition as compute

    held, sizes = (None, None) if current is None else holders(current, scores)
    if workers is None:
        if held is None:
            raise ArgumentError("--workers: say how many, or give --current to keep their number")
        workers = held.workers
    options = {} if k is None else {"k": k}
    return compute(scores, workers, policy=policy, bins=bins, seed=seed, current=held, sizes=sizes, **options)


def holders(current: Path, scores: Scores) -> tuple[Any, Any]:
    """(a ShardSet or a Partition, bytes of each scored sample or None where they are not known)."""
    import numpy as np

    from pyimportance.order.values import Partition
    from pyimportance.shards.shard_set import ShardSet

    if not current.is_dir():
        return Partition.load(current), None
    shards = ShardSet.open(current)
    indexes = [shards.index(worker) for worker in range(shards.workers)]
    ids = np.concatenate([index.ids for index in indexes])
    order = np.argsort(ids)
    if not np.array_equal(ids[order], scores.sample_ids()):
        return shards, None
    return shards, np.concatenate([index.nbytes for index in indexes])[order]


def check_match(scores: Scores, index: SampleIndex, scored: Path, indexed: Path | str | None) -> None:
    """ArgumentError unless the scores are of exactly the samples (and, if known, the keys) of the index."""
    import numpy as np
    import pyarrow.compute as pc

    ids = np.sort(index.ids)
    if not np.array_equal(scores.sample_ids(), ids):
        raise ArgumentError(
            f"{scored} and {indexed} do not match: {scores.num_samples} samples there, "
            f"{index.num_samples} here" + ("" if len(ids) != scores.num_samples else ", with other ids")
        )
    if scores.keys is None:
        return
    keys = index.keys.take(np.argsort(index.ids))
    different = pc.index(pc.not_equal(keys, scores.keys), True).as_py()
    if different >= 0:
        raise ArgumentError(
            f"{scored} and {indexed} do not match: sample {int(ids[different])} has key "
            f"{scores.keys[different].as_py()!r} there, {keys[different].as_py()!r} here"
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
