"""What tracking adds to a training step: a ResNet-8 on images 3x32x32, batches of 128, on all processors.

The same training, as often as there are contenders: without tracking; with a Tracker (loss, p_y, margin,
EL2N, entropy and correctness of every sample, `end_epoch` included); with a Python loop that writes the
``.item()`` of every sample's loss into a matrix [N, E], as the published prototype does; and with an
assignment of the batch's losses to that matrix, which is the least that keeps every loss. They take turns
step by step, the first of them a different one each time: what the machine does besides hits all alike.

Twice measured: by the clock around the tracking calls, and as the difference of whole steps to those without
tracking. A round is an epoch of ten steps, each of which takes a tenth of a second on two cores, so that nine
rounds end within a minute. They tell what the calls take to about a tenth of it; what they add to whole steps
to some 3 % of a step, which is no more than a check that nothing was left out of the first.

What was recorded is compared, sample by sample, with the losses that the training loop itself computed.
Images and labels are CIFAR-10's where PYIMPORTANCE_TEST_DATA names a folder with it, else random.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from _harness import WARM, check, check_close, options_parser, rounds, run_main
from _report import Report
from torch import nn
from torch.nn.functional import cross_entropy, relu

from pyimportance import Tracker

Losses = npt.NDArray[np.float64]

AIM = 0.005  # of a step without tracking
BATCH, CLASSES, IMAGE = 128, 10, (3, 32, 32)
WIDTHS = (16, 32, 64)


class Block(nn.Module):
    """He et al. 2016: two 3x3 convolutions with BatchNorm, and a shortcut."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        stride = 1 if channels == width else 2
        self.first = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(width), nn.BatchNorm2d(width)])
        self.shortcut = nn.Conv2d(channels, width, 1, stride, bias=False) if stride > 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = relu(self.norms[0](self.first(x)))
        return relu(self.norms[1](self.second(inner)) + self.shortcut(x))


def resnet8() -> nn.Module:
    """78,000 parameters; in the memory format in which processors convolve fastest."""
    channels = (WIDTHS[0], *WIDTHS)
    model = nn.Sequential(
        nn.Conv2d(IMAGE[0], WIDTHS[0], 3, 1, 1, bias=False),
        nn.BatchNorm2d(WIDTHS[0]),
        nn.ReLU(),
        *(Block(a, b) for a, b in zip(channels, WIDTHS, strict=False)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(WIDTHS[-1], CLASSES),
    )
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


class Tracking(Protocol):
    """What a training loop calls, and what is left behind."""

    def observe(
        self, ids: npt.NDArray[np.int64], logits: torch.Tensor, targets: torch.Tensor, losses: torch.Tensor
    ) -> None: ...
    def end_epoch(self) -> None: ...
    def check(self, losses: Losses) -> None:
        """Against the losses [N, E] of the training loop."""


class Untracked:
    def observe(self, *_: object) -> None: ...
    def end_epoch(self) -> None: ...
    def check(self, losses: Losses) -> None:
        check(np.isfinite(losses).all(), "no tracking: a loss is not finite, or a sample was left out")


class Tracked:
    def __init__(self, num_samples: int) -> None:
        self.tracker = Tracker(num_samples)

    def observe(
        self, ids: npt.NDArray[np.int64], logits: torch.Tensor, targets: torch.Tensor, losses: torch.Tensor
    ) -> None:
        self.tracker.observe(ids, logits, targets)

    def end_epoch(self) -> None:
        self.tracker.end_epoch()

    def check(self, losses: Losses) -> None:
        dynamics = self.tracker.dynamics()
        check(self.tracker.skipped == 0, f"the tracker skipped {self.tracker.skipped} rows")
        check_close("Tracker: epochs of a sample", dynamics.count, np.full(len(losses), losses.shape[1]))
        # torch's losses are float32, differences of numbers as large as logits
        check_close("Tracker: loss_mean", dynamics.mean("loss"), losses.mean(1), rtol=1e-5, atol=1e-5)


class Matrix:
    """The losses of all samples in all epochs."""

    def __init__(self, num_samples: int, epochs: int) -> None:
        self.matrix, self.epoch = np.zeros((num_samples, epochs)), 0

    def end_epoch(self) -> None:
        self.epoch += 1

    def check(self, losses: Losses) -> None:
        check_close(f"{type(self).__name__}: losses", self.matrix, losses)


class ItemLoop(Matrix):
    """A loop that cannot well be written faster: of plain tensors, without indexing one by one."""

    def observe(
        self, ids: npt.NDArray[np.int64], logits: torch.Tensor, targets: torch.Tensor, losses: torch.Tensor
    ) -> None:
        for sample, loss in zip(ids, losses.detach(), strict=True):
            self.matrix[sample, self.epoch] = loss.item()


class Assignment(Matrix):
    def observe(
        self, ids: npt.NDArray[np.int64], logits: torch.Tensor, targets: torch.Tensor, losses: torch.Tensor
    ) -> None:
        self.matrix[ids, self.epoch] = losses.detach().numpy()


class Training:
    """One of several that are the same but for how they are tracked."""

    def __init__(self, tracking: Tracking, num_samples: int, epochs: int) -> None:
        torch.manual_seed(0)
        self.model, self.tracking = resnet8(), tracking
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
        self.losses = np.full((num_samples, epochs), np.nan)
        self.step_seconds, self.tracking_seconds = [0.0] * epochs, [0.0] * epochs

    def step(self, epoch: int, ids: npt.NDArray[np.int64], x: torch.Tensor, y: torch.Tensor) -> None:
        start = time.perf_counter()
        logits = self.model(x)
        losses = cross_entropy(logits, y, reduction="none")
        before = time.perf_counter()
        self.tracking.observe(ids, logits, y, losses)
        after = time.perf_counter()
        self.optimizer.zero_grad()
        losses.mean().backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.step_seconds[epoch] += time.perf_counter() - start
        self.tracking_seconds[epoch] += after - before
        self.losses[ids, epoch] = losses.detach().numpy()

    def end_epoch(self, epoch: int) -> None:
        start = time.perf_counter()
        self.tracking.end_epoch()
        taken = time.perf_counter() - start
        self.step_seconds[epoch] += taken
        self.tracking_seconds[epoch] += taken


def images(num_samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 [N, 3, 32, 32] about 0, and int64 [N]."""
    if folder := os.environ.get("PYIMPORTANCE_TEST_DATA"):
        return cifar(Path(folder) / "cifar10", num_samples)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((num_samples, *IMAGE), dtype=np.float32)
    return torch.from_numpy(x), torch.from_numpy(rng.integers(0, CLASSES, num_samples))


def cifar(folder: Path, num_samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    from PIL import Image

    pixels: list[npt.NDArray[np.uint8]] = []
    labels: list[int] = []
    for path in sorted(folder.glob("train-*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if len(pixels) == len(labels) == num_samples:
                    break
                data = tar.extractfile(member).read()  # type: ignore[union-attr]
                if member.name.endswith(".cls"):
                    labels.append(int(data))
                elif member.name.endswith((".png", ".jpg")):
                    pixels.append(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    check(len(pixels) == len(labels) == num_samples, f"{folder}: {len(pixels)} images, {len(labels)} labels")
    x = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float().sub_(120).div_(64).contiguous()
    return x, torch.tensor(labels)


def train(trainings: Sequence[Training], x: torch.Tensor, y: torch.Tensor, epochs: int) -> None:
    """All of them, a step of each in turn; they get the same batches in the same order."""
    rng, turn = np.random.default_rng(1), 0
    for epoch in range(epochs):
        for ids in rng.permutation(len(x)).reshape(-1, BATCH):
            batch = x[ids].contiguous(memory_format=torch.channels_last), y[ids]
            for k in range(len(trainings)):
                trainings[(turn + k) % len(trainings)].step(epoch, ids, *batch)
            turn += 1
        for training in trainings:
            training.end_epoch(epoch)


def run(options: argparse.Namespace) -> Report:
    num_samples, turns = BATCH * (2 if options.quick else 10), rounds(options, 9)
    epochs = turns + WARM
    x, y = images(num_samples)
    trackings: dict[str, Tracking] = {
        "no tracking": Untracked(),
        "Tracker": Tracked(num_samples),
        ".item() of every loss": ItemLoop(num_samples, epochs),
        "matrix[ids, e] = losses": Assignment(num_samples, epochs),
    }
    trainings = {name: Training(tracking, num_samples, epochs) for name, tracking in trackings.items()}
    train(list(trainings.values()), x, y, epochs)
    for training in trainings.values():
        training.tracking.check(training.losses)

    whole = {name: training.step_seconds[WARM:] for name, training in trainings.items()}
    alone = {name: training.tracking_seconds[WARM:] for name, training in trainings.items()}
    untracked = whole["no tracking"]
    del alone["no tracking"]
    report = Report(
        "tracking",
        item="sample",
        about=f"A round is an epoch of {num_samples // BATCH} steps of {BATCH} images, in turn step by step. "
        "MB in: of whole steps, images and labels; of tracking alone, logits, ids and targets. "
        "%: what is added to a step without tracking, and what tracking itself takes of such a step.",
        fraction_of="% of a step",
    )
    report.add(
        "whole steps",
        whole,
        items=num_samples,
        input_bytes=x.nbytes + y.nbytes,
        threads=torch.get_num_threads(),
        fractions={
            name: [t / u - 1 for t, u in zip(taken, untracked, strict=True)]
            for name, taken in whole.items()
            if name != "no tracking"
        },
    )
    shares = {name: [t / u for t, u in zip(taken, untracked, strict=True)] for name, taken in alone.items()}
    reached = float(np.median(shares["Tracker"])) <= AIM
    report.add(
        "tracking alone",
        alone,
        items=num_samples,
        input_bytes=num_samples * (CLASSES * 4 + 16),
        threads=torch.get_num_threads(),
        fractions=shares,
        notes={"Tracker": f"meant to be at most {AIM:.1%}: {'reached' if reached else 'NOT REACHED'}"},
    )
    return report


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(run, options_parser("what tracking adds to a training step"), argv)


if __name__ == "__main__":
    sys.exit(main())
