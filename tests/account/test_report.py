"""IOReport: sums, merging over ranks, JSON and the printed table."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyimportance import ArgumentError, IOReport, PyimportanceError, Scores, partition, write_shards
from pyimportance.io.meter import TIERS, Meter


def report(rank: int, **tiers: tuple[int, int]) -> IOReport:
    meter = Meter()
    for tier, (nbytes, requests) in tiers.items():
        meter.add(tier, nbytes, requests)
    return IOReport.of(meter, rank=rank)


def test_sums_by_tier_and_rank() -> None:
    both = report(1, origin=(100, 2), disk=(7, 1)).merge(report(0, origin=(11, 3), index=(5, 1)))
    assert both.ranks == (0, 1)
    assert both.bytes("origin") == 111
    assert both.requests("origin") == 5
    assert both.bytes("origin", rank=1) == 100
    assert both.bytes(rank=0) == 16
    assert both.bytes() == 123
    assert both.bytes("cache") == 0


def test_a_rank_in_both_is_added_and_baselines_merge() -> None:
    mine = report(0, origin=(1, 1)).beside(lru=report(0, cache=(10, 1)))
    theirs = report(0, origin=(2, 1)).beside(lru=report(1, cache=(20, 1)), full=report(1))
    merged = mine.merge(theirs)
    assert merged.ranks == (0,)
    assert merged.bytes("origin") == 3
    assert merged.baselines["lru"].bytes("cache") == 30
    assert merged.baselines["lru"].ranks == (0, 1)
    assert list(merged.baselines) == ["lru", "full"]


def test_the_same_baseline_on_every_rank_is_taken_once() -> None:
    job = report(0, origin=(10, 1)).merge(report(1, origin=(30, 2)))
    merged = report(0).beside(vanilla=job).merge(report(1).beside(vanilla=IOReport.from_json(job.to_json())))
    assert merged.ranks == (0, 1)
    assert merged.baselines["vanilla"].to_json() == job.to_json()


def test_baselines_that_contradict_one_another() -> None:
    one, two = report(0).beside(lru=report(3, disk=(1, 1))), report(1).beside(lru=report(3, disk=(2, 1)))
    with pytest.raises(ArgumentError, match=r"baselines\['lru'\]: rank 3 is in two reports"):
        one.merge(two)


def test_several_meters_of_a_rank_add_up() -> None:
    one, two = Meter(), Meter()
    one.add("disk", 2**40)
    two.add("disk", 5, 4)
    total = IOReport.of(one, two, rank=3)
    assert (total.bytes("disk", rank=3), total.requests("disk")) == (2**40 + 5, 5)


def test_a_report_does_not_follow_its_meter() -> None:
    meter = Meter()
    before = IOReport.of(meter)
    direct = IOReport(meter.counts[None])
    meter.add("origin", 3)
    assert before.bytes() == direct.bytes() == 0
    with pytest.raises(ValueError, match="read-only"):
        direct.counts[0, 0, 0] = 1


def test_json_there_and_back() -> None:
    original = report(2, origin=(2**53 + 1, 3)).beside(vanilla=report(2, origin=(9, 9)))
    text = original.to_json()
    assert json.loads(text)["ranks"][0]["origin"] == {"bytes": 2**53 + 1, "requests": 3}
    again = IOReport.from_json(text)
    assert again.to_json() == text
    assert again.ranks == (2,)


def changed(*where: str | int, to: object) -> str:
    """The JSON of a report with one value of it replaced."""
    values = json.loads(report(0, origin=(5, 1)).beside(lru=report(0)).to_json())
    *path, last = where
    inner = values
    for step in path:
        inner = inner[step]
    inner[last] = to
    return json.dumps(values)


@pytest.mark.parametrize("wrong", [1.7, 1.0, True, "1", None, -1, 2**63, 10**400, [], {}])
@pytest.mark.parametrize(
    "where", [("ranks", 0, "origin", "bytes"), ("baselines", "lru", "ranks", 0, "disk", "requests")]
)
def test_counts_that_are_none(where: tuple[str | int, ...], wrong: object) -> None:
    with pytest.raises(PyimportanceError):
        IOReport.from_json(changed(*where, to=wrong))


@pytest.mark.parametrize(
    ("where", "wrong"),
    [(("ranks",), w) for w in (None, 3, {"a": 1}, "ab", [1])]
    + [(("baselines",), w) for w in (None, [], 5, {"lru": None}, {"lru": "text"})]
    + [(("ranks", 0, "rank"), w) for w in (1.5, "0", None, float("inf"))]
    + [(("ranks", 0, "disk"), w) for w in (None, 3, [1, 2], {"bytes": 1})],
)
def test_values_of_another_kind(where: tuple[str | int, ...], wrong: object) -> None:
    with pytest.raises(PyimportanceError, match="not a pyimportance-io-report-v1"):
        IOReport.from_json(changed(*where, to=wrong))


@pytest.mark.parametrize("text", ["nonsense", "{}", '{"format": "other", "ranks": []}', "[]"])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(PyimportanceError, match="not a pyimportance-io-report-v1"):
        IOReport.from_json(text)


def test_the_table_shows_ranks_total_and_baselines() -> None:
    both = report(0, origin=(1_000, 2)).merge(report(1, origin=(234, 1)))
    lines = rows(both.beside(vanilla=report(0, cache=(77, 7)), lru=both))
    assert list(lines) == ["rank 0", "rank 1", "2 ranks", "vanilla: rank 0", "lru: 2 ranks"]
    assert "1,000 (2)" in lines["rank 0"]
    assert "234 (1)" in lines["rank 1"]
    assert "1,234 (3)" in lines["2 ranks"]
    assert "77 (7)" in lines["vanilla: rank 0"]
    assert "1,234 (3)" in lines["lru: 2 ranks"]


def test_one_ranks_table_claims_nothing_of_others() -> None:
    assert list(rows(report(3, origin=(1_000, 2)))) == ["rank 3"]


def test_gathered_from_ranks(run_ranks: Callable[..., list[Any]], tmp_path: Path) -> None:
    """Every rank has the same: what each counted, its loader processes included, and baselines of all."""
    with tarfile.open(tmp_path / "source.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for i in range(30):
            member = tarfile.TarInfo(f"{i:04d}.bin")
            member.size = 700 * i
            tar.addfile(member, io.BytesIO(bytes(700 * i)))
    divided = partition(Scores(np.arange(30, dtype=np.float32)), 2, policy="blocks")
    shards = write_shards(tmp_path / "source.tar", divided, tmp_path / "shards")
    ranks = run_ranks("ranks_report.py", 2, shards.root)
    own = [IOReport.from_json(told["own"]) for told in ranks]
    gathered = [IOReport.from_json(told["gathered"]) for told in ranks]
    assert ranks[0]["gathered"] == ranks[1]["gathered"]
    assert gathered[0].ranks == (0, 1)
    assert gathered[0].counts.tolist() == np.concatenate([each.counts for each in own]).tolist()
    assert [gathered[0].bytes("disk", rank=r) for r in (0, 1)] == [told["read"] for told in ranks]
    assert 0 < min(told["read"] for told in ranks) < max(told["read"] for told in ranks)
    assert gathered[0].baselines["twice"].bytes() == 2 * gathered[0].bytes()


def rows(table: IOReport) -> dict[str, str]:
    """The printed lines by what stands at their beginning."""
    return {line.split("│")[1].strip(): line for line in str(table).splitlines() if line.count("│") == 6}


def test_no_ranks() -> None:
    empty = IOReport(np.zeros((0, len(TIERS), 2), np.int64))
    assert empty.ranks == ()
    assert empty.bytes() == 0
    assert IOReport.from_json(empty.to_json()).ranks == ()
    assert empty.gather() is empty


@pytest.mark.parametrize(
    ("counts", "ranks", "message"),
    [
        (
            np.zeros((1, 3, 2), np.int64),
            None,
            r"counts must be integers \[ranks, 4, 2\], got int64 \[1, 3, 2\]",
        ),
        (np.zeros((1, 4, 2)), None, "got float64"),
        (np.full((1, 4, 2), -1), None, "counts holds -1"),
        (np.zeros((2, 4, 2), np.int64), (1, 0), r"2 ascending numbers, one per row, got \(1, 0\)"),
        (np.zeros((2, 4, 2), np.int64), (1,), "2 ascending numbers"),
    ],
)
def test_bad_values(counts: np.ndarray, ranks: tuple[int, ...] | None, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        IOReport(counts, ranks)


def test_unknown_tier_and_rank() -> None:
    with pytest.raises(ArgumentError, match=r"tier must be one of .*, got .ram."):
        report(0).bytes("ram")
    with pytest.raises(ArgumentError, match=r"rank 5 is not in this report of ranks \(0,\)"):
        report(0).bytes(rank=5)


def test_an_epoch_is_what_was_counted_since():
    counts = np.arange(16).reshape(2, 4, 2)
    before, after = IOReport(counts, (0, 3)), IOReport(counts * 3, (0, 3))
    epoch = after.since(before)
    assert (epoch.counts == counts * 2).all()
    assert epoch.ranks == (0, 3)
    for wrong, text in (
        (IOReport(counts, (0, 2)), r"of ranks \(0, 2\); this is of \(0, 3\)"),
        (after, "higher"),
    ):
        with pytest.raises(ArgumentError, match=text):
            before.since(wrong)


def test_scalars_are_flat_numbers_by_tier():
    report = IOReport(np.arange(16).reshape(2, 4, 2))
    assert report.scalars() == {
        **{"io/origin_bytes": 8, "io/origin_requests": 10, "io/cache_bytes": 12, "io/cache_requests": 14},
        **{"io/disk_bytes": 16, "io/disk_requests": 18, "io/index_bytes": 20, "io/index_requests": 22},
    }
    assert list(report.scalars("rank0 ")) == [name.replace("io/", "rank0 ") for name in report.scalars()]
