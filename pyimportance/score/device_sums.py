"""An ensemble's sums in the memory of a CUDA device, as torch tensors that the kernels are lent by DLPack.

Adding enqueues kernels on the caller's current stream and waits for nothing, as observing does (device.py).
Instead of `seen` a device keeps claims (csrc/observe/ensemble_cuda.h), and votes as the bits of an int16, as
torch does little with uint16.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pyimportance.errors import ArgumentError
from pyimportance.score import tensors
from pyimportance.score.device import NO_PROBLEM, callers_stream
from pyimportance.score.predictions import SUM_TOLERANCE, chosen
from pyimportance.score.sums import Columns, sharpness

_FREE, _TAKEN = -1, 0  # claims between batches
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_PART = 1 << 24  # numbers of [N, C] that are converted at a time


class DeviceSums:
    """See Sums. native: pyimportance._cuda."""

    def __init__(self, num_samples: int, num_classes: int, device: torch.device, native: ModuleType) -> None:
        def zeros(dtype: torch.dtype, *shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        N, C = num_samples, num_classes
        self._device = device
        self._columns = {
            "p_sum": zeros(torch.float64, N, C),
            "votes": zeros(torch.int16, N, C),
            "entropy_sum": zeros(torch.float64, N),
            "count": zeros(torch.int32, N),
            "wrong": zeros(torch.int32, N),
        }
        self._claims = torch.full((N,), _FREE, dtype=torch.int32, device=device)
        self._problems = torch.tensor([*NO_PROBLEM, 0], dtype=torch.int64, device=device)
        with self._stream() as stream:
            self._native = native.Ensemble(*self._columns.values(), self._claims, self._problems, stream)

    def _stream(self) -> AbstractContextManager[int]:
        return callers_stream(self._device)

    def add(self, ids: Any, logits: Any, probs: Any, targets: Any, temperature: Any) -> None:
        samples, classes = self._columns["p_sum"].shape
        name, value, scale = chosen(logits, probs, temperature)
        with self._stream() as stream:
            sample = None if ids is None else tensors.integers("ids", ids, self._device)
            rows = samples if sample is None else len(sample)
            given = tensors.matrix(name, value, self._device, (rows, classes), dtypes=_FLOATS)
            labels = None if targets is None else tensors.integers("targets", targets, self._device)
            if labels is not None and len(labels) != rows:
                raise ArgumentError(f"targets: {len(labels)} of them for {rows} rows")
            if rows:
                self._native.add(given, name == "probs", sharpness(scale), sample, labels, stream)

    def end_member(self) -> None:
        with self._stream():
            self._claims.fill_(_FREE)

    def check(self) -> None:
        _, kind, position, sample, target, count = self._problems[: len(NO_PROBLEM)].tolist()
        if kind == 0:
            return
        self._forget_problems()
        samples, classes = self._columns["p_sum"].shape
        row, at = f"row {position} (sample {sample}) of its batch", f"at row {position} of its batch"
        problem = {
            1: f"ids: {sample} {at}; must be at least 0 and below {samples}",
            2: f"targets: {target} at {row}; must be at least 0 and below {classes}",
            3: f"logits or probs: {row}: logits must be finite, or -inf but for one class; probabilities "
            f"within 0..1 and of sum 1, give or take {SUM_TOLERANCE}",
            5: f"ids: {sample} {at} was given before; must be once in a member",
        }[kind]
        raise ArgumentError(f"{problem} (left out, the first of {count}; the others are added)")

    def _forget_problems(self) -> None:
        self._problems[: len(NO_PROBLEM)] = torch.tensor(NO_PROBLEM, dtype=torch.int64)

    def entropy_and_most_votes(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        with self._stream() as stream:
            entropy = torch.empty(len(self._claims), dtype=torch.float64, device=self._device)
            most = torch.empty(len(self._claims), dtype=torch.int32, device=self._device)
            self._native.summarize(entropy, most, stream)
            return entropy.cpu().numpy(), most.cpu().numpy().astype(np.int64)

    def mean_probs(self) -> npt.NDArray[np.float32]:
        p_sum, count = self._columns["p_sum"], self._columns["count"]
        mean = np.empty(p_sum.shape, np.float32)
        each = max(1, _PART // p_sum.shape[1])
        for start in range(0, len(mean), each):
            part = slice(start, start + each)
            mean[part] = (p_sum[part] / count[part, None]).float().cpu().numpy()
        return mean

    def column(self, name: str) -> npt.NDArray[Any]:
        if name == "seen":
            return (self._claims == _TAKEN).cpu().numpy()
        column: npt.NDArray[Any] = self._columns[name].cpu().numpy()
        return column.view(np.uint16) if name == "votes" else column

    def load(self, columns: Columns) -> None:
        for name, tensor in self._columns.items():
            column = columns[name].view(np.int16) if name == "votes" else columns[name]
            tensor.copy_(torch.from_numpy(column))
        self._claims.copy_(torch.from_numpy(np.where(columns["seen"], _TAKEN, _FREE).astype(np.int32)))
        self._forget_problems()
