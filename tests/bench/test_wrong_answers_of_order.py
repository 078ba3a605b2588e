"""A wrong answer of a bench of order, ours or a peer's, in whichever round: status 1, and no figure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import pyimportance
from tests.bench.mutants import Mutants, from_call, traded

mutant = Mutants()


@mutant("order", "pyimportance, float32, positions")
def two_neighbours_change_places_in_the_measured_round(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    def wrong(*args: Any, **kwargs: Any) -> Any:
        order = pyimportance.argsort(*args, **kwargs)
        order[-2:] = order[-2:][::-1]
        return order

    patch.setattr(module, "argsort", from_call(3, module.argsort, wrong))


@mutant("order", "pyimportance, 1 thread, float32, positions")
def ties_are_not_by_position(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    def wrong(values: Any, *, threads: int | None = None, **_: Any) -> Any:
        order = np.argsort(values, kind="stable")
        if threads == 1:
            tie = np.flatnonzero(np.diff(values[order]) == 0)[0]
            order[tie : tie + 2] = order[tie : tie + 2][::-1]
        return order

    patch.setattr(module, "argsort", wrong)


@mutant("order", "stripes: a worker's samples are not by importance")
def two_samples_change_workers(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.partition
    patch.setattr(module, "partition", lambda *args, **options: traded(right(*args, **options)))


@mutant("order", "sticky: owners of a stratum")
def sticky_is_random(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.partition

    def wrong(scores: Any, workers: int, *, policy: str, current: Any = None) -> Any:
        return right(scores, workers, policy="random" if policy == "sticky" else policy, current=current)

    patch.setattr(module, "partition", wrong)


@mutant("scale", "argsort: rank 99998 is out of order")
def the_last_two_change_places(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    def wrong(values: Any) -> Any:
        order = pyimportance.argsort(values)
        order[-3:-1] = order[-3:-1][::-1]
        return order

    patch.setattr(module, "argsort", from_call(3, pyimportance.argsort, wrong))


@mutant("scale", "argsort: rank 1 is out of order")
def a_sample_is_there_twice(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    def wrong(values: Any) -> Any:
        order = pyimportance.argsort(values)
        order[1] = order[0]
        return order

    patch.setattr(module, "argsort", wrong)


@mutant("scale", "partition: rank ")
def the_worker_that_begins_is_another(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    def wrong(scores: Any, workers: int) -> Any:
        order = np.argsort(-scores.values, kind="stable")
        order = np.concatenate([order[w::workers] for w in (1, 0, 2, 3)])
        start = np.arange(workers + 1) * order.size // workers
        return pyimportance.Partition(workers, 1, order, start, scores.values[order])

    patch.setattr(module, "partition", wrong)


@mutant("scale", "partition: the scores are others than those of its samples")
def scores_belong_to_others(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    def wrong(*args: Any) -> Any:
        parts = pyimportance.partition(*args)
        assert parts.values is not None
        return dataclasses.replace(parts, values=np.nextafter(parts.values, np.float32(9)))

    patch.setattr(module, "partition", wrong)


@mutant("movement", "sticky(tolerance=0.001): a worker's distance is")
def a_tolerance_is_taken_for_ten(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.partition

    def wrong(*args: Any, tolerance: float | None = None, **options: Any) -> Any:
        return right(*args, **options, **({} if tolerance is None else {"tolerance": 10 * tolerance}))

    patch.setattr(module, "partition", wrong)


@mutant("movement", "moved, less than the bound 99999")
def a_bound_is_no_bound(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(module, "fewest", lambda *_: 99_999)


@pytest.mark.parametrize("name", mutant)
def test_no_figures_of_wrong_answers(name: str, no_figures: Callable[..., None]) -> None:
    no_figures(*mutant[name])


def test_the_command_ends_with_that_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pyimportance.cli.app import main

    monkeypatch.setattr(pyimportance, "argsort", lambda values, **_: np.arange(len(values)))
    monkeypatch.setattr("sys.argv", [])
    with pytest.raises(SystemExit) as ended:
        main(["bench", "order", "--quick", "--repeats", "1"])
    shown = capsys.readouterr()
    assert (ended.value.code, shown.out) == (1, "")
    assert "an answer is wrong" in shown.err
