"""Controller: on two real ranks it moves the samples where their scores say, or fails on both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyimportance import (
    ArgumentError,
    Controller,
    ImportanceDataset,
    Schedule,
    Scores,
    ShardSet,
    Tracker,
    index,
    measure,
    partition,
    repartition,
    score,
    write_shards,
)
from pyimportance.score.measures.registry import REGISTRY
from pyimportance.train import controller as module
from pyimportance.train import moves
from tests.train.alone import N, alone, hardness, observe_all


def test_two_ranks_hold_what_the_scores_say(
    shards: ShardSet, run_ranks: Callable[..., list[Any]], tmp_path: Path
) -> None:
    settings = {"num_samples": N, "policy": "blocks"}
    ranks = run_ranks("ranks_controller.py", 2, shards.root, "runs", settings)
    # Epochs 2 to 6 follow the warm-up; the last period has three, so that there are two repartitions.
    assert [r["generation"] for r in ranks] == [2, 2]
    assert [r["repartitions"] for r in ranks] == [2, 2]
    assert ranks[0]["owners"] == ranks[1]["owners"]
    # blocks: the hardest half is one worker's, whichever of the two already held more of it.
    hardest = set(np.argsort(-hardness(), kind="stable")[: N // 2].tolist())
    halves = [{i for i, owner in enumerate(ranks[0]["owners"]) if owner == w} for w in (0, 1)]
    assert hardest in halves
    for epoch in range(7):
        both = sorted(ranks[0]["seen"][epoch] + ranks[1]["seen"][epoch])
        assert both == list(range(N)), epoch
    for rank in (0, 1):
        assert set(ranks[rank]["seen"][6]) == halves[rank]
        assert set(ranks[rank]["seen"][0]) == set(shards.index(rank).ids.tolist())
    # What moved in the first repartition is what each read from the origin; the second moved nothing.
    for rank in (0, 1):
        new = ShardSet.open(shards.root).index(rank)
        moved = shards.worker_of(new.ids) != rank
        payload = np.add.reduceat(new.part_size, new.part_start[:-1])[moved].sum()
        assert 0 < payload < ranks[rank]["moved"] <= new.nbytes[moved].sum()
        assert all(seconds > 0 for seconds in ranks[rank]["seconds"])
        assert ranks[rank]["report"] == np.add(*ranks[rank]["parts"]).tolist()
    assert ShardSet.open(shards.root, generation=0).digest == shards.digest


@pytest.mark.parametrize(
    ("step", "rank", "what"),
    [
        ("index", 1, "reading the indexes"),
        ("score", 1, "scoring and partitioning"),
        ("leaving", 1, "finding what moves"),
        ("unpack", 1, "writing delta shards"),
        ("write_delta", 1, "writing delta shards"),
        ("commit_generation", 0, "committing the generation"),
        ("open", 1, "opening the generation"),
    ],
)
def test_a_failure_on_one_rank_reaches_both_and_neither_switches(
    shards: ShardSet, run_ranks: Callable[..., list[Any]], step: str, rank: int, what: str
) -> None:
    current = 1 if step == "open" else 0  # it was committed, but is read by no rank
    settings = {"num_samples": N, "policy": "stripes", "step": step}
    ranks = run_ranks("ranks_controller.py", 2, shards.root, "fails", settings)
    assert ranks[rank]["failure"].startswith("OSError")
    assert ranks[1 - rank]["failure"].startswith(f"OutputError: {what} failed on rank {rank}: OSError")
    assert all("No space left on device" in r["failure"] for r in ranks)
    assert all(r["unchanged"] and r["current"] == current for r in ranks)


def test_ranks_that_disagree_are_told(shards: ShardSet, run_ranks: Callable[..., list[Any]]) -> None:
    settings = {"num_samples": N, "policy": "stripes"}
    ranks = run_ranks("ranks_controller.py", 2, shards.root, "disagree", settings)
    assert all("the ranks computed different partitions" in r["failure"] for r in ranks)
    assert all(r["unchanged"] for r in ranks)


def test_ranks_that_read_different_generations_are_told(
    shards: ShardSet, run_ranks: Callable[..., list[Any]]
) -> None:
    repartition(shards, partition(Scores(np.arange(N, dtype=np.float32)), 2))
    ranks = run_ranks("ranks_controller.py", 2, shards.root, "generations", {"num_samples": N})
    assert all("the ranks read different generations" in r["failure"] for r in ranks)
    assert [r["generation"] for r in ranks] == [1, 0]


def test_one_process_serves_all_workers(shards: ShardSet) -> None:
    controller = alone(shards, Schedule(warmup=1, interval=1, total=3), policy="stripes", bins=3)
    observe_all(controller)
    new = controller.end_epoch()
    assert new is not None
    assert new is controller.dataset.shards
    assert (new.generation, new.workers, new.bins, new.policy) == (1, 2, 3, "stripes")
    observe_all(controller)
    assert controller.end_epoch() is not None
    observe_all(controller)
    assert controller.end_epoch() is None  # nothing follows
    assert (controller.epoch, controller.samples, controller.repartitions) == (3, 3 * N, 2)
    assert controller.tracking_seconds == controller.observe_seconds + controller.commit_seconds > 0


def test_ignored_epochs_are_not_observed(shards: ShardSet) -> None:
    controller = alone(shards, Schedule(warmup=2, interval=1, ignore=1))
    observe_all(controller)
    assert controller.end_epoch() is None
    assert controller.samples == 0
    observe_all(controller)
    assert controller.end_epoch() is not None
    assert controller.samples == N


def test_features_and_the_index_to_ignore_reach_the_tracker(shards: ShardSet) -> None:
    dataset = ImportanceDataset(shards, batch_size=5, rank=0, world_size=1)
    controller = Controller(Tracker(N), dataset, Schedule(warmup=1, interval=1))
    logits, features = np.zeros((N, 3), np.float32), np.ones((N, 8), np.float32)
    targets = np.where(np.arange(N) == 7, -100, 0)
    controller.observe(np.arange(N), logits, targets, features=features, ignore_index=-100)
    controller.tracker.end_epoch()
    grand = score(controller.tracker.dynamics(), "grand_last").values
    assert np.flatnonzero(np.isnan(grand)).tolist() == [7]
    np.testing.assert_allclose(np.delete(grand, 7), np.sqrt(2 / 3) * 3, rtol=1e-6)


def test_only_the_samples_in_the_shards_are_divided(shards: ShardSet, tmp_path: Path) -> None:
    some = np.arange(3, N, 2)
    few = partition(Scores(np.zeros(len(some), np.float32), some), 2, policy="random")
    pruned = write_shards(index(tmp_path / "source.tar"), few, tmp_path / "pruned")
    controller = alone(pruned, Schedule(warmup=1, interval=1), policy="sticky", k=2)
    observe_all(controller)
    new = controller.end_epoch()
    assert new is not None
    assert sorted(np.concatenate([new.index(w).ids for w in (0, 1)]).tolist()) == some.tolist()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"policy": "magic"}, "policy 'magic' is unknown"),
        ({"policy": "sticky", "k": 0}, "k=0: must be at least 1"),
        ({"policy": "sticky", "k": "x"}, "k='x': must be an integer of at least 1"),
        ({"policy": "stripes", "k": 4}, "policy 'stripes' has no option 'k'; it takes none"),
        ({"measure": "luck"}, "measure='luck': must be one of"),
        ({"measure": "rho"}, "measure 'rho' needs the option irreducible"),
        ({"measure": "rho", "measure_options": {"irreducible": np.zeros(N - 1)}}, "irreducible: float64 of"),
        ({"measure": "correctness", "measure_options": {"fraction": 1}}, "fraction=1: must be True or False"),
        ({"measure": "loss_mean", "measure_options": {"window": 2}}, "measure 'loss_mean' has no option 'wi"),
        ({"measure": "dual"}, r"measure 'dual' needs a history: Tracker\(..., history=...\) keeps one"),
        ({"measure": "tdds"}, "measure 'tdds' needs a history"),
        (
            {"measure": "prediction_variance"},
            r"'prediction_variance' needs 2 observations of a sample, but is asked for after 1 \(warmup=1\)",
        ),
    ],
)
def test_bad_settings_are_refused_before_training(
    shards: ShardSet, settings: dict[str, Any], text: str
) -> None:
    with pytest.raises(ArgumentError, match=text):
        alone(shards, Schedule(warmup=1, interval=1), **settings)


def test_measures_of_a_history_are_asked_for_what_it_will_hold(shards: ShardSet) -> None:
    dataset, schedule = ImportanceDataset(shards, rank=0, world_size=1), Schedule(4, 2, ignore=1)

    def make(measure: str, decay: float | None = None, **options: Any) -> Controller:
        tracker = Tracker(N, history="memory")
        return Controller(tracker, dataset, schedule, measure=measure, measure_options=options, decay=decay)

    with pytest.raises(ArgumentError, match="'tdds' needs the probabilities of all classes, which no tracke"):
        make("tdds")
    with pytest.raises(ArgumentError, match=r"window=10 needs 10 .* after 3 \(warmup=4, ignore=1\)"):
        make("dual")
    with pytest.raises(ArgumentError, match=r"window=3 needs 3 .* after 2 \(interval=2, decay=0.0\)"):
        make("dual", decay=0.0, window=3)
    known = Tracker(N, history="memory")  # of an earlier training, say
    for _ in range(2):
        known.end_epoch()
    options = {"window": 5}
    Controller(known, dataset, schedule, measure="dual", measure_options=options)
    controller = make("dual", window=3)
    for _ in range(4):
        observe_all(controller)
        new = controller.end_epoch()
    assert new is not None
    assert new.measure == "dual"


def test_a_measure_that_the_batches_do_not_serve_is_refused_at_the_first(shards: ShardSet) -> None:
    controller = alone(shards, Schedule(warmup=3, interval=1), measure="grand_last")
    with pytest.raises(ArgumentError, match=r"'grand_last' needs features: observe\(..., features=...\)"):
        observe_all(controller)
    controller = alone(shards, Schedule(warmup=3, interval=1), measure="forgetting")
    with pytest.raises(ArgumentError, match=r"'forgetting' needs logits of classes, .* records loss alone"):
        controller.observe([0], np.zeros((1, 5, 3), np.float32), np.zeros((1, 5), np.int64))
    controller = alone(shards, Schedule(warmup=3, interval=1), measure="forgetting")
    controller.tracker.observe_loss([0], [1.0])
    with pytest.raises(ArgumentError, match="'forgetting' needs logits of classes"):
        controller.end_epoch()


def test_a_measure_of_ones_own_is_compiled_before_training(shards: ShardSet) -> None:
    @measure("no_such_thing", high="hard")
    def no_such_thing(loss: np.ndarray) -> float:
        return loss.no_such_thing

    try:
        dataset = ImportanceDataset(shards, rank=0, world_size=1)
        with pytest.raises(ArgumentError, match=r"measure 'no_such_thing': .* numba cannot compile this"):
            Controller(Tracker(N, history="memory"), dataset, Schedule(1, 1), measure="no_such_thing")
    finally:
        del REGISTRY["no_such_thing"]


def test_losses_to_compare_with_reach_the_measure(shards: ShardSet) -> None:
    irreducible = np.linspace(0, 3, N).astype(np.float32)
    options = {"irreducible": irreducible}
    controller = alone(shards, Schedule(warmup=1, interval=1), measure="rho", measure_options=options)
    observe_all(controller)
    controller.end_epoch()
    assert controller.scores is not None
    expected = np.logaddexp(0, hardness()) - irreducible
    np.testing.assert_allclose(controller.scores.values, expected, rtol=1e-5)


def test_numbers_out_of_range_are_refused_before_training(shards: ShardSet) -> None:
    for decay in (-0.1, 1.5, float("nan"), "half"):
        with pytest.raises(ArgumentError, match=r"decay=.*: must be within 0\.\.1"):
            alone(shards, Schedule(warmup=1, interval=1), decay=decay)
    for setting in ({"bins": 0}, {"seed": -1}, {"epoch": -3}, {"epoch": 1.5}):
        with pytest.raises(ArgumentError, match=f"{next(iter(setting))}=.*: must be "):
            alone(shards, Schedule(warmup=1, interval=1), **setting)
    dataset = ImportanceDataset(shards, rank=0, world_size=1)
    with pytest.raises(ArgumentError, match=f"num_samples={N - 1}, but the shards hold sample {N - 1}"):
        Controller(Tracker(N - 1), dataset, Schedule(warmup=1, interval=1))


@pytest.mark.parametrize(("where", "step"), [(moves, "write_delta"), (module, "commit_generation")])
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_a_repartition_that_failed_can_be_tried_again(
    shards: ShardSet, monkeypatch: pytest.MonkeyPatch, decay: float, where: Any, step: str
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", shards.root)

    controller = alone(shards, Schedule(warmup=1, interval=1), policy="blocks", decay=decay)
    observe_all(controller)
    with monkeypatch.context() as patch:
        patch.setattr(where, step, broken)
        with pytest.raises(OSError, match="No space left"):
            controller.end_epoch()
    before = controller.tracker.dynamics()
    assert before.epochs == 1
    assert before.observations.tolist() == [1] * N  # nothing was forgotten, nothing faded
    new = controller.repartition()
    hardest = set(np.argsort(-hardness(), kind="stable")[: N // 2].tolist())
    assert hardest in [set(new.index(w).ids.tolist()) for w in (0, 1)]
    assert controller.tracker.dynamics().epochs == (0 if decay == 0 else 1)
    # Another epoch shows how much the first one weighs: it was faded once, by the repartition that succeeded.
    second = hardness()[::-1].copy()
    observe_all(controller, second)
    new = controller.end_epoch()
    losses = [np.logaddexp(0, hard) for hard in (hardness(), second)]  # of logits 0 and `hard`, target 0
    expected = (decay * losses[0] + losses[1]) / (decay + 1)
    assert controller.scores is not None
    np.testing.assert_allclose(controller.scores.values, expected, rtol=1e-6)
    hardest = set(np.argsort(-expected, kind="stable")[: N // 2].tolist())
    assert new is not None
    assert hardest in [set(new.index(w).ids.tolist()) for w in (0, 1)]


def test_a_measure_that_fell_back_to_another_says_so(shards: ShardSet) -> None:
    controller = alone(shards, Schedule(warmup=1, interval=1), measure="loss_variance")
    observe_all(controller)
    assert controller.scores is None
    controller.end_epoch()
    assert controller.scores is not None
    expected = score(controller.tracker.dynamics(), "loss_variance").metadata
    assert dict(controller.scores.metadata) == dict(expected) != {}


def test_a_vanilla_warm_up_that_reads_its_own_shards_warns(shards: ShardSet) -> None:
    dataset = ImportanceDataset(shards, rank=0, world_size=1)
    controller = Controller(Tracker(N), dataset, Schedule(3, 2, warmup_on="vanilla"))
    controller.end_epoch()  # read from elsewhere
    for _ in dataset:
        pass
    with pytest.warns(UserWarning, match="epoch 1 is one of a warm-up on global reshuffles") as caught:
        controller.end_epoch()
    assert caught[0].filename == __file__
