"""The same statistics of a batch by torch eager, as one writes them in a training loop."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

QUANTITIES = ("loss", "p_true", "margin", "el2n", "entropy")
ROW = 5 * 4 + 1  # bytes of a sample: five float32 and a bool


class TorchState:
    """What a training loop without this package would keep: one tensor [N] per statistic."""

    def __init__(self, num_samples: int) -> None:
        # Filled, not zeros: memory that was never written would be made while the clock runs.
        self.loss, self.p_true, self.margin, self.el2n, self.entropy = (
            torch.full((num_samples,), torch.nan) for _ in QUANTITIES
        )
        self.correct = torch.full((num_samples,), False)

    @torch.no_grad()
    def observe(self, ids: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor) -> None:
        logits = logits.float()  # of halves a copy: their own precision is not enough to sum in
        log_p = logits.log_softmax(1)
        p = log_p.exp()
        at = targets[:, None]
        loss = -log_p.gather(1, at)[:, 0]
        others = logits.scatter(1, at, -torch.inf)
        error = p.scatter_add(1, at, torch.full(at.shape, -1.0))
        self.loss[ids] = loss
        self.p_true[ids] = torch.exp(-loss)
        self.correct[ids] = logits.argmax(1) == targets
        self.margin[ids] = logits.gather(1, at)[:, 0] - others.amax(1)
        self.el2n[ids] = error.norm(dim=1)
        self.entropy[ids] = -(p * log_p).sum(1)

    @torch.no_grad()
    def observe_tokens(self, ids: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """Logits [B, T, V]: the mean loss of every sequence."""
        loss = cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
        self.loss[ids] = loss.view(targets.shape).mean(1)
