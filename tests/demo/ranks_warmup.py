"""One rank of test_warmup.py: the demo's own reader, in a loop whose logits are known beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pyimportance.demo.config import DemoConfig
from pyimportance.demo.policies import Place, open_reader
from pyimportance.demo.source import ImageSource

CLASSES = 3


def logits(ids: np.ndarray, epoch: int) -> np.ndarray:
    """float32 [B, CLASSES]: what the network is said to have thought of each sample in an epoch."""
    return np.stack([np.random.default_rng((int(i), epoch)).normal(size=CLASSES) for i in ids]).astype("f4")


def main(rank: int, size: int, folder: str, settings: dict[str, Any]) -> dict[str, Any]:
    config = DemoConfig(**{**settings, "policies": tuple(settings["policies"])})
    source = ImageSource.load(Path(folder))
    place = Place(config, source.train, Path(folder), rank)
    reader = open_reader(config.policies[0], 0, place)
    seen, figures, owners = [], [], []
    for epoch in range(config.epochs):
        reader.dataset.set_epoch(epoch)
        samples = list(reader.dataset)
        seen.append([(sample["__index__"], bool(sample["__pad__"])) for sample in samples])
        figures.append(reader.figures())  # of the epochs up to here, and not of what follows
        for start in range(0, len(samples), config.batch_size):
            batch = samples[start : start + config.batch_size]
            ids = np.array([sample["__index__"] for sample in batch])
            real = np.array([not sample["__pad__"] for sample in batch])
            reader.observers[-1].observe(ids, logits(ids, epoch), ids % CLASSES, mask=real)
        reader.end_epoch()
        shards = getattr(reader.dataset, "shards", None)
        owners.append(None if shards is None else shards.worker_of(source.train.ids).tolist())
    dynamics = reader.observers[-1].tracker.dynamics()
    dynamics.save(Path(folder) / f"dynamics-{rank}.npz")
    outcome = {
        "seen": seen,
        "figures": [*figures, reader.figures()],
        "owners": owners,
        "samples": sum(observer.samples for observer in reader.observers),
    }
    reader.close()
    return outcome
