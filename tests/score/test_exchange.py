"""Ranks that see different samples hold the same state, bit for bit that of one process that saw all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyimportance import Tracker
from pyimportance.score import state

SETUP = """
import os
import sys
import numpy as np
import torch.distributed as dist
from pyimportance import ArgumentError, Tracker

rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
"""
TEARDOWN = """
dist.barrier()
dist.destroy_process_group()
sys.stdout.flush()
os._exit(0)  # as Python ends, a thread of gloo that lets go of a Python object aborts the process
"""
SAMPLES, CLASSES, EPOCHS = 101, 7, 5

OBSERVE = f"""
SAMPLES, CLASSES, EPOCHS = {SAMPLES}, {CLASSES}, {EPOCHS}

def epoch_data(epoch):
    rng = np.random.default_rng(epoch)
    z = rng.normal(size=(SAMPLES, CLASSES)).astype(np.float32) * 3
    return rng.permutation(SAMPLES), z, rng.integers(0, CLASSES, SAMPLES)

def observe(tracker, epoch, ids, batch):
    _, z, y = epoch_data(epoch)
    for start in range(0, len(ids), batch):
        part = ids[start : start + batch]
        tracker.observe(part, z[part], y[part])
"""


def launch(folder: Path, body: str, world: int = 2) -> list[str]:
    """Runs a script on ``world`` gloo ranks; what each printed."""
    script = folder / "rank.py"
    script.write_text(SETUP + OBSERVE + body + TEARDOWN)
    commands = [[sys.executable, str(script), str(rank), str(world), str(folder)] for rank in range(world)]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}  # whatever the host name resolves to
    ranks = [
        subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for c in commands
    ]
    try:
        outputs = [rank.communicate(timeout=250) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    for rank, (_, errors) in zip(ranks, outputs, strict=True):
        assert rank.returncode == 0, errors
    return [out for out, _ in outputs]


def in_one_process() -> Tracker:
    """Every epoch in its order, as a single process would see it."""
    space: dict[str, Any] = {"np": np}
    exec(OBSERVE, space)
    tracker = Tracker(SAMPLES, history="memory")
    for epoch in range(EPOCHS):
        order, _, _ = space["epoch_data"](epoch)
        space["observe"](tracker, epoch, order[:97], 16)  # some are left out, others each epoch
        tracker.end_epoch()
    return tracker


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_equal_one_process(tmp_path: Path, world: int) -> None:
    body = """
tracker = Tracker(SAMPLES, history="memory")
for epoch in range(EPOCHS):
    order = epoch_data(epoch)[0][:97]
    mine = order[rank::world]  # another share each epoch, in batches of another size
    observe(tracker, epoch, np.append(mine, order[:3]), 5 + rank)  # and padding that others see as well
    tracker.end_epoch()
saved = tracker.state_dict()
history = np.frombuffer(b"".join(saved["history"].values()), np.uint8)
columns = {name: np.frombuffer(data, np.uint8) for name, data in saved["columns"].items()}
np.savez(f"{folder}/rank{rank}.npz", history=history, **columns)
assert tracker.epochs == EPOCHS
"""
    launch(tmp_path, body, world)
    want = in_one_process().state_dict()
    history = b"".join(want["history"].values())
    for rank in range(world):
        with np.load(tmp_path / f"rank{rank}.npz") as got:
            assert set(got.files) == {"history", *state.zeros(1, state.KINDS["logits"])}
            assert got["history"].tobytes() == history
            for name, column in want["columns"].items():
                assert got[name].tobytes() == column, (rank, name)


def test_the_lowest_rank_stands_and_idle_ranks_take_part(tmp_path: Path) -> None:
    body = """
tracker = Tracker(4)
if rank > 0:
    tracker.observe_loss([1, 2], [10.0 + rank, 20.0 + rank])
    tracker.observe_loss([3], [np.nan], nonfinite="skip")
tracker.end_epoch()  # rank 0 has seen nothing yet
tracker.end_epoch()  # nobody has seen anything
if rank == 0:
    tracker.observe_loss([2], [30.0])
tracker.end_epoch()
dynamics = tracker.dynamics()
print(dynamics.count.tolist(), dynamics.loss_mean.tolist(), tracker.skipped, tracker.epochs)
"""
    assert set(launch(tmp_path, body, 3)) == {"[0, 1, 2, 0] [0.0, 11.0, 25.5, 0.0] 2 3\n"}


def test_ranks_that_differ_are_the_same_error_on_all(tmp_path: Path) -> None:
    body = """
def attempt(tracker):
    try:
        tracker.end_epoch()
    except ArgumentError as error:
        print(error)

attempt(Tracker(4 + rank))
tracker = Tracker(4, first_epoch=rank)
attempt(tracker)
tracker = Tracker(4)
if rank == 0:
    tracker.observe([0], np.zeros((1, 3), np.float32), [1])
else:
    tracker.observe_loss([0], [1.0])
attempt(tracker)
print(tracker.epochs, np.frombuffer(tracker.state_dict()["open_ids"], np.int64).tolist())
"""
    first, second = launch(tmp_path, body)
    assert first == second
    assert first.splitlines() == [
        "end_epoch: the ranks differ in num_samples: [4, 5]",
        "end_epoch: the ranks differ in epoch: [0, 1]",
        "end_epoch: the ranks differ in what was observed (1: losses, 2: logits, 3: and features): [2, 1]",
        "0 [0]",
    ]


def test_a_group(tmp_path: Path) -> None:
    body = """
pair = dist.new_group([0, 1])
tracker = Tracker(3)
tracker.observe_loss([rank], [1.0 + rank])
if rank < 2:
    tracker.end_epoch(group=pair)
    print(tracker.dynamics().count.tolist())
else:
    try:
        tracker.end_epoch(group=pair)
    except ArgumentError as error:
        print(error)
"""
    assert launch(tmp_path, body, 3) == [
        "[1, 1, 0]\n",
        "[1, 1, 0]\n",
        "group: this process is not a member of it\n",
    ]


def test_of_logits_the_lowest_rank_stands(tmp_path: Path) -> None:
    body = """
tracker = Tracker(3)
ids = [[2], [0, 2], [0, 1, 2]][rank]  # another number of rows on every rank
tracker.observe(ids, np.float32([[0, 1 + rank]] * len(ids)), [1] * len(ids))
tracker.end_epoch()
print(tracker.dynamics().margin_sum.tolist())
"""
    assert set(launch(tmp_path, body, 3)) == {"[2.0, 3.0, 1.0]\n"}


def test_a_history_that_one_rank_cannot_write_fails_on_all_and_can_be_tried_again(tmp_path: Path) -> None:
    body = """
import os
from pyimportance import OutputError
place = f"{folder}/history{rank}"
tracker = Tracker(4, history=place)
tracker.observe_loss([rank, 3], [1.0 + rank, 5.0 + rank])
tracker.observe_loss([2], [np.nan], nonfinite="skip")
before = tracker.state_dict()
if rank == 1:
    os.rmdir(place)
try:
    tracker.end_epoch()
except OutputError as error:
    print(error)
assert tracker.state_dict() == before
os.makedirs(place, exist_ok=True)
tracker.end_epoch()
dynamics = tracker.dynamics()
print(dynamics.loss_mean.tolist(), tracker.skipped, dynamics.history.array("loss")[0, [0, 1, 3]].tolist())
"""
    first, second = (out.splitlines() for out in launch(tmp_path, body))
    assert first[0].startswith("end_epoch: writing the history failed on rank 1: OutputError: ")
    assert "history1/epoch-000000.npy: cannot be written" in first[0]
    assert "history1/epoch-000000.npy: cannot be written" in second[0]
    assert first[1] == second[1] == "[1.0, 2.0, 0.0, 5.0] 2 [1.0, 2.0, 5.0]"


def test_another_runs_history_on_one_rank_fails_on_all(tmp_path: Path) -> None:
    body = """
from pyimportance import PyimportanceError
if rank == 1:
    Tracker(4, history=f"{folder}/history{rank}")  # makes the directory
    open(f"{folder}/history{rank}/epoch-000007.npy", "w").close()
try:
    Tracker(4, history=f"{folder}/history{rank}").end_epoch()
except PyimportanceError as error:
    print(error)
"""
    first, second = launch(tmp_path, body)
    why = "history: the directory holds epochs 7 to 7 of another run; must be empty"
    assert first.startswith(f"end_epoch: a check before it failed on rank 1: ArgumentError: {why}")
    assert second.startswith(why)
