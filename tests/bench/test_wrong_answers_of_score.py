"""A wrong answer of a bench of score, ours or a peer's, in whichever round: status 1, and no figure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.bench.mutants import Mutants, from_call

mutant = Mutants()


@mutant("observe", "pyimportance, round 1, loss")
def logits_are_off_in_the_measured_round(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.Tracker.observe

    def wrong(self: Any, ids: Any, logits: Any, targets: Any) -> None:
        right(self, ids, logits * np.float32(1.0001), targets)

    patch.setattr(module.Tracker, "observe", from_call(2, right, wrong))


@mutant("observe", "samples observed")
def a_row_is_lost(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.Tracker.observe
    patch.setattr(module.Tracker, "observe", lambda self, i, z, y: right(self, i[1:], z[1:], y[1:]))


@mutant("observe", "torch eager, round 0, entropy")
def torch_leaves_entropy_out(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.TorchState.observe

    def wrong(self: Any, ids: Any, *rest: Any) -> None:
        right(self, ids, *rest)
        self.entropy[ids] = 0

    patch.setattr(module.TorchState, "observe", wrong)


@mutant("reduce", "reduce, round 0, mean")
def the_last_epoch_is_left_out(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.of_reduce
    patch.setitem(
        module.CONTENDERS,
        "reduce",
        lambda p, correct: right(p[:-1], None if correct is None else correct[:-1]),
    )


@mutant("reduce", "NumPy, round 1, variance")
def variance_has_the_other_divisor(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.of_numpy

    def wrong(p: Any, correct: Any) -> Any:
        return {**right(p, correct), "variance": p.var(0, ddof=1)}

    patch.setitem(module.CONTENDERS, "NumPy", from_call(2, right, wrong))


@mutant("ensembles", "pyimportance, p_sum")
def a_member_is_added_a_little_warmer(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.Ensemble.add

    def wrong(self: Any, **arguments: Any) -> None:
        right(self, **arguments, temperature=1.0001)

    patch.setattr(module.Ensemble, "add", from_call(2, right, wrong))


@mutant("ensembles", "torch, votes")
def torch_votes_twice(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.TorchEnsemble.add

    def wrong(self: Any, *arguments: Any) -> None:
        right(self, *arguments)
        self.votes[0, 0] += 1

    patch.setattr(module.TorchEnsemble, "add", wrong)


@mutant("observe", "torch eager, round 0, loss")
def torch_takes_a_token_for_another(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.TorchState.observe_tokens
    patch.setattr(module.TorchState, "observe_tokens", lambda self, i, z, y: right(self, i, z, y.flip(1)))


@mutant("observe", "numba, round 1, el2n")
def numba_leaves_a_row_out(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.NumbaState.observe

    def wrong(self: Any, ids: Any, *rest: Any) -> None:
        right(self, ids, *rest)
        self.column("el2n")[ids[-1]] = np.nan

    patch.setattr(module.NumbaState, "observe", from_call(2, right, wrong))


@mutant("observe", "sum: ")
def memory_is_not_all_read(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.Read.__call__
    patch.setattr(module.Read, "__call__", lambda self, turn: right(self, turn) - self.numbers[-1])


@mutant("observe", "arithmetic: ")
def a_thread_does_no_arithmetic(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.Arithmetic.__call__

    def wrong(self: Any, turn: int) -> Any:
        numbers = right(self, turn)
        numbers[-1] = numbers[-1] * 0
        return numbers

    patch.setattr(module.Arithmetic, "__call__", wrong)


@mutant("tracking", "Tracker: loss_mean")
def a_batch_is_tracked_after_a_change(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.Tracker.observe

    def wrong(self: Any, ids: Any, logits: Any, targets: Any) -> None:
        right(self, ids, logits * 1.001, targets)

    patch.setattr(module.Tracker, "observe", from_call(4, right, wrong))


@mutant("tracking", "Tracker: epochs of a sample")
def a_batch_is_not_tracked(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.Tracker.observe
    patch.setattr(module.Tracker, "observe", from_call(4, right, lambda *_: None))


@mutant("tracking", "ItemLoop: losses")
def the_loop_leaves_a_sample_out(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.ItemLoop.observe
    patch.setattr(
        module.ItemLoop, "observe", lambda self, i, z, y, losses: right(self, i[1:], z, y, losses[1:])
    )


@mutant("tracking", "Assignment: losses")
def the_assignment_is_to_one_epoch(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(module.Assignment, "end_epoch", lambda self: None)


@mutant("tracking", "no tracking: a loss is not finite, or a sample was left out")
def a_batch_is_never_shown(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right, less = module.train, -module.BATCH
    patch.setattr(module, "train", lambda runs, x, y, epochs: right(runs, x[:less], y[:less], epochs))


@mutant("score", "end_epoch: loss_mean")
def an_epoch_is_folded_with_the_wrong_row(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.Tracker.end_epoch

    def wrong(self: Any) -> None:
        rows = self._engine.rows()
        rows[-1] = rows[0]
        right(self)

    patch.setattr(module.Tracker, "end_epoch", from_call(2, right, wrong))


@mutant("score", "epochs are committed; right is 2")
def an_epoch_is_not_committed(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.Tracker.end_epoch
    patch.setattr(module.Tracker, "end_epoch", from_call(2, right, lambda self: None))


@mutant("score", "variability by score")
def a_measure_is_off(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.score

    def wrong(dynamics: Any, name: str) -> Any:
        scores = right(dynamics, name)
        off = np.float32(1.0001 if name == "variability" else 1)
        return dataclasses.replace(scores, values=scores.values * off)

    patch.setattr(module, "score", wrong)


@pytest.mark.parametrize("name", mutant)
def test_no_figures_of_wrong_answers(name: str, no_figures: Callable[..., None]) -> None:
    no_figures(*mutant[name])
