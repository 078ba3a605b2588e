"""A bench's figures: rows, their intervals, the table and the JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from _machine import machine

from pyimportance.io.atomic import write_bytes

INTERVAL = "median [95 % bootstrap interval of the median]"
_RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A median, and the interval that 95 of 100 medians of resampled values lie in."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        drawn = np.random.default_rng(0).choice(np.asarray(values), (_RESAMPLES, len(values)))
        low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
        return cls(float(np.median(values)), float(low), float(high))

    def text(self, scale: float, digits: int) -> str:
        middle, low, high = (f"{x * scale:,.{digits}f}" for x in (self.median, self.low, self.high))
        return f"{middle} [{low}, {high}]"


@dataclass(frozen=True)
class Row:
    """One contender in one case.

    seconds        of every measured round that it had: those of a case begin with the same one
    items          what a time per item divides by
    input_bytes    what the work is about, declared: the same for all contenders of a case that do the same
    read_bytes     what was counted as read from files; None where nothing is read or counted
    written_bytes  of the result: sizes of files, or of what is kept in memory; None where there is none
    times_first    seconds over those of the case's first contender in the same round; None for that one
    fraction       of what the report says, in the same round; None where there is none
    """

    case: str
    contender: str
    threads: int
    seconds: tuple[float, ...]
    items: int
    input_bytes: int
    read_bytes: int | None
    written_bytes: int | None
    times_first: Interval | None
    fraction: Interval | None
    notes: str

    @cached_property
    def time(self) -> Interval:
        return Interval.of(self.seconds)

    @property
    def ns_per_item(self) -> float:
        return self.time.median / self.items * 1e9

    @property
    def input_gb_per_s(self) -> float:
        return self.input_bytes / self.time.median / 1e9

    def as_dict(self) -> dict[str, Any]:
        derived = {name: getattr(self, name) for name in ("ns_per_item", "input_gb_per_s")}
        return {**asdict(self), "time": asdict(self.time), **derived}


@dataclass(frozen=True)
class Aim:
    """What was aimed at in a case: that ``got`` is ``bound`` at ``least``, or else at most."""

    case: str
    contender: str
    what: str
    bound: float
    got: Interval
    least: bool = True

    @property
    def reached(self) -> bool:
        return self.got.median >= self.bound if self.least else self.got.median <= self.bound

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "reached": self.reached}


@dataclass
class Report:
    """A bench's rows, with what they were measured on, what their bytes are, and what was aimed at."""

    bench: str
    item: str
    about: str  # what the bytes are; what inputs rotate over
    fraction_of: str = ""  # the title of the rows' fractions, which are shown in percent
    rows: list[Row] = field(default_factory=list)
    aims: list[Aim] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=machine)

    def add(
        self,
        case: str,
        seconds: Mapping[str, Sequence[float]],
        *,
        items: int | Mapping[str, int],
        input_bytes: int | Mapping[str, int],
        threads: int | Mapping[str, int] = 1,
        read: Mapping[str, int | None] | None = None,
        written: Mapping[str, int | None] | None = None,
        fractions: Mapping[str, Sequence[float]] | None = None,
        notes: Mapping[str, str] | None = None,
    ) -> None:
        """The rows of a case, from the seconds that `compare` gives; mappings are by contender, sequences by
        round.
        """
        first = next(iter(seconds))
        for name, taken in seconds.items():
            ratios = [a / b for a, b in zip(taken, seconds[first], strict=False)]  # its rounds
            row = Row(
                case=case,
                contender=name,
                threads=threads if isinstance(threads, int) else threads[name],
                seconds=tuple(taken),
                items=items if isinstance(items, int) else items[name],
                input_bytes=input_bytes if isinstance(input_bytes, int) else input_bytes[name],
                read_bytes=(read or {}).get(name),
                written_bytes=(written or {}).get(name),
                times_first=None if name == first else Interval.of(ratios),
                fraction=Interval.of(fractions[name]) if fractions and name in fractions else None,
                notes=(notes or {}).get(name, ""),
            )
            self.rows.append(row)

    def as_dict(self) -> dict[str, Any]:
        rows = [row.as_dict() for row in self.rows]
        shared = {key: getattr(self, key) for key in ("bench", "item", "about", "fraction_of", "machine")}
        return {**shared, "interval": INTERVAL, "rows": rows, "aims": [aim.as_dict() for aim in self.aims]}

    def save(self, path: str) -> None:
        write_bytes(path, json.dumps(self.as_dict(), indent=1).encode() + b"\n")


def part_of(json_path: str | None) -> str | None:
    """Where a long bench keeps the cases that have ended, until all have."""
    return None if json_path in {None, "-"} else f"{json_path}.part"


def publish(report: Report, json_path: str | None) -> None:
    """Print the table, and write the JSON where asked to."""
    report.machine["load_after"] = round(os.getloadavg()[0], 2)
    if json_path == "-":
        print(json.dumps(report.as_dict(), indent=1))
        return
    show(report)
    if json_path:
        report.save(json_path)
        with suppress(FileNotFoundError):
            os.unlink(f"{json_path}.part")


def show(report: Report) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    counts = sorted({len(row.seconds) for row in report.rows})
    of_own = len(counts) > 1
    cells: dict[str, list[str]] = {
        "case": [row.case for row in report.rows],
        "contender": [row.contender for row in report.rows],
        "threads": [str(row.threads) for row in report.rows],
        "rounds": [str(len(row.seconds)) if of_own else "" for row in report.rows],
        "ms": [row.time.text(1e3, 2) for row in report.rows],
        f"ns/{report.item}": [f"{row.ns_per_item:,.1f}" for row in report.rows],
        "x first": [row.times_first.text(1, 2) if row.times_first else "" for row in report.rows],
        "MB in": [_megabytes(row.input_bytes) for row in report.rows],
        "GB/s in": [f"{row.input_gb_per_s:.2f}" for row in report.rows],
        report.fraction_of: [row.fraction.text(100, 2) if row.fraction else "" for row in report.rows],
        "MB read": [_megabytes(row.read_bytes) for row in report.rows],
        "MB written": [_megabytes(row.written_bytes) for row in report.rows],
        "notes": [row.notes for row in report.rows],
    }
    table = Table(title=f"bench {report.bench}", title_justify="left")
    shown = {name: column for name, column in cells.items() if any(column)}
    for name in shown:
        table.add_column(name, justify="left" if name in ("case", "contender", "notes") else "right")
    last = ""
    for case, *values in zip(*shown.values(), strict=True):
        if last not in ("", case):
            table.add_section()
        table.add_row("" if case == last else escape(case), *map(escape, values))  # brackets are no markup
        last = case
    console = Console(width=None if os.isatty(1) else 190, highlight=False)
    console.print(_where(report.machine))
    rounds = f"{counts[0]} to {counts[-1]}" if of_own else counts[0]
    console.print(
        f"{rounds} rounds, the contenders of a case in turn. ms: {INTERVAL}. "
        "x first: seconds over those of the case's first contender in the same round, likewise."
    )
    console.print(report.about)
    console.print(table)
    for aim in report.aims:
        bound = f"{'at least' if aim.least else 'at most'} {aim.bound:g}"
        console.print(
            f"{aim.case}, {aim.contender}: {aim.what} {aim.got.text(1, 2)}; aim: {bound}, "
            f"{'reached' if aim.reached else 'not reached'}",
            markup=False,
        )


def _megabytes(nbytes: int | None) -> str:
    return "" if nbytes is None else f"{nbytes / 1e6:,.1f}"


def _where(host: dict[str, Any]) -> str:
    caches = ", ".join(f"{name} {size // 1024:,} KiB" for name, size in host["caches"].items())
    versions = ", ".join(f"{name} {number}" for name, number in host["versions"].items())
    threads = ", ".join(f"{name} {count}" for name, count in host["threads"].items() if count)
    return (
        f"{host['cpu']}, {host['cores']} cores, {caches or 'caches unknown'}, memory {host['memory']}; "
        f"{host['system']}, {host['instructions']}; load {host['load']} before, {host['load_after']} after; "
        f"threads unless a row says otherwise: {threads}; {versions}"
    )
