"""Pooled BatchNorm statistics: what the running buffers would be had one process seen all ranks' data.

Under data-parallel training each rank's BatchNorm layers average over their own samples only. Where ranks
hold different data (``blocks`` gives one the easiest samples), evaluating or saving one rank's buffers
misjudges the model; SyncBatchNorm avoids that at the price of a collective per layer and step. Pooling needs
two small collectives before an evaluation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyimportance.together import rank_and_size

if TYPE_CHECKING:
    import torch


def pool_batchnorm(model: torch.nn.Module, group: torch.distributed.ProcessGroup | None = None) -> None:
    """Combines the ranks' BatchNorm running statistics, in place (collective).

    By the law of total variance, every rank counting alike: the pooled mean is the mean of the ranks' means,
    the pooled variance is ``mean(var + mean**2) - pooled_mean**2``, computed in float64 as the mean of the
    variances plus the variance of the means, which cannot cancel. Layers that keep no running statistics, and
    ``num_batches_tracked``, stay as they are. Without ``torch.distributed``, or alone in the group, nothing
    changes. All ranks must pass models of the same architecture.
    """
    import torch
    from torch import distributed as dist

    size = rank_and_size(group)[1]
    if size == 1:
        return
    pairs = [
        (module.running_mean, module.running_var)
        for module in model.modules()
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
        and module.running_mean is not None
        and module.running_var is not None
    ]
    if not pairs:
        return
    with torch.no_grad():
        mean = torch.cat([m.double().flatten() for m, _ in pairs])
        var = torch.cat([v.double().flatten() for _, v in pairs])
        pooled_mean = mean.clone()
        dist.all_reduce(pooled_mean, group=group)
        pooled_mean /= size
        pooled_var = var + (mean - pooled_mean) ** 2
        dist.all_reduce(pooled_var, group=group)
        pooled_var /= size
        start = 0
        for running_mean, running_var in pairs:
            stop = start + running_mean.numel()
            running_mean.copy_(pooled_mean[start:stop].view_as(running_mean))
            running_var.copy_(pooled_var[start:stop].view_as(running_var))
            start = stop
