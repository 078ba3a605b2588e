"""A wrong answer, ours or a peer's, in whichever round: the bench ends with status 1 and shows no figure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import pyimportance
from pyimportance.shards.shard_set import ShardSet
from pyimportance.shards.verify import VerifyReport

Function = Callable[..., Any]
Breaks = Callable[[ModuleType, pytest.MonkeyPatch], None]

MUTANTS: dict[str, tuple[str, str, Breaks]] = {}
"""What is wrong -> (bench, what it must say, what makes it so)."""


def mutant(bench: str, says: str) -> Callable[[Breaks], Breaks]:
    def register(breaks: Breaks) -> Breaks:
        MUTANTS[breaks.__name__] = (bench, says, breaks)
        return breaks

    return register


def from_call(number: int, right: Function, wrong: Function) -> Function:
    """``right`` in the first calls, as a check of the first answer alone would see."""
    calls = 0

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        return (right if calls < number else wrong)(*args, **kwargs)

    return call


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


def traded(parts: Any) -> Any:
    """The last sample of worker 0 and the first of worker 1 change places."""
    order, end = parts.order.copy(), parts.offsets[1]
    order[[end - 1, end]] = order[[end, end - 1]]
    return dataclasses.replace(parts, order=order)


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
    patch.setattr(module, "partition", lambda *args: traded(pyimportance.partition(*args)))


@mutant("movement", "sticky(tolerance=0.001): a worker's distance is")
def a_tolerance_is_taken_for_ten(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.partition

    def wrong(*args: Any, tolerance: float | None = None, **options: Any) -> Any:
        return right(*args, **options, **({} if tolerance is None else {"tolerance": 10 * tolerance}))

    patch.setattr(module, "partition", wrong)


@mutant("movement", "moved, less than the bound 99999")
def a_bound_is_no_bound(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(module, "fewest", lambda *_: 99_999)


def damaged(root: Path) -> None:
    """One byte of one image changes."""
    tar = sorted(root.glob("worker-*/*.tar"))[-1]
    data = bytearray(tar.read_bytes())
    data[3 * 512 + 100] ^= 1  # headers of .cls, its byte, header of .jpg
    tar.write_bytes(data)


@mutant("shards", "index + write_shards, group 63: sample")
def a_byte_changes(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.write_shards

    def wrong(*args: Any, **options: Any) -> Any:
        shards = right(*args, **options)
        damaged(Path(shards.root))
        return shards

    patch.setattr(module, "write_shards", from_call(2, right, wrong))


@mutant("shards", "index + write_shards, group 0: sample")
def samples_go_elsewhere(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.write_shards
    patch.setattr(module, "write_shards", lambda i, parts, *a, **o: right(i, traded(parts), *a, **o))


@mutant("shards", "index, score, shard, group 63: sample")
def a_byte_changes_by_command(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.command

    def wrong(*arguments: Any) -> None:
        right(*arguments)
        if arguments[0] == "shard":
            damaged(arguments[2])

    patch.setattr(module, "command", wrong)


@mutant("shards", "pyimportance shard ended with status 2")
def a_command_fails(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.command
    patch.setattr(
        module, "command", lambda name, *more: right(name, *more, *["--bins", 0] * (name == "shard"))
    )


@mutant("shards", "webdataset read + ShardWriter, group")
def webdataset_leaves_a_sample_out(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.ShardWriter.write
    patch.setattr(module.ShardWriter, "write", from_call(501, right, lambda *_: 0))


@mutant("shards", "cp: other bytes")
def cp_changes_a_byte(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    def wrong(self: Any, turn: int) -> None:
        module.shutil.copytree(Path(self.source[0]).parent, self.folder_of(module.CP))
        (self.folder_of(module.CP) / Path(self.source[0]).name).write_bytes(b"?")

    patch.setattr(module.Case, "copy", wrong)


@mutant("shards", "headers, by pread: other members")
def headers_are_passed_over(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.members_in
    patch.setattr(module, "members_in", lambda tars, threads: right(tars, threads) - 1)


@mutant("shards", "read + CRC32C: other sums")
def sums_are_of_something_else(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(module.Case, "sum", lambda self, turn: [0])


@mutant("shards", "index + write_shards, zstd, group 0: sample")
def frames_hold_other_samples(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.Case.write_compressed

    def wrong(self: Any, turn: int) -> None:
        self.parts, parts = traded(self.parts), self.parts
        right(self, turn)
        self.parts = parts

    patch.setattr(module.Case, "write_compressed", wrong)


@mutant("shards", "larger tars than those of webdataset")
def tars_are_larger(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.size_of
    patch.setattr(
        module, "size_of", lambda folder, *p: right(folder, *p) * (1 + 9 * ("out-0" in str(folder)))
    )


@mutant("shards", "compact, group 0: sample")
def compact_of_another_partition(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.Case.__init__

    def wrong(self: Any, *args: Any) -> None:
        right(self, *args)
        self.groups_next = [ids[::-1] for ids in self.groups_next]

    patch.setattr(module.Case, "__init__", wrong)


@mutant("shards", "of which index: other keys")
def an_index_is_short(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    def wrong(self: Any, turn: int) -> Any:
        return pyimportance.index(self.source, limit=len(self.right.samples) - 1)

    patch.setattr(module.Case, "index", wrong)


@mutant("shards", "repartition (7 of 8 move): worker 0 has other samples")
def nothing_moves(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(module, "repartition", lambda shards, *_, **__: shards)


@mutant("shards", "verify: read 0 bytes")
def verify_reads_nothing(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    def wrong(self: ShardSet, **_: Any) -> VerifyReport:
        return VerifyReport(len(self.shards), self.num_samples, sum(s.nbytes for s in self.shards), ())

    patch.setattr(ShardSet, "verify", wrong)


def yields(change: Callable[[list[Any]], Any]) -> Breaks:
    """ImportanceDatasets whose second epoch and later ones ``change`` makes of the right samples."""

    def breaks(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
        right = module.ImportanceDataset.__iter__

        def wrong(self: Any) -> Iterator[Any]:
            items = list(right(self))
            if self.epoch > 0:
                change(items)
            return iter(items)

        patch.setattr(module.ImportanceDataset, "__iter__", wrong)

    return breaks


def other_byte(items: list[Any]) -> None:
    items[7]["jpg"] = items[7]["jpg"][:-1] + bytes([items[7]["jpg"][-1] ^ 1])


def other_label(items: list[Any]) -> None:
    if isinstance(items[0]["cls"], list):  # batches
        items[0]["cls"][0], items[0]["cls"][1] = b"x", b"y"


for _name, _says, _change in (
    ("a_sample_has_another_byte", "epoch 1: sample", other_byte),
    ("a_sample_is_missing", "epoch 1: 999 samples; right is 1000", lambda items: items.pop(7)),
    ("a_sample_comes_twice", "comes twice", lambda items: items.append(items[7])),
    ("a_sample_is_a_pad", "pad True", lambda items: items[7].update(__pad__=True)),
    ("a_sample_has_another_id", "has key", lambda items: items[7].update(__index__=0)),
    ("a_batch_has_other_labels", "batched, epoch 1: sample", other_label),
):
    MUTANTS[_name] = ("load", _says, yields(_change))


@pytest.mark.parametrize("name", MUTANTS)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_figures_of_wrong_answers(
    name: str,
    bench: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    script, says, breaks = MUTANTS[name]
    module, report = bench(script), tmp_path / "report.json"
    breaks(module, monkeypatch)
    assert module.main(["--quick", "--repeats", "1", "--json", str(report)]) == 1
    shown = capsys.readouterr()
    assert "an answer is wrong, so there are no figures" in shown.err
    assert says in shown.err
    assert shown.out == ""
    assert not report.exists()


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
