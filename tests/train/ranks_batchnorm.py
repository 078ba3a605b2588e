"""One rank of test_batchnorm.py: running statistics before and after pooling."""

from __future__ import annotations

from typing import Any

import torch

from pyimportance import pool_batchnorm


def main(rank: int, size: int, offset: float) -> dict[str, Any]:
    torch.manual_seed(rank)
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 5),
        torch.nn.BatchNorm1d(5),
        torch.nn.BatchNorm1d(5, track_running_stats=False),
        torch.nn.BatchNorm1d(5, affine=False, momentum=0.5),
    )
    for _ in range(3):
        model(torch.randn(16, 3) * (rank + 1) + offset * rank)
    layers = (model[1], model[3])
    before = [(n.running_mean.tolist(), n.running_var.tolist()) for n in layers]
    pool_batchnorm(model)
    after = [(n.running_mean.tolist(), n.running_var.tolist()) for n in layers]
    return {"before": before, "after": after, "batches": [int(n.num_batches_tracked) for n in layers]}
