"""sticky(tolerance=e): within e, and by an exact solver no division moves fewer bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from pyimportance import Scores, partition
from pyimportance.order.capacity import apportion
from pyimportance.order.distance import ks_distances, tie_ends
from pyimportance.order.policies import tolerance
from pyimportance.order.policies.task import Task
from pyimportance.order.policies.tolerance import assign_within, fewest

Ints = npt.NDArray[np.int64]


def least_bytes(task: Task, e: float, counts: Ints) -> int:
    """x[i, w] = 1 where worker w gets the sample at rank i. A network's matrix: the best x is integral."""
    n, workers = task.num_samples, task.workers
    held = task.current
    assert held is not None
    size = np.ones(n, np.int64) if task.sizes is None else task.sizes
    cost = np.where((held[:, None] >= 0) & (held[:, None] != np.arange(workers)), size[:, None], 0)
    rows, least, most = [], [], []
    for r in tie_ends(task.values, n).tolist():
        for w in range(workers):
            line, slack = counts[w] * r / n, e * counts[w]
            row = np.zeros((n, workers))
            row[:r, w] = 1
            rows.append(row.ravel())
            least.append(min(np.ceil(line - slack - 1e-9), np.floor(line + 1e-9)) if r < n else counts[w])
            most.append(max(np.floor(line + slack + 1e-9), np.ceil(line - 1e-9)) if r < n else counts[w])
    once = np.kron(np.eye(n), np.ones(workers))
    bounds = np.concatenate([most, -np.array(least)])
    best = linprog(cost.ravel(), np.vstack([rows, -np.array(rows)]), bounds, once, np.ones(n), bounds=(0, 1))
    assert best.success
    chosen = np.rint(best.x).astype(bool)
    assert np.abs(best.x - chosen).max() < 1e-6
    return int(cost.ravel()[chosen].sum())


def moved(task: Task, owners: npt.NDArray[np.int32]) -> int:
    assert task.current is not None
    gone = (task.current >= 0) & (owners != task.current)
    return int(gone.sum() if task.sizes is None else task.sizes[gone].sum())


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    workers = draw(st.integers(1, 4))
    held = draw(st.lists(st.integers(-1, workers - 1), min_size=1, max_size=24))
    n = len(held)

    def column(low: int, high: int) -> Ints:
        return np.array(draw(st.lists(st.integers(low, high), min_size=n, max_size=n)), np.int64)

    values = draw(st.sampled_from([None, -np.sort(-column(0, 6)).astype(np.float32)]))
    sizes = draw(st.sampled_from([None, column(0, 3), column(0, 2**18), column(0, 2**39)]))
    counts = draw(st.sampled_from([None, np.bincount(column(0, workers - 1), minlength=workers)]))
    return Task(np.arange(n), workers, 0, np.array(held, np.int32), sizes, counts, values)


@settings(max_examples=60)
@given(tasks(), st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.4, 1.0]))
def test_no_division_within_the_tolerance_moves_fewer_bytes(task: Task, e: float) -> None:
    owners = assign_within(task, e)
    counts = np.bincount(owners, minlength=task.workers)
    if task.counts is None:
        assert np.ptp(counts) <= 1
    else:
        assert counts.tolist() == task.counts.tolist()
    distances = ks_distances(owners, tie_ends(task.values, task.num_samples), task.workers)
    assert (distances[counts > 0] <= np.maximum(e, 1 / counts[counts > 0]) + 1e-12).all()
    assert moved(task, owners) == least_bytes(task, e, counts)
    assert fewest(task, e) == moved(task, owners)  # every rank is a block of its own


def drifting(n: int, workers: int, correlation: float, seed: int = 0) -> Task:
    """Stripes by one score, looked at in the order of another."""
    rng = np.random.default_rng(seed)
    old = rng.standard_normal(n)
    new = correlation * old + np.sqrt(1 - correlation**2) * rng.standard_normal(n)
    held = np.empty(n, np.int32)
    held[np.argsort(-old)] = np.arange(n) % workers
    order = np.argsort(-new)
    return Task(order, workers, current=held[order], values=new[order].astype(np.float32))


@pytest.mark.parametrize(("workers", "e", "above"), [(4, 0.002, 1.1), (16, 0.005, 1.25), (64, 0.02, 1.4)])
def test_many_samples_come_close_to_the_bound(workers: int, e: float, above: float) -> None:
    task = drifting(60_000, workers, 0.5)
    owners, bound = assign_within(task, e), fewest(task, e)
    ends = tie_ends(task.values, 60_000)
    assert ks_distances(owners, ends, workers).max() <= e + 1e-12
    assert ks_distances(task.current, ends, workers).max() > e  # something has to move
    assert 0 < bound <= moved(task, owners) <= above * bound
    assert np.ptp(np.bincount(owners)) <= 1


def test_next_to_nothing_moves_from_one_interval_to_the_next() -> None:
    task = drifting(200_000, 16, 0.9)
    owners = assign_within(task, 0.01)
    assert moved(task, owners) < 0.001 * 200_000


@pytest.mark.parametrize("start", ["blocks", "nobody", "one", "ties"])
def test_from_any_start(start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tolerance, "MOST_CELLS", 2**13)  # coarser blocks do for a tolerance of 500 samples
    n, workers, e = 50_000, 8, 0.01
    held = {
        "blocks": np.arange(n) * workers // n,
        "nobody": np.full(n, -1),
        "one": np.full(n, 3),
        "ties": np.arange(n) * workers // n,
    }[start].astype(np.int32)
    values = (
        -np.arange(n, dtype=np.float32) if start != "ties" else -(np.arange(n) // 20_000).astype(np.float32)
    )
    task = Task(np.arange(n), workers, current=held, values=values)
    owners = assign_within(task, e)
    assert ks_distances(owners, tie_ends(values, n), workers).max() <= e + 1e-12
    assert np.bincount(owners).tolist() == [n // workers] * workers
    assert moved(task, owners) <= 1.02 * max(fewest(task, e), {"one": n * 7 // 8}.get(start, 0))


def test_a_band_narrower_than_blocks_is_kept_by_strata(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tolerance, "MOST_CELLS", 64)
    task = drifting(20_000, 16, 0.0)
    owners = assign_within(task, 0.002)
    assert ks_distances(owners, tie_ends(task.values, 20_000), 16).max() <= 0.002 + 1e-12
    assert np.ptp(np.bincount(owners)) == 0


@pytest.mark.parametrize("unequal", [False, True])
@pytest.mark.parametrize(("n", "workers", "e"), [(20_000, 16, 0.002), (20_000, 16, 0.004), (3001, 50, 0.02)])
def test_strata_keep_what_is_promised(
    n: int, workers: int, e: float, unequal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers that no round divides evenly: turns, and so strata, stray from the line."""
    monkeypatch.setattr(tolerance, "MOST_CELLS", 64)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        counts = apportion(rng.random(workers) + 0.02, workers, n) if unequal else None
        task = Task(np.arange(n), workers, current=rng.integers(0, workers, n, np.int32), counts=counts)
        owners = assign_within(task, e)
        c = np.maximum(np.bincount(owners, minlength=workers), 1)
        allowed = np.maximum(np.maximum(e, 1 / c), 1 / (2 * c) + 1.5 * workers / n)
        assert (ks_distances(owners, tie_ends(None, n), workers) / allowed).max() <= 1 + 1e-12


def test_sizes_in_groups_come_close_too() -> None:
    task = drifting(40_000, 8, 0.5)
    sizes = np.random.default_rng(1).lognormal(11, 1, 40_000).astype(np.int64)
    some = Task(task.order, 8, current=task.current, values=task.values, sizes=sizes)
    by_bytes, by_number = assign_within(some, 0.004), assign_within(task, 0.004)
    assert ks_distances(by_bytes, tie_ends(task.values, 40_000), 8).max() <= 0.004 + 1e-12
    assert moved(some, by_bytes) < 0.8 * moved(some, by_number)


def test_samples_without_a_score_are_dealt_by_exact_shares() -> None:
    values = np.array([3, 2, 1, 0] * 50 + [np.nan] * 40, np.float32)
    held = np.array([0] * 120 + [1] * 120)
    with pytest.warns(UserWarning, match="40 of 240 scores are NaN"):
        p = partition(Scores(values), 2, policy="sticky", tolerance=0.1, current=held)
    owners = p.worker_of(np.arange(240))
    assert np.bincount(owners[200:]).tolist() == [20, 20]
    assert np.bincount(owners).tolist() == [120, 120]
    assert p.policy == "sticky(tolerance=0.1)"


def test_distances_by_the_definition() -> None:
    values = np.array([4, 4, 2, 1], np.float32)
    owners = np.array([0, 1, 1, 1], np.int32)
    # Worker 0: all of its samples score 4, half of all do. Worker 1: a third, against half.
    distances = ks_distances(owners, tie_ends(values, 4), 3)
    np.testing.assert_allclose(distances, [0.5, 1 / 6, np.nan])


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 3)), min_size=1, max_size=40))
def test_distances_against_every_rank(samples: list[tuple[int, int]]) -> None:
    values = -np.sort(-np.array([v for v, _ in samples], np.float32))
    owners = np.array([w for _, w in samples], np.int32)
    distances = ks_distances(owners, tie_ends(values, values.size), 4)
    for w in range(4):
        mine: Any = values[owners == w]
        if not mine.size:
            assert np.isnan(distances[w])
            continue
        gaps = [abs((mine <= x).mean() - (values <= x).mean()) for x in values]
        np.testing.assert_allclose(distances[w], max(gaps), atol=1e-12)
