"""One rank of test_exchange.py; what it observes, and what a single process would."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import distributed as dist

from pyimportance import PyimportanceError, Tracker

SAMPLES, CLASSES, EPOCHS = 101, 7, 5


def order_of(epoch: int) -> npt.NDArray[np.int64]:
    """Of all but a few samples, others each epoch."""
    return np.random.default_rng(epoch).permutation(SAMPLES)[:97]


def observe(tracker: Tracker, epoch: int, ids: npt.NDArray[np.int64], batch: int) -> None:
    rng = np.random.default_rng([epoch, 1])
    z = rng.normal(size=(SAMPLES, CLASSES)).astype(np.float32) * 3
    y = rng.integers(0, CLASSES, SAMPLES)
    for start in range(0, len(ids), batch):
        part = ids[start : start + batch]
        tracker.observe(part, z[part], y[part])


def attempt(tracker: Tracker, group: Any = None) -> str:
    """Ends an epoch; what it is refused for."""
    try:
        tracker.end_epoch(group=group)
    except PyimportanceError as error:
        return str(error)
    return ""


def shares(rank: int, size: int, folder: str) -> None:
    tracker = Tracker(SAMPLES, history="memory")
    for epoch in range(EPOCHS):
        order = order_of(epoch)
        # Another share each epoch, in batches of another size; and padding that others see as well.
        observe(tracker, epoch, np.append(order[rank::size], order[:3]), 5 + rank)
        tracker.end_epoch()
    saved = tracker.state_dict()
    history = np.frombuffer(b"".join(saved["history"].values()), np.uint8)
    columns = {name: np.frombuffer(data, np.uint8) for name, data in saved["columns"].items()}
    np.savez(f"{folder}/rank{rank}.npz", history=history, **columns)
    assert tracker.epochs == EPOCHS


def idle(rank: int, size: int) -> list[Any]:
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
    return [dynamics.count.tolist(), dynamics.loss_mean.tolist(), tracker.skipped, tracker.epochs]


def differ(rank: int, size: int) -> list[Any]:
    said = [attempt(Tracker(4 + rank)), attempt(Tracker(4, first_epoch=rank))]
    tracker = Tracker(4)
    if rank == 0:
        tracker.observe([0], np.zeros((1, 3), np.float32), [1])
    else:
        tracker.observe_loss([0], [1.0])
    said.append(attempt(tracker))
    return [*said, tracker.epochs, np.frombuffer(tracker.state_dict()["open_ids"], np.int64).tolist()]


def pair(rank: int, size: int) -> Any:
    group = dist.new_group([0, 1])
    tracker = Tracker(3)
    tracker.observe_loss([rank], [1.0 + rank])
    return attempt(tracker, group) or tracker.dynamics().count.tolist()


def logits(rank: int, size: int) -> list[float]:
    tracker = Tracker(3)
    ids = [[2], [0, 2], [0, 1, 2]][rank]  # another number of rows on every rank
    tracker.observe(ids, np.array([[0, 1 + rank]] * len(ids), np.float32), [1] * len(ids))
    tracker.end_epoch()
    margins: list[float] = tracker.dynamics().margin_sum.tolist()
    return margins


def unwritable(rank: int, size: int, folder: str) -> list[Any]:
    place = f"{folder}/history{rank}"
    tracker = Tracker(4, history=place)
    tracker.observe_loss([rank, 3], [1.0 + rank, 5.0 + rank])
    tracker.observe_loss([2], [np.nan], nonfinite="skip")
    before = tracker.state_dict()
    if rank == 1:
        os.rmdir(place)
    said = attempt(tracker)
    assert tracker.state_dict() == before
    os.makedirs(place, exist_ok=True)
    tracker.end_epoch()
    dynamics = tracker.dynamics()
    assert dynamics.history is not None
    told = dynamics.history.array("loss")[0, [0, 1, 3]]
    return [said, dynamics.loss_mean.tolist(), tracker.skipped, told.tolist()]


def another_run(rank: int, size: int, folder: str) -> str:
    place = Path(folder, f"history{rank}")
    if rank == 1:
        Tracker(4, history=str(place))  # makes the directory
        (place / "epoch-000007.npy").touch()
    try:
        Tracker(4, history=str(place)).end_epoch()
    except PyimportanceError as error:
        return str(error)
    return ""


def main(rank: int, size: int, case: str, *args: str) -> Any:
    return globals()[case](rank, size, *args)
