"""pyimportance compact, prune and export: generations of shards tidied up, and read by other tools."""

from __future__ import annotations

from typing import Annotated, cast

import typer

from pyimportance.cli.data import GenerationOption, about_shards
from pyimportance.cli.output import JsonOption, progress_bar, show
from pyimportance.io.urls import public

ShardsArgument = Annotated[str, typer.Argument(help="Folder of shards, or its s3, gs or az URL.")]


def compact(
    shards: ShardsArgument,
    shard_bytes: Annotated[
        int | None, typer.Option(help="Size at which a shard is full; as until now, without.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a repartitioned set anew: a generation whose tars hold its samples, in order, and no others.

    Its files can be read by any WebDataset reader without an index, and exported. The old generations stay
    until `prune`. Interrupted and started again, it completes; nothing is written where nothing would change.

    Example:

        pyimportance compact shards

        pyimportance prune shards
    """
    from pyimportance.shards.compact import compact as rewrite
    from pyimportance.shards.shard_set import ShardSet

    old = ShardSet.open(shards)
    with progress_bar("writing shards anew", unit="workers") as progress:
        new = rewrite(old, shard_bytes=shard_bytes, progress=progress)
    show(about_shards(new) | {"rewritten": new.digest != old.digest}, as_json)


def prune(
    shards: ShardsArgument,
    keep: Annotated[
        list[int] | None, typer.Option(help="A generation before the current one to keep; may be repeated.")
    ] = None,
    abandon: Annotated[
        list[int] | None,
        typer.Option(help="A generation that was begun and will not be finished; may be repeated."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove the generations before the current one, and the files that only they need.

    A training run that was saved on an older generation resumes on that one: keep it. In a store nobody can
    tell whether a job that was begun from such a generation is still at work: finish it, or --abandon it.

    Example:

        pyimportance prune shards --keep 3 --dry-run
    """
    from pyimportance.shards.prune import prune as remove
    from pyimportance.shards.shard_set import ShardSet

    opened = ShardSet.open(shards)
    pruned = remove(opened, keep=keep or (), abandon=abandon or (), dry_run=dry_run)
    show(
        {
            "folder": public(opened.root),
            "generation": opened.generation,
            "removed": not dry_run,
            "generations": list(pruned.generations),
            "files": pruned.files,
            "bytes": pruned.nbytes,
        },
        as_json,
    )


def export(
    shards: ShardsArgument,
    format: Annotated[str, typer.Argument(help="dali, wids, webshart or energon.")],
    generation: GenerationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the index files that another tool reads beside tars: DALI, wids, webshart or Megatron-Energon.

    A repartitioned set must be compacted first: its tars still hold what moved away.

    Example:

        pyimportance export shards dali
    """
    from pyimportance.shards.export import Format
    from pyimportance.shards.shard_set import ShardSet

    opened = ShardSet.open(shards, generation=generation)
    with progress_bar("exporting") as progress:
        paths = opened.export(cast(Format, format), progress=progress)  # which refuses anything else
    about = {"folder": public(opened.root), "generation": opened.generation, "format": format}
    show(about | {"files": len(paths), "last": paths[-1] if paths else None}, as_json)
