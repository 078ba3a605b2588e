"""IOReport: the bytes and requests that were counted, by tier and rank, beside what baselines read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyimportance.errors import ArgumentError, PyimportanceError
from pyimportance.io.meter import TIERS, Meter
from pyimportance.together import rank_and_size, together

if TYPE_CHECKING:
    from rich.table import Table

FORMAT = "pyimportance-io-report-v1"


@dataclass(frozen=True, eq=False)
class IOReport:
    """Bytes and requests of some ranks, as their meters counted them.

    Attributes:
        counts: int64 [R, 4, 2], read-only: per rank and tier (``origin``, ``cache``, ``disk``, ``index``, the
            order of :data:`pyimportance.io.meter.TIERS`) bytes and requests. What a rank was sent of
            indexes, in the place of reading them, is in ``index``.
        ranks: the R ranks the rows belong to, ascending; by default 0..R-1.
        baselines: name -> report of another way to read the same data, printed beside this one.

    Raises:
        ArgumentError: counts of another shape, a negative count, ranks that do not fit the counts.
    """

    counts: NDArray[np.int64]
    ranks: tuple[int, ...] | None = None
    baselines: Mapping[str, IOReport] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = np.array(self.counts)  # a copy: the meter counts on
        if counts.ndim != 3 or counts.shape[1:] != (len(TIERS), 2) or counts.dtype.kind not in "iu":
            raise ArgumentError(
                f"counts must be integers [ranks, {len(TIERS)}, 2], got {counts.dtype} {list(counts.shape)}"
            )
        if counts.size and counts.min() < 0:
            raise ArgumentError(f"counts holds {counts.min()}; bytes and requests are never negative")
        counts = counts.astype(np.int64)
        counts.flags.writeable = False
        ranks = tuple(range(len(counts))) if self.ranks is None else tuple(map(int, self.ranks))
        if len(ranks) != len(counts) or any(a >= b for a, b in pairwise(ranks)):
            raise ArgumentError(f"ranks must be {len(counts)} ascending numbers, one per row, got {ranks}")
        for name, baseline in self.baselines.items():
            if not isinstance(baseline, IOReport):
                raise ArgumentError(f"baselines[{name!r}] must be an IOReport, got {type(baseline).__name__}")
        object.__setattr__(self, "counts", counts)
        object.__setattr__(self, "ranks", ranks)
        object.__setattr__(self, "baselines", MappingProxyType(dict(self.baselines)))

    @classmethod
    def of(cls, *meters: Meter, rank: int = 0) -> IOReport:
        """What these meters of one rank (its loader's, its repartitions') counted so far, added up."""
        total = np.zeros((len(TIERS), 2), np.int64)
        for meter in meters:
            total += meter.counts
        return cls(total[None], (rank,))

    def bytes(self, tier: str | None = None, *, rank: int | None = None) -> int:
        """Bytes of a tier (None: of all tiers) of a rank (None: of all in this report)."""
        return self._sum(0, tier, rank)

    def requests(self, tier: str | None = None, *, rank: int | None = None) -> int:
        """Read requests of a tier (None: of all tiers) of a rank (None: of all in this report)."""
        return self._sum(1, tier, rank)

    def _sum(self, column: int, tier: str | None, rank: int | None) -> int:
        if tier is not None and tier not in TIERS:
            raise ArgumentError(f"tier must be one of {', '.join(TIERS)} or None, got {tier!r}")
        if rank is not None and rank not in self._ranks:
            raise ArgumentError(f"rank {rank} is not in this report of ranks {self._ranks}")
        rows = slice(None) if rank is None else self._ranks.index(rank)
        tiers = slice(None) if tier is None else TIERS.index(tier)
        return int(self.counts[rows, tiers, column].sum())

    @property
    def _ranks(self) -> tuple[int, ...]:
        assert self.ranks is not None
        return self.ranks

    @property
    def _whose(self) -> str:
        return f"rank {self._ranks[0]}" if len(self._ranks) == 1 else f"{len(self._ranks)} ranks"

    def merge(self, *others: IOReport) -> IOReport:
        """One report of all the ranks; counts of a rank that several reports hold are added.

        Baselines of a name are one: the same report, of the whole job say, on every rank is taken once; those
        of different ranks are put together.

        Raises:
            ArgumentError: baselines of one name that hold the same rank with other counts.
        """
        reports = (self, *others)
        ranks = sorted({rank for report in reports for rank in report._ranks})
        counts = np.zeros((len(ranks), len(TIERS), 2), np.int64)
        baselines: dict[str, IOReport] = {}
        for report in reports:
            counts[np.searchsorted(ranks, report._ranks)] += report.counts
            for name, baseline in report.baselines.items():
                baselines[name] = (
                    _one_baseline(name, baselines[name], baseline) if name in baselines else baseline
                )
        return IOReport(counts, tuple(ranks), baselines)

    def gather(self, group: Any = None) -> IOReport:
        """The report of all ranks of ``torch.distributed``, on every rank (collective; alone: itself)."""
        if rank_and_size(group)[1] == 1:
            return self
        texts = together(self.to_json, "gathering the report", group)
        first, *rest = (IOReport.from_json(text) for text in texts)
        return first.merge(*rest)

    def since(self, earlier: IOReport) -> IOReport:
        """What was counted after ``earlier``, a report of the same ranks (of an epoch, say); no baselines.

        Raises:
            ArgumentError: other ranks, or counts that were higher then.
        """
        if earlier._ranks != self._ranks:
            raise ArgumentError(f"since: a report of ranks {earlier._ranks}; this is of {self._ranks}")
        if (earlier.counts > self.counts).any():
            raise ArgumentError("since: its counts are higher; it is the later one, or of something else")
        return IOReport(self.counts - earlier.counts, self.ranks)

    def scalars(self, prefix: str = "io/") -> dict[str, int]:
        """``{"io/origin_bytes": n, "io/origin_requests": n, ...}`` by tier, this report's ranks added up:
        what loggers take, every epoch ``report.since(before).scalars()``.
        """
        return {
            f"{prefix}{tier}_{unit}": int(self.counts[:, row, column].sum())
            for row, tier in enumerate(TIERS)
            for column, unit in enumerate(("bytes", "requests"))
        }

    def beside(self, **baselines: IOReport) -> IOReport:
        """This report with more named baselines."""
        return replace(self, baselines={**self.baselines, **baselines})

    def to_dict(self) -> dict[str, Any]:
        """Plain values: ``{"format", "ranks": [{"rank", tier: {"bytes", "requests"}}], "baselines"}``."""
        rows = []
        for rank, counts in zip(self._ranks, self.counts.tolist(), strict=True):
            tiers = {t: {"bytes": b, "requests": r} for t, (b, r) in zip(TIERS, counts, strict=True)}
            rows.append({"rank": rank, **tiers})
        baselines = {name: report.to_dict() for name, report in self.baselines.items()}
        return {"format": FORMAT, "ranks": rows, "baselines": baselines}

    def to_json(self) -> str:
        """:meth:`to_dict` as JSON text; :meth:`from_json` reads it back."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> IOReport:
        """A report from :meth:`to_json`; PyimportanceError where the text is none."""
        try:
            return cls._from_dict(json.loads(text))
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
            raise PyimportanceError(f"not a {FORMAT}: {error!r}") from None

    @classmethod
    def _from_dict(cls, values: Mapping[str, Any]) -> IOReport:
        if values["format"] != FORMAT:
            raise PyimportanceError(f"not a {FORMAT}: its format is {values['format']!r}")
        rows: Sequence[Mapping[str, Any]] = values["ranks"]
        counts = [
            [[_whole(row[tier][unit]) for unit in ("bytes", "requests")] for tier in TIERS] for row in rows
        ]
        array = np.array(counts, np.int64).reshape(len(rows), len(TIERS), 2)
        baselines = {name: cls._from_dict(report) for name, report in values["baselines"].items()}
        return cls(array, tuple(_whole(row["rank"]) for row in rows), baselines)

    def table(self) -> Table:
        """A rich table: one row per rank, the sum of several, then that of each baseline, which says of how
        many ranks it is: of this job's others a report of one rank knows nothing.
        """
        from rich.table import Table

        table = Table(title="I/O: bytes (requests) by tier", title_justify="left")
        table.add_column("")
        for tier in TIERS:
            table.add_column(tier, justify="right")
        for rank, counts in zip(self._ranks, self.counts, strict=True):
            table.add_row(f"rank {rank}", *_cells(counts))
        table.add_section()
        if len(self._ranks) != 1:
            table.add_row(self._whose, *_cells(self.counts.sum(0)))
        for name, report in self.baselines.items():
            table.add_row(f"{name}: {report._whose}", *_cells(report.counts.sum(0)))
        return table

    def __rich__(self) -> Table:
        return self.table()

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=100, color_system=None)
        with console.capture() as capture:
            console.print(self.table())
        return capture.get()


def _one_baseline(name: str, one: IOReport, two: IOReport) -> IOReport:
    both = [(one._ranks.index(rank), two._ranks.index(rank)) for rank in one._ranks if rank in two._ranks]
    for a, b in both:
        if (one.counts[a] != two.counts[b]).any():
            raise ArgumentError(
                f"baselines[{name!r}]: rank {one._ranks[a]} is in two reports with different counts; "
                "give each rank its own part, or all the same report"
            )
    rest = np.setdiff1d(np.arange(len(two._ranks)), [b for _, b in both])
    return one.merge(IOReport(two.counts[rest], tuple(two._ranks[i] for i in rest), two.baselines))


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is not an integer")
    return value


def _cells(counts: NDArray[np.int64]) -> Iterable[str]:
    return (f"{nbytes:,} ({requests:,})" if requests else "0" for nbytes, requests in counts.tolist())
