"""pyimportance inspect."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyimportance.cli.data import about_index, about_shards
from pyimportance.cli.output import JsonOption, show
from pyimportance.cli.scoring import about_partition, about_scores
from pyimportance.errors import DataError

if TYPE_CHECKING:
    from pyimportance.score.dynamics import Dynamics


def inspect(
    path: Annotated[Path, typer.Argument(help="Folder of shards, index, dynamics, scores or partition.")],
    as_json: JsonOption = False,
) -> None:
    """Tell what a file or folder of pyimportance's is, and what it holds.

    Examples:

        pyimportance inspect shards

        pyimportance inspect scores.parquet --json
    """
    show(describe(path), as_json)


def describe(path: Path) -> dict[str, Any]:
    """What ``path`` holds, by its content and not its name; DataError where it is nothing of ours."""
    from pyimportance.order.values import Partition
    from pyimportance.score.dynamics import Dynamics
    from pyimportance.score.values import Scores
    from pyimportance.shards.sample_index import SampleIndex
    from pyimportance.shards.shard_set import ShardSet

    if path.is_dir():
        return about_shards(ShardSet.open(path))
    with open(path, "rb") as file:
        magic = file.read(6)
    if magic == b"ARROW1":
        return about_index(SampleIndex.load(path))
    if magic.startswith(b"PK") and zipfile.is_zipfile(path):
        return about_dynamics(Dynamics.load(path))
    if magic.startswith(b"PAR1"):
        if is_partition(path):
            return about_partition(Partition.load(path))
        return about_scores(Scores.load(path))
    raise DataError("is no index, dynamics, scores, partition or folder of shards", path=path)


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
