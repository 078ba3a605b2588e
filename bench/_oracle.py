"""The statistics of a batch once more, in float64 NumPy, from their definitions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Statistics = dict[str, npt.NDArray[np.float64]]


def statistics(logits: npt.NDArray[np.float32], targets: npt.NDArray[np.int64]) -> Statistics:
    """Arrays [B] from logits [B, C] and targets [B], a batch at a time.

    (`pyimportance.score.reference` has more digits near p_y = 1, and takes a row at a time.)
    """
    z, at = logits.astype(np.float64), (np.arange(targets.size), targets)
    log_p = z - z.max(1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(1, keepdims=True))
    p = np.exp(log_p)
    error, others = p.copy(), z.copy()
    error[at] -= 1
    others[at] = -np.inf
    return {
        "loss": -log_p[at],
        "p_true": p[at],
        "margin": z[at] - others.max(1),
        "el2n": np.sqrt((error**2).sum(1)),
        "entropy": -(p * log_p).sum(1),
        "correct": z.argmax(1) == targets,
    }
