"""One run: an ordinary data-parallel training loop over some reader, then its evaluation."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed as dist
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from pyimportance.demo.config import DemoConfig
from pyimportance.demo.images import Images, to_tensor
from pyimportance.demo.model import small_net
from pyimportance.demo.policies import Reader
from pyimportance.demo.source import parse_label
from pyimportance.train.batchnorm import pool_batchnorm
from pyimportance.train.controller import Controller

TEST_BATCH = 500


@dataclass(frozen=True)
class TestShare:
    """This rank's part of the test samples: uint8 [M, C, H, W] and int64 [M]."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """What the loop needs of a batch."""

    ids: NDArray[np.int64]
    pixels: torch.Tensor
    targets: torch.Tensor
    real: torch.Tensor  # bool [B]: not padding


def train(
    reader: Reader,
    seed: int,
    config: DemoConfig,
    images: Images,
    *,
    classes: int,
    progress: Callable[[int, float], None],
) -> tuple[nn.Module, dict[str, float]]:
    """Trains a new network on what the reader gives this rank (collective).

    The weights to start with depend on the seed alone. Returns the network, with this rank's own BatchNorm
    buffers, and the seconds spent; ``progress(epoch, loss)`` is called after each epoch.
    """
    rank = dist.get_rank()
    torch.manual_seed(seed)
    model = small_net(images.shape, classes)
    parallel = _parallel(model)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config.lr, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    steps = config.epochs * -(-len(reader.dataset) // config.batch_size)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=steps)
    rng = np.random.default_rng((seed, rank))

    def collate(samples: Sequence[Mapping[str, Any]]) -> Batch:
        labels = [parse_label(s["cls"], s["__url__"], s["__key__"]) for s in samples]
        return Batch(
            np.array([s["__index__"] for s in samples], np.int64),
            images.batch(samples, rng),
            torch.tensor(labels),
            ~torch.tensor([s["__pad__"] for s in samples], dtype=torch.bool),
        )

    inputs = _LastInputs(model) if config.features and reader.observers else None
    seconds = 0.0
    for epoch in range(config.epochs):
        reader.dataset.set_epoch(epoch)
        loader = DataLoader(reader.dataset, batch_size=config.batch_size, collate_fn=collate)
        observer = reader.observers[-1] if reader.observers else None
        parallel.train()  # type: ignore[no-untyped-call]
        start = time.perf_counter()
        total = 0.0
        for batch in loader:
            optimizer.zero_grad()
            logits = parallel(batch.pixels)
            losses = functional.cross_entropy(logits, batch.targets, reduction="none")
            loss = (losses * batch.real).sum() / batch.real.sum().clamp(min=1)
            loss.backward()
            optimizer.step()
            cycle.step()
            total += loss.item()
            if observer is not None:
                features = None if inputs is None else inputs.latest
                observer.observe(batch.ids, logits, batch.targets, features=features, mask=batch.real)
        seconds += time.perf_counter() - start
        reader.end_epoch()
        progress(epoch, total / max(1, len(loader)))
    if inputs is not None:
        inputs.close()
    watched = reader.observers
    return model, {
        "training_seconds": seconds + sum(observer.commit_seconds for observer in watched),
        "tracking_seconds": sum(observer.tracking_seconds for observer in watched),
        "observe_seconds": sum(observer.observe_seconds for observer in watched),
        "observed_samples": sum(observer.samples for observer in watched),
        "repartition_seconds": sum(o.repartition_seconds for o in watched if isinstance(o, Controller)),
    }


class _LastInputs:
    """What the last layer was given in the latest pass: the features of GraNd."""

    latest: torch.Tensor | None = None

    def __init__(self, model: nn.Sequential) -> None:
        self._hook = model[-1].register_forward_pre_hook(self._keep)

    def _keep(self, _: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        self.latest = arguments[0].detach()

    def close(self) -> None:
        self._hook.remove()


def _parallel(model: nn.Module) -> DistributedDataParallel:
    """DDP that leaves each rank its own buffers, or pooling them before the evaluation would be pointless."""
    known = inspect.signature(DistributedDataParallel).parameters
    before_2_13 = "forward_sync_buffers" not in known
    options: Any = {"broadcast_buffers" if before_2_13 else "forward_sync_buffers": False}
    return DistributedDataParallel(model, **options)


def accuracies(model: nn.Module, share: TestShare) -> dict[str, float]:
    """Test accuracy with rank 0's BatchNorm buffers, and with pooled ones, which then stay (collective)."""
    own = [buffer.clone() for buffer in model.buffers()]
    for buffer in model.buffers():
        dist.broadcast(buffer, src=0)
    rank0 = _accuracy(model, share)
    for buffer, value in zip(model.buffers(), own, strict=True):
        buffer.copy_(value)
    pool_batchnorm(model)
    return {"accuracy": _accuracy(model, share), "accuracy_rank0": rank0}


def _accuracy(model: nn.Module, share: TestShare) -> float:
    model.eval()
    correct = 0
    with torch.no_grad():
        for start in range(0, len(share.labels), TEST_BATCH):
            part = slice(start, start + TEST_BATCH)
            predicted = model(to_tensor(share.pixels[part])).argmax(1).numpy()
            correct += int((predicted == share.labels[part]).sum())
    counts = torch.tensor([correct, len(share.labels)])
    dist.all_reduce(counts)
    return int(counts[0]) / max(1, int(counts[1]))
