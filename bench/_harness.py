"""What the benches share: options, timing, the machine, the table, --json.

A bench is a script with ``run(options) -> Report`` and ``main(argv)``; it checks the answers it times.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "torch", "pyarrow", "webdataset")


@dataclass(frozen=True)
class Timing:
    """Wall-clock seconds of repeated calls: the median, and the interval of all."""

    median: float
    low: float
    high: float
    repeats: int


def measure(call: Callable[[], Any], repeats: int) -> tuple[Timing, Any]:
    """Time ``call`` after one unmeasured call; also what it returned last, to be checked."""
    result = call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    return Timing(statistics.median(seconds), min(seconds), max(seconds), repeats), result


def compare(contenders: Mapping[str, Callable[[int], Any]], repeats: int) -> dict[str, Timing]:
    """Time the contenders in turn, round by round, so that a machine that slows down slows all of them.

    Each is called with the number of the round, to take inputs of its own; rounds 0 and 1 are not measured.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeats + 2):
        for name, call in contenders.items():
            start = time.perf_counter()
            call(turn)
            seconds[name].append(time.perf_counter() - start)
    taken = {name: times[2:] for name, times in seconds.items()}
    return {n: Timing(statistics.median(t), min(t), max(t), repeats) for n, t in taken.items()}


def last_level_cache() -> int:
    """Bytes; inputs that rotate over more come from memory. 32 MiB where the system does not say."""
    try:
        return max(os.sysconf("SC_LEVEL3_CACHE_SIZE"), os.sysconf("SC_LEVEL2_CACHE_SIZE")) or 1 << 25
    except (ValueError, OSError):
        return 1 << 25


def machine() -> dict[str, Any]:
    """Where this runs: processor, usable cores, memory, load, versions."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _field_of("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": usable,
        "memory": _field_of("/proc/meminfo", "MemTotal"),
        "system": platform.platform(),
        "load": os.getloadavg()[0],
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
    }


def _field_of(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


@dataclass(frozen=True)
class Row:
    """One contender in one case. ``items`` is what a time per item divides by; ``nbytes`` what was moved."""

    case: str
    contender: str
    timing: Timing
    items: int
    nbytes: int
    notes: str = ""


@dataclass
class Report:
    """A bench's rows, with what they were measured on."""

    bench: str
    item: str
    moved: str  # what the bytes are: "values read + positions written"
    rows: list[Row] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=machine)

    def as_dict(self) -> dict[str, Any]:
        rows = [
            {**asdict(row), "ns_per_item": ns_per_item(row), "gb_per_s": gb_per_s(row)} for row in self.rows
        ]
        return {
            "bench": self.bench,
            "item": self.item,
            "moved": self.moved,
            "machine": self.machine,
            "rows": rows,
        }


def ns_per_item(row: Row) -> float:
    return row.timing.median / max(row.items, 1) * 1e9


def gb_per_s(row: Row) -> float:
    return row.nbytes / row.timing.median / 1e9


def options_parser(description: str) -> argparse.ArgumentParser:
    """The options that every bench has; add your own."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="small cases, few repeats: does it run at all?")
    parser.add_argument(
        "--repeats", type=int, default=5, help="measured calls per row (default: %(default)s)"
    )
    parser.add_argument(
        "--json", metavar="PATH", help="write the report there as well ('-': standard output only)"
    )
    return parser


def publish(report: Report, json_path: str | None) -> None:
    """Print the table, and write the JSON where asked to."""
    if json_path == "-":
        print(json.dumps(report.as_dict(), indent=1))
        return
    show(report)
    if json_path:
        Path(json_path).write_text(json.dumps(report.as_dict(), indent=1) + "\n")


def show(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    host = report.machine
    versions = ", ".join(f"{name} {number}" for name, number in host["versions"].items())
    table = Table(title=f"{report.bench}: bytes are {report.moved}", title_justify="left")
    for column in ("case", "contender", "ms", "interval", f"ns/{report.item}", "MB", "GB/s", "notes"):
        table.add_column(column, justify="left" if column in ("case", "contender", "notes") else "right")
    for row in report.rows:
        t = row.timing
        table.add_row(
            row.case,
            row.contender,
            f"{t.median * 1e3:.2f}",
            f"{t.low * 1e3:.2f} .. {t.high * 1e3:.2f}",
            f"{ns_per_item(row):.2f}",
            f"{row.nbytes / 1e6:.1f}",
            f"{gb_per_s(row):.2f}",
            row.notes,
        )
    console = Console(width=None if os.isatty(1) else 140)
    console.print(
        f"{host['cpu']}, {host['cores']} cores, {host['memory']}, load {host['load']:.1f}; {versions}"
    )
    console.print(table)


def run_main(
    run: Callable[[argparse.Namespace], Report], parser: argparse.ArgumentParser, argv: Sequence[str] | None
) -> int:
    """The body of a bench's ``main``."""
    options = parser.parse_args(argv)
    publish(run(options), options.json)
    return 0
