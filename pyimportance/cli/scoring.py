"""pyimportance score: from training dynamics to scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyimportance.cli.output import JsonOption, check_output, progress_bar, show
from pyimportance.errors import ArgumentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pyimportance.score.dynamics import Dynamics
    from pyimportance.score.values import Scores


def score(
    dynamics: Annotated[
        list[Path],
        typer.Argument(
            help="What `Dynamics.save` wrote (.npz), or a folder that dataset cartography logged; several: "
            "runs over the same samples, scored as one."
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

        pyimportance score run-a.npz run-b.npz -o scores.parquet --measure el2n
    """
    import numpy as np

    from pyimportance.score.dynamics import Dynamics
    from pyimportance.score.measures import score as compute
    from pyimportance.score.values import Scores
    from pyimportance.shards.sample_index import SampleIndex

    check_output(output, *dynamics, index)
    with progress_bar("reading", unit="steps") as progress:
        progress(0, len(dynamics) + 2)
        known = None if index is None else SampleIndex.load(index)
        runs = []
        for at, path in enumerate(dynamics, 1):
            runs.append(Dynamics.from_cartography(path) if path.is_dir() else Dynamics.load(path))
            check_measure(measure, runs[-1], path)
            progress(at, len(dynamics) + 2, "scoring" if at == len(dynamics) else "reading")
        scores = compute(runs if len(runs) > 1 else runs[0], measure)
        if known is not None:
            check_match(scores, known.ids, known.keys, dynamics[0], index)
            order = np.argsort(known.ids)
            scores = Scores(
                scores.values, known.ids[order], scores.measure, scores.descending,
                known.keys.take(order), scores.metadata,
            )  # fmt: skip
        progress(len(dynamics) + 1, len(dynamics) + 2, "writing")
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
