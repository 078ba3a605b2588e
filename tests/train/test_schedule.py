"""Schedule against an epoch-by-epoch walk through its definition."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyimportance import ArgumentError
from pyimportance.train.schedule import Schedule


def walk(warmup: int, interval: int, total: int) -> list[int]:
    """The epochs followed by a repartition: the rule as it is told, one epoch at a time."""
    after, since = [], 0
    for epoch in range(total):
        left = total - (epoch + 1)
        since += 1
        first = epoch + 1 == warmup
        if (first and left > 0) or (epoch >= warmup and since == interval and left >= interval):
            after.append(epoch)
        if first or (after and after[-1] == epoch):
            since = 0
    return after


def test_the_table_in_the_docstring() -> None:
    schedule = Schedule(warmup=3, interval=2, ignore=1, total=8)
    epochs = range(8)
    assert [e for e in epochs if schedule.warms_up(e)] == [0, 1, 2]
    assert [e for e in epochs if schedule.observes(e)] == [1, 2, 3, 4, 5, 6, 7]
    assert [e for e in epochs if schedule.repartitions_after(e)] == [2, 4]
    assert [schedule.period_of(e) for e in epochs] == [-1, -1, -1, 0, 0, 1, 1, 1]
    assert schedule.periods == 2
    assert [*schedule.epochs_of_period(1)] == [5, 6, 7]


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 20))
def test_repartitions_follow_the_walk(warmup: int, interval: int, more: int) -> None:
    total = warmup + more
    schedule = Schedule(warmup, interval, total=total)
    assert [e for e in range(total) if schedule.repartitions_after(e)] == walk(warmup, interval, total)


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 20))
def test_periods_tile_the_epochs(warmup: int, interval: int, more: int) -> None:
    schedule = Schedule(warmup, interval, total=warmup + more)
    assert schedule.periods is not None
    tiles = [e for p in range(-1, schedule.periods) for e in schedule.epochs_of_period(p)]
    assert tiles == list(range(warmup + more))
    for period in range(-1, schedule.periods):
        epochs = schedule.epochs_of_period(period)
        assert {schedule.period_of(e) for e in epochs} == {period}
        if 0 <= period < schedule.periods - 1:
            assert len(epochs) == interval
    if schedule.periods > 1:
        assert interval <= len(schedule.epochs_of_period(schedule.periods - 1)) < 2 * interval


def test_interval_longer_than_the_rest_is_one_period() -> None:
    schedule = Schedule(warmup=2, interval=100, total=7)
    assert schedule.periods == 1
    assert [*schedule.epochs_of_period(0)] == [2, 3, 4, 5, 6]
    assert [e for e in range(7) if schedule.repartitions_after(e)] == [1]


def test_nothing_but_warmup() -> None:
    schedule = Schedule(warmup=4, interval=1, total=4)
    assert schedule.periods == 0
    assert not any(schedule.repartitions_after(e) for e in range(4))


def test_without_a_total_it_goes_on() -> None:
    schedule = Schedule(warmup=2, interval=3)
    assert schedule.periods is None
    assert [e for e in range(12) if schedule.repartitions_after(e)] == [1, 4, 7, 10]
    assert [*schedule.epochs_of_period(1000)] == [3002, 3003, 3004]


def test_only_a_vanilla_warmup_reshuffles() -> None:
    vanilla = Schedule(warmup=2, interval=1, total=4, warmup_on="vanilla")
    assert [vanilla.reshuffles(e) for e in range(4)] == [True, True, False, False]
    assert not any(Schedule(warmup=2, interval=1, total=4).reshuffles(e) for e in range(4))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"warmup": 0}, "warmup=0: must be at least 1"),
        ({"interval": 0}, "interval=0: must be at least 1"),
        ({"interval": 1.5}, "interval=1.5: must be an integer"),
        ({"warmup": True}, "warmup=True: must be an integer"),
        ({"interval": True}, "interval=True: must be an integer"),
        ({"total": 8.0}, "total=8.0: must be an integer"),
        ({"ignore": -1}, "ignore=-1: must be at least 0"),
        ({"ignore": 3}, "ignore=3: must be below warmup=3"),
        ({"total": 2}, "total=2: must be at least 3"),
        ({"warmup_on": "ours"}, "warmup_on='ours': allowed are 'local' and 'vanilla'"),
    ],
)
def test_bad_fields(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        Schedule(**{"warmup": 3, "interval": 2, "total": 8, **fields})


def test_epochs_and_periods_outside() -> None:
    schedule = Schedule(warmup=3, interval=2, total=8)
    with pytest.raises(ArgumentError, match="epoch 8: the schedule's epochs are 0 to 7"):
        schedule.observes(8)
    with pytest.raises(ArgumentError, match="epoch -1: the schedule's epochs are 0 or more"):
        Schedule(warmup=3, interval=2).observes(-1)
    with pytest.raises(ArgumentError, match="period 2: there are 2"):
        schedule.epochs_of_period(2)


@pytest.mark.parametrize("epoch", [1.5, "a", None, True])
@pytest.mark.parametrize("total", [None, 8])
def test_epochs_that_are_no_integers(epoch: Any, total: int | None) -> None:
    schedule = Schedule(warmup=3, interval=2, total=total)
    for asked in ("warms_up", "reshuffles", "observes", "repartitions_after", "period_of"):
        with pytest.raises(ArgumentError, match=f"epoch {epoch!r}: the schedule's epochs are 0"):
            getattr(schedule, asked)(epoch)
    with pytest.raises(ArgumentError, match="period="):
        schedule.epochs_of_period(epoch)


def test_numpy_integers_become_plain_ones() -> None:
    schedule = Schedule(*map(np.int64, (3, 2, 1, 8)))  # type: ignore[arg-type]
    assert schedule == Schedule(3, 2, 1, 8)
    fields = (schedule.warmup, schedule.interval, schedule.ignore, schedule.total, schedule.periods)
    assert {type(value) for value in fields} == {int}
    assert type(schedule.period_of(np.int64(6))) is int
    assert type(schedule.epochs_of_period(np.int64(1)).start) is int


def test_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Schedule(1, 1).warmup = 2  # type: ignore[misc]
