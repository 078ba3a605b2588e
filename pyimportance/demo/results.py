"""The ranks' figures -> the report (a plain dict, saved as JSON) -> the table, which shows nothing else."""

from __future__ import annotations

import contextlib
import math
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimportance import __version__
from pyimportance.demo.config import DemoConfig

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Table

BYTES = ("origin_bytes", "disk_bytes", "owned_bytes", "stored_bytes", "repartition_bytes", "index_bytes")
CAPTION = (
    "accuracy: of the test samples, with BatchNorm statistics pooled over the ranks, then with rank 0's own. "
    "Bytes are means per rank over a run. origin: read from where the data comes from (first fetch, misses, "
    "global reshuffles, moves), and its ratio to vanilla-lru's; with index: the same ratio when indexes and "
    "manifests count too; moved: the part of origin that repartitions caused; disk: own shards or cache; "
    "owned: held last; stored: what the tars of all generations, or the cache, take on disk in the end; "
    "index: indexes and manifests, and what ranks tell each other of them. tracking: of the training time, "
    "observing the batches and exchanging what was seen; per sample, where batches are small, that is a "
    "batch's fixed cost and the wait for other ranks."
)
ONE_SEED = "One seed cannot tell such accuracies apart: --seeds 5 gives the differences with their intervals."
Runs = Mapping[tuple[str, int], Sequence[Mapping[str, float]]]
"""(policy, seed) -> one dict of figures per rank."""


def report(config: DemoConfig, runs: Runs, about: Mapping[str, Any]) -> dict[str, Any]:
    """The demo's report: what ``pyimportance demo --json`` prints and ``report.json`` holds.

    Bytes are means per rank over a whole run (and over the seeds); ``origin_bytes`` is everything that was
    not local: misses of a vanilla run, the first fetch of a worker's own samples, and what repartitions
    moved, which is ``repartition_bytes``. ``disk_bytes`` were read from own shards or a cache;
    ``owned_bytes`` are the samples that a rank owns, or its cache holds, at the end; ``stored_bytes`` the
    tars on its disk then, which keep the samples of earlier generations, or again the cache. Accuracies
    are correct predictions per test sample.

    Of runs that are not all there it is the report of those that are, and says so: ``complete`` is False,
    and policies without a run have no row.
    """
    policies = [_policy(name, config, runs) for name in config.policies if (name, 0) in runs]
    return {
        "complete": len(runs) == len(config.policies) * config.seeds,
        "runs": len(runs),
        "policies": policies,
        "world_size": config.workers,
        "epochs": config.epochs,
        "warmup": config.warmup,
        "interval": config.interval,
        "warmup_on": config.warmup_on,
        "seeds": config.seeds,
        "measure": config.measure,
        "config": config.to_dict(),
        **about,
        "versions": {
            "pyimportance": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy")},
        },
        "machine": {"cpu": processor(), "cores": os.cpu_count(), "system": platform.platform()},
    }


def processor() -> str:
    """The processor's name where Linux tells it."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _policy(name: str, config: DemoConfig, runs: Runs) -> dict[str, Any]:
    done = [seed for seed in range(config.seeds) if (name, seed) in runs]
    per_seed = [runs[name, seed] for seed in done]
    ranks = [rank for seed in per_seed for rank in seed]

    def mean(key: str) -> float:
        total = sum(rank.get(key, 0.0) for rank in ranks)
        return int(total // len(ranks)) if total % len(ranks) == 0 else total / len(ranks)

    accuracies = [seed[0]["accuracy"] for seed in per_seed]
    row: dict[str, Any] = {"policy": name, "accuracy": fmean(accuracies)}
    row |= {key: mean(key) for key in BYTES}
    samples, training = mean("observed_samples"), mean("training_seconds")
    row["tracking_share"] = mean("tracking_seconds") / training if samples else 0.0
    row["tracking_ns_per_sample"] = mean("tracking_seconds") / samples * 1e9 if samples else None
    row["observe_ns_per_sample"] = mean("observe_seconds") / samples * 1e9 if samples else None
    row["training_seconds"] = training
    row["repartition_seconds"] = mean("repartition_seconds")
    accuracies_rank0 = [seed[0]["accuracy_rank0"] for seed in per_seed]
    row["accuracy_rank0"] = fmean(accuracies_rank0)
    row["accuracies"], row["accuracies_rank0"] = accuracies, accuracies_rank0
    vanilla = [runs["vanilla", seed][0]["accuracy"] for seed in done if ("vanilla", seed) in runs]
    if len(vanilla) > 1 and name != "vanilla":
        row["difference_to_vanilla"] = paired_difference(accuracies[: len(vanilla)], vanilla)
    return row


def paired_difference(values: Sequence[float], baseline: Sequence[float]) -> dict[str, float]:
    """Mean of ``values - baseline``, pair by pair, with its 95 % interval (Student's t, n - 1 degrees)."""
    from scipy.stats import t

    differences = np.subtract(values, baseline)
    n = len(differences)
    half = float(t.ppf(0.975, n - 1)) * float(differences.std(ddof=1)) / math.sqrt(n)
    mean = float(differences.mean())
    return {"mean": mean, "low": mean - half, "high": mean + half}


def table(values: Mapping[str, Any]) -> RenderableType:
    """The report as a rich table; as several below each other where the console is too narrow for one."""
    from rich.console import Group
    from rich.text import Text

    title = Text(_title(values), style="italic")
    caption = CAPTION if values["seeds"] > 1 else f"{CAPTION} {ONE_SEED}"
    return Group(title, _Columns(_columns(values["policies"])), Text(caption, style="dim"))


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """(heading, a cell per row) of every column; the first names the rows."""
    lru = next((row for row in rows if row["policy"] == "vanilla-lru"), None)
    columns = [
        ("policy", [row["policy"] for row in rows]),
        ("accuracy\n%", [f"{100 * row['accuracy']:.2f}" for row in rows]),
        ("rank 0's\nBN", [f"{100 * row['accuracy_rank0']:.2f}" for row in rows]),
    ]
    if any("difference_to_vanilla" in row for row in rows):
        columns.append(("vs vanilla,\n95 %", [_interval(row.get("difference_to_vanilla")) for row in rows]))
    columns.append(("origin\nMB", [_megabytes(row["origin_bytes"]) for row in rows]))
    if lru is not None and lru["origin_bytes"]:
        indexed = lru["origin_bytes"] + lru["index_bytes"]
        columns += [
            ("of\nLRU's", [f"{row['origin_bytes'] / lru['origin_bytes']:.3f}" for row in rows]),
            ("with\nindex", [f"{(row['origin_bytes'] + row['index_bytes']) / indexed:.3f}" for row in rows]),
        ]
    for name in ("repartition", "disk", "owned", "stored", "index"):
        heading = "moved" if name == "repartition" else name
        columns.append((f"{heading}\nMB", [_megabytes(row[f"{name}_bytes"]) for row in rows]))
    ns = [row["tracking_ns_per_sample"] for row in rows]
    shares = [f"{100 * row['tracking_share']:.2f}" for row in rows]
    columns += [
        ("tracking\n%", ["-" if n is None else share for n, share in zip(ns, shares, strict=True)]),
        ("ns per\nsample", ["-" if n is None else f"{n:,.0f}" for n in ns]),
    ]
    return columns


class _Columns:
    """Columns in as many tables as the width of the console asks for, each led by the first column."""

    def __init__(self, columns: list[tuple[str, list[str]]]) -> None:
        self._first, *self._others = columns

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        room = options.max_width - 1 - _width(self._first)
        chosen: list[tuple[str, list[str]]] = []
        for column in self._others:
            if chosen and sum(map(_width, chosen)) + _width(column) > room:
                yield self._table(chosen)
                chosen = []
            chosen.append(column)
        yield self._table(chosen)

    def _table(self, columns: list[tuple[str, list[str]]]) -> Table:
        from rich.table import Table
        from rich.text import Text

        grid = Table()
        grid.add_column(self._first[0], no_wrap=True)
        for heading, _ in columns:
            grid.add_column(heading, justify="right", no_wrap=True)
        for cells in zip(self._first[1], *(cells for _, cells in columns), strict=True):
            grid.add_row(*map(Text, cells))
        return grid


def _width(column: tuple[str, list[str]]) -> int:
    heading, cells = column
    return max(map(len, [*heading.split("\n"), *cells])) + 3  # padding and a line


def _title(values: Mapping[str, Any]) -> str:
    epochs, ranks, warmup = values["epochs"], values["world_size"], values["warmup"]
    where = f"{values['data']}, {epochs} epochs on {ranks} rank{'s' * (ranks > 1)}"
    if values["seeds"] > 1:
        where += f", {values['seeds']} seeds"
    shuffled = " on global reshuffles" if values["warmup_on"] == "vanilla" else ""
    if warmup == epochs:
        return f"{where}: all to warm up{shuffled}, so nothing was repartitioned"
    after = f"then a repartition every {values['interval']} by {values['measure']}"
    return f"{where}: {warmup} to warm up{shuffled}, {after}"


def _megabytes(nbytes: float) -> str:
    return f"{nbytes / 1e6:,.2f}"


def _interval(difference: Mapping[str, float] | None) -> str:
    if difference is None:
        return "-"
    mean, low, high = (100 * difference[key] for key in ("mean", "low", "high"))
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"
