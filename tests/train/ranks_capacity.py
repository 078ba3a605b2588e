"""One rank of test_capacity.py: machines of unequal capacity. A sample's loss is its id + 1."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import distributed as dist
from torch.utils.data import DataLoader

from pyimportance import Controller, ImportanceDataset, Schedule, Tracker


def main(rank: int, size: int, root: str, settings: dict[str, Any]) -> dict[str, Any]:
    dataset = ImportanceDataset(root, batch_size=6, batched=True, equalize="batch")
    loader = DataLoader(dataset, batch_size=None, num_workers=2, persistent_workers=True)
    tracker = Tracker(settings.pop("num_samples"))
    schedule = Schedule(warmup=1, interval=1, total=3)
    controller = Controller(tracker, dataset, schedule, policy="sticky", k=2, **settings)
    epochs = []
    for epoch in range(3):
        dataset.set_epoch(epoch)
        told: dict[str, Any] = {"own": dataset.own_batch_size, "seen": [], "means": [], "of_all": []}
        told["samples"] = []
        for batch in loader:
            ids, real = batch["__index__"], ~batch["__pad__"]
            losses = (ids + 1).float()
            mean = (losses * batch["__weight__"]).mean()
            sums = torch.stack([mean, (losses * real).sum(), real.sum().float()])
            dist.all_reduce(sums)
            told["means"].append(float(sums[0]) / size)
            told["of_all"].append(float(sums[1] / sums[2]))
            told["samples"].append(int(sums[2]))
            told["seen"] += ids[real].tolist()
            logits = np.stack([np.zeros(len(ids)), ids.numpy() * 7 % 101], 1).astype(np.float32)
            controller.observe(ids, logits, np.zeros(len(ids), np.int64), mask=real)
        told["batches"] = len(told["means"])
        epochs.append(told)
        controller.end_epoch()
    return {"epochs": epochs}
