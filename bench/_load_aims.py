"""What was aimed at with this package's loader, beside what came out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from _load_ours import OURS, READ
from _report import Aim, Interval, Report, Row

BEST = "best peer"


@dataclass(frozen=True)
class _Times:
    """At least ``bound`` times the speed of ``beside``."""

    beside: str
    bound: float


SPEEDS = {  # (what is read, the samples): by how much
    ("samples", "3KB"): (_Times("webdataset", 30), _Times(BEST, 1.3), _Times(READ, 0.5)),
    ("samples", "110KB"): (_Times(READ, 0.9),),
    ("tensors", "3KB"): (_Times(READ, 0.8),),
    ("tensors", "110KB"): (_Times(READ, 0.8),),
    ("loaders", "3KB"): (_Times("webdataset", 5),),
    ("loaders", "110KB"): (_Times("webdataset", 5),),
}
FIRST_SECONDS = 1.0


def judge(report: Report, kind: str, size: str, case: str) -> None:
    """Adds the aims of a case that is in the report, for each of our rows of it."""
    rows = {row.contender: row for row in report.rows if row.case == case}
    for aim in SPEEDS.get((kind, size), ()):
        name = _best(rows.values()) if aim.beside == BEST else aim.beside
        for ours in (row for row in rows.values() if row.contender in OURS):
            if name in rows:
                what = f"times the speed of {f'the best peer, {name}' if aim.beside == BEST else name}"
                report.aims.append(Aim(case, ours.contender, what, aim.bound, _speed(ours, rows[name])))


def judge_first(report: Report, case: str) -> None:
    for row in report.rows:
        if row.case == case and row.contender in OURS:
            aim = Aim(case, row.contender, "seconds", FIRST_SECONDS, row.time, least=False)
            report.aims.append(aim)


def _best(rows: Iterable[Row]) -> str:
    others = [row for row in rows if row.contender not in {*OURS, READ}]
    return min(others, key=lambda row: row.time.median).contender if others else ""


def _speed(ours: Row, other: Row) -> Interval:
    return Interval.of([b / a for a, b in zip(ours.seconds, other.seconds, strict=False)])
