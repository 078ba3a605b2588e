"""Two pictures: the data map, and the bytes per policy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimportance.errors import PyimportanceError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pyimportance.score.dynamics import Dynamics


def check_matplotlib() -> None:
    """Raises PyimportanceError where matplotlib is missing: before the runs, not after."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        message = 'plots need matplotlib; install it with: pip install "pyimportance[plot]"'
        raise PyimportanceError(message) from None


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG, whole or not at all."""
    import io

    from pyimportance.io.atomic import write_bytes

    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=150)
    write_bytes(path, data.getvalue())


def data_map(dynamics: Dynamics) -> Figure:
    """Variability against confidence, coloured by correctness (Swayamdipta 2020, figure 1)."""
    from matplotlib.figure import Figure

    from pyimportance.score.measures import score

    variability, confidence, correctness = (
        score(dynamics, measure).values for measure in ("variability", "confidence", "correctness")
    )
    seen = ~np.isnan(confidence)
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot()
    points = axes.scatter(
        variability[seen],
        confidence[seen],
        c=correctness[seen],
        s=6,
        alpha=0.6,
        linewidths=0,
        cmap="coolwarm_r",
    )
    figure.colorbar(points, label="correctness (epochs in which the prediction was right)")
    axes.set(
        xlabel="variability of the target's probability over epochs",
        ylabel="confidence (its mean)",
        title=f"Data map of {int(seen.sum()):,} training samples",
    )
    for x, y, text in (
        (0.02, 0.97, "easy to learn"),
        (0.98, 0.5, "ambiguous"),
        (0.02, 0.03, "hard to learn"),
    ):
        axes.text(x, y, text, transform=axes.transAxes, ha="left" if x < 0.5 else "right", va="center")
    return figure


def bytes_per_policy(values: Mapping[str, Any]) -> Figure:
    """What each policy read per rank: from the origin (first fetch or misses, moves) and from local disk."""
    from matplotlib.figure import Figure

    rows = values["policies"]
    names = [row["policy"] for row in rows]
    moved = np.array([row["repartition_bytes"] for row in rows]) / 1e6
    fetched = np.array([row["origin_bytes"] for row in rows]) / 1e6 - moved
    local = np.array([row["disk_bytes"] for row in rows]) / 1e6
    figure = Figure(figsize=(8, 0.5 * len(names) + 1.5), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(names, fetched, label="origin: first fetch or misses", color="tab:red")
    axes.barh(names, moved, left=fetched, label="origin: moved by repartitions", color="tab:orange")
    axes.barh(names, local, left=fetched + moved, label="local disk or cache", color="lightgrey")
    axes.invert_yaxis()
    axes.set(xlabel=f"MB read per rank in {values['epochs']} epochs")
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize="small")
    return figure
