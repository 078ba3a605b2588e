"""Training stopped at some time and gone on with in new objects, whatever happened to shards meanwhile."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pyimportance import (
    ArgumentError,
    Controller,
    DataError,
    ImportanceDataset,
    Schedule,
    Scores,
    ShardSet,
    Tracker,
    index,
    partition,
    repartition,
    write_shards,
)

N, BATCH, EPOCHS = 90, 8, 8


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with tarfile.open(tmp_path / "source.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for i in range(N):
            member = tarfile.TarInfo(f"{i:04d}.txt")
            member.size = 10 * i
            tar.addfile(member, io.BytesIO(bytes(10 * i)))
    start = partition(Scores(np.zeros(N, np.float32)), 3, policy="random", bins=2)
    write_shards(index(tmp_path / "source.tar"), start, tmp_path / "shards")
    return tmp_path / "shards"


class Run:
    """A training loop on one rank. What a sample is like changes with the epoch, so that samples move."""

    def __init__(self, root: Path, *, luck: int = 0, **settings: Any) -> None:
        self.dataset = ImportanceDataset(root, batch_size=BATCH, rank=0, world_size=1)
        schedule = Schedule(warmup=2, interval=2)
        self.controller = Controller(Tracker(N), self.dataset, schedule, policy="blocks", **settings)
        self.luck = luck
        self.seen: dict[int, list[int]] = {}

    def batches(self) -> Iterator[int]:
        """Runs one epoch, yielding after each batch how many there were."""
        controller, epoch = self.controller, self.controller.epoch
        self.dataset.set_epoch(epoch)
        samples = iter(self.dataset)
        for n in range(1, -(-len(self.dataset) // BATCH) + 1):
            ids = np.array([s["__index__"] for _, s in zip(range(BATCH), samples, strict=False)])
            self.seen.setdefault(epoch, []).extend(ids.tolist())
            hard = (ids * (7 + epoch + self.luck) % 101).astype(np.float32)
            logits = np.stack([np.zeros(len(ids), np.float32), hard], 1)
            controller.observe(ids, logits, np.zeros(len(ids), np.int64))
            yield n

    def epochs(self, end: int) -> None:
        while self.controller.epoch < end:
            for _ in self.batches():
                pass
            self.controller.end_epoch()

    def outcome(self) -> Any:
        return self.seen, self.dataset.shards.digest, self.controller.tracker.state_dict()


def stored(state: dict[str, Any]) -> Any:
    """The state as a file gives it back."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file)


@pytest.mark.parametrize("decay", [None, 0.0, 0.5])
@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_between_epochs(root: Path, tmp_path: Path, stop: int, decay: float | None) -> None:
    """Generations 1 to 4 are committed after 2, 4, 6, 8 epochs, one or two since the state was saved."""
    shutil.copytree(root, tmp_path / "other")
    whole = Run(tmp_path / "other", decay=decay)
    whole.epochs(EPOCHS)
    assert len({ShardSet.open(tmp_path / "other", generation=g).digest for g in range(5)}) == 5
    lost = Run(root, decay=decay)
    lost.epochs(stop)
    state = stored(lost.controller.state_dict())
    lost.epochs(stop + 3)
    assert lost.dataset.shards.generation > state["dataset"]["generation"]
    again = Run(root, decay=decay)
    assert again.dataset.shards.generation == lost.dataset.shards.generation
    again.controller.load_state_dict(state)
    assert again.dataset.shards.generation == state["dataset"]["generation"] == stop // 2
    assert again.controller.epoch == stop
    again.epochs(EPOCHS)
    again.seen |= {epoch: seen for epoch, seen in lost.seen.items() if epoch < stop}
    assert again.outcome() == whole.outcome()
    assert ShardSet.open(root).generation == 4  # those after the state were found again, not written again


@pytest.mark.parametrize("consumed", [0, 5, 11, 12])
def test_within_an_epoch(root: Path, tmp_path: Path, consumed: int) -> None:
    shutil.copytree(root, tmp_path / "other")
    whole = Run(tmp_path / "other")
    whole.epochs(6)
    lost = Run(root)
    lost.epochs(3)
    state = None
    for n in lost.batches():
        if n == max(1, consumed):
            state = stored(lost.controller.state_dict(batches=consumed))
    lost.controller.end_epoch()
    assert (lost.controller.repartitions, state["dataset"]["generation"]) == (2, 1)
    again = Run(root)
    again.controller.load_state_dict(state)
    again.seen = {epoch: seen for epoch, seen in lost.seen.items() if epoch < 3}
    again.seen[3] = lost.seen[3][: consumed * BATCH]
    again.epochs(6)
    assert again.outcome() == whole.outcome()


def test_another_outcome_is_another_generation(root: Path) -> None:
    lost = Run(root)
    lost.epochs(3)
    state = stored(lost.controller.state_dict())
    lost.epochs(4)
    again = Run(root, luck=5)
    again.controller.load_state_dict(state)
    again.epochs(4)
    assert (lost.dataset.shards.generation, again.dataset.shards.generation) == (2, 3)
    assert again.dataset.shards.manifest.parent == 1
    for g in range(4):
        shards = ShardSet.open(root, generation=g)
        assert shards.verify().ok
        assert sorted(s["__index__"] for s in ImportanceDataset(shards)) == list(range(N))


def test_on_another_number_of_ranks(root: Path) -> None:
    lost = Run(root)
    lost.epochs(3)
    state = stored(lost.controller.state_dict())
    three = [ImportanceDataset(root, batch_size=BATCH, rank=r, world_size=3) for r in range(3)]
    for dataset in three:
        controller = Controller(Tracker(N), dataset, Schedule(warmup=2, interval=2), policy="blocks")
        controller.load_state_dict(state)
        assert controller.tracker.state_dict() == state["tracker"]
        assert (controller.epoch, dataset.epoch) == (3, 3)
    assert sorted(s["__index__"] for d in three for s in d if not s["__pad__"]) == list(range(N))


def test_a_count_of_batches_that_are_of_no_epoch(root: Path) -> None:
    run = Run(root)
    run.epochs(1)
    with pytest.raises(ArgumentError, match="batches=3: of epoch 1, but the data set reads 0"):
        run.controller.state_dict(batches=3)


def test_states_that_do_not_fit(root: Path, tmp_path: Path) -> None:
    run = Run(root)
    run.epochs(2)
    state = run.controller.state_dict()
    for wrong, text in (
        ({}, "not a state of Controller"),
        (None, "not a state of Controller"),
        ({**state, "version": 2}, "version 2; this release reads 1"),
        ({**state, "tracker": {}}, "state"),
        ({**state, "recipe": 3}, "state: recipe 3: not of a state of Controller"),
        ({**state, "dataset": {}}, "not a state of ImportanceDataset"),
    ):
        with pytest.raises(ArgumentError, match=text):
            Run(root).controller.load_state_dict(wrong)  # type: ignore[arg-type]
    shutil.copytree(root, tmp_path / "copy")
    (tmp_path / "copy" / "manifest-000001.json").unlink()
    repartition(ShardSet.open(root), partition(Scores(np.arange(N, dtype=np.float32)), 3))
    for name in ("manifest.json", "manifest-000002.json", "worker-000", "worker-001", "worker-002"):
        if (root / name).is_dir():
            shutil.copytree(root / name, tmp_path / "copy" / name, dirs_exist_ok=True)
        else:
            shutil.copy(root / name, tmp_path / "copy" / name)
    with pytest.raises(DataError, match="copy: holds no generation 1; the current one is 2"):
        Run(tmp_path / "copy").controller.load_state_dict(state)
    few = Controller(
        Tracker(N), ImportanceDataset(root, rank=0, world_size=1), Schedule(2, 2), policy="blocks"
    )
    few.tracker = Tracker(N - 1)
    with pytest.raises(ArgumentError, match=f"num_samples={N - 1}, but the shards hold sample {N - 1}"):
        few.load_state_dict(state)


SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"measure": "el2n"}, "measure='loss_mean', but this controller has measure='el2n'"),
    ({"policy": "stripes"}, "policy='blocks', but this controller has policy='stripes'"),
    ({"policy": "sticky", "k": 4}, r"has policy='sticky\(k=4\)'"),
    ({"bins": 3}, "bins=None, but this controller has bins=3"),
    ({"seed": 3}, "seed=0, but this controller has seed=3"),
    ({"decay": 0.5}, "decay=None, but this controller has decay=0.5"),
    ({"schedule": Schedule(3, 2)}, "warmup=2, but this controller has warmup=3"),
    ({"schedule": Schedule(2, 1)}, "interval=2, but this controller has interval=1"),
    ({"schedule": Schedule(2, 2, ignore=1)}, "ignore=0, but this controller has ignore=1"),
    ({"schedule": Schedule(2, 2, warmup_on="vanilla")}, "warmup_on='local', but .* warmup_on='vanilla'"),
]


@pytest.mark.parametrize(("settings", "text"), SETTINGS)
def test_a_controller_of_other_settings(root: Path, settings: dict[str, Any], text: str) -> None:
    run = Run(root)
    run.epochs(1)
    state = stored(run.controller.state_dict())
    other = Controller(
        Tracker(N),
        ImportanceDataset(root, batch_size=BATCH, rank=0, world_size=1),
        **{"schedule": Schedule(2, 2), "policy": "blocks", **settings},
    )
    with pytest.raises(ArgumentError, match=f"state: saved with .*{text}"):
        other.load_state_dict(state)
    assert (other.epoch, other.tracker.epochs) == (0, 0)


def test_what_a_measure_compares_with_is_a_setting(root: Path) -> None:
    def controller(irreducible: np.ndarray[Any, Any]) -> Controller:
        dataset = ImportanceDataset(root, batch_size=BATCH, rank=0, world_size=1)
        options = {"irreducible": irreducible}
        return Controller(Tracker(N), dataset, Schedule(2, 2), measure="rho", measure_options=options)

    state = stored(controller(np.arange(N) / N).state_dict())
    controller((np.arange(N) / N).copy()).load_state_dict(state)
    with pytest.raises(ArgumentError, match=r"saved with measure='rho\(irreducible=float64\[90\]:"):
        controller(np.arange(N) / N + 1e-9).load_state_dict(state)


def test_training_may_go_on_for_longer_than_planned(root: Path) -> None:
    dataset = ImportanceDataset(root, batch_size=BATCH, rank=0, world_size=1)
    state = Controller(Tracker(N), dataset, Schedule(2, 2, total=4)).state_dict()
    Controller(Tracker(N), dataset, Schedule(2, 2, total=9)).load_state_dict(state)


def test_shards_of_other_data(root: Path, tmp_path: Path) -> None:
    """The same number of generations, and of samples per worker."""
    run = Run(root)
    run.epochs(1)
    start = partition(Scores(np.zeros(N, np.float32)), 3, policy="random", bins=2, seed=1)
    write_shards(index(tmp_path / "source.tar"), start, tmp_path / "others")
    with pytest.raises(ArgumentError, match=r"saved on generation 0 with digest .*; that of .*/others has"):
        Run(tmp_path / "others").controller.load_state_dict(run.controller.state_dict())


def test_ranks_load_the_same_or_all_fail(root: Path, run_ranks: Callable[..., list[Any]]) -> None:
    start = partition(Scores(np.zeros(N, np.float32)), 2, policy="random")
    shards = write_shards(index(root.parent / "source.tar"), start, root.parent / "two")
    first, second = run_ranks("ranks_resume.py", 2, shards.root, N)
    differ, version = (
        "the ranks loaded states of different positions",
        "state: version 7; this release reads 1",
    )
    assert [first[0], second[0]] == ["", ""]
    assert first[1].startswith(differ)
    assert second[1].startswith(differ)
    assert [first[2], second[2]] == [f"loading the state failed on rank 1: ArgumentError: {version}", version]
