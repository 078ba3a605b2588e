"""The oracle: every statistic and measure once more, slowly, in float64 NumPy, straight from the definitions.

It shares no code with what it checks. Two passes over everything; a difference that cancels is computed from
the parts that do not: 1 - p_y as the sum of the others, a loss through log1p of it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
ROW_NAMES = ("loss", "p_true", "p_false", "p_other", "correct", "margin", "el2n", "entropy", "grand")


def row_statistics(
    logits: npt.ArrayLike, targets: npt.ArrayLike, features: npt.ArrayLike | None = None
) -> dict[str, Array]:
    """Arrays [B] by name, from logits [B, C], targets [B] and features [B, D].

    loss, p_true, p_false (1 - p_true), p_other (the largest but p_true), correct (0 or 1), margin, el2n,
    entropy, grand (NaN without features).
    """
    z, y = np.asarray(logits, dtype=np.float64), np.asarray(targets)
    h = np.full((y.size, 1), np.nan) if features is None else np.asarray(features, dtype=np.float64)
    rows = [_row(*item) for item in zip(z, y.tolist(), h, strict=True)]
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in ROW_NAMES}


def _row(z: Array, y: int, h: Array) -> dict[str, float]:
    others = np.arange(z.size) != y
    first = int(z.argmax())  # the first of equal ones
    rest = np.exp(z - z[first])
    rest[first] = 0.0  # its 1 is added where it does not swallow the others
    log_total = np.log1p(rest.sum())
    log_p = (z - z[first]) - log_total
    p = np.exp(log_p)
    p_false = p[others].sum()
    loss = np.log1p(np.exp(z[others] - z[y]).sum()) if y == first else -log_p[y]
    el2n = np.sqrt(p_false**2 + (p[others] ** 2).sum())
    return {
        "loss": loss,
        "p_true": p[y],
        "p_false": p_false,
        "p_other": p[others].max(initial=0.0),
        "correct": float(first == y),
        "margin": z[y] - z[others].max(initial=-np.inf),
        "el2n": el2n,
        "entropy": -(p[p > 0] * log_p[p > 0]).sum(),
        "grand": el2n * np.sqrt(1 + (h**2).sum()),
    }


def measure(name: str, history: dict[str, Array], **options: Any) -> Array:
    """float64 [N]: a measure, from arrays [E, N] named as in `row_statistics`; NaN: not observed.

    ``options`` are those of `score`.
    """
    values = np.full(history["loss"].shape[1], np.nan)
    seen_often = any((~np.isnan(column)).sum() > 1 for column in history["loss"].T)
    for n in range(values.size):
        seen = ~np.isnan(history["loss"][:, n])
        sample = {key: column[seen, n] for key, column in history.items()}
        given = {k: value[n] if k in ("irreducible", "alone") else value for k, value in options.items()}
        if seen.any():
            values[n] = _sample(name, sample, np.flatnonzero(seen), seen_often, given)
    return values


def _sample(
    name: str, h: dict[str, Array], epochs: npt.NDArray[np.intp], seen_often: bool, options: dict[str, Any]
) -> float:
    e, correct = epochs.size, h["correct"] == 1
    m, q = h["p_true"].mean(), h["p_false"].mean()
    v = _variance(h["p_true"], h["p_false"], 0)
    formulas = {
        "loss_mean": h["loss"].mean,
        "loss_variance": lambda: (
            h["loss"].var(ddof=1) if e > 1 else (np.nan if seen_often else h["loss"].mean())
        ),
        "forgetting": lambda: (correct[:-1] & ~correct[1:]).sum() if correct.any() else np.inf,
        "first_learned": lambda: epochs[correct.argmax()] if correct.any() else np.inf,
        "unforgettable": lambda: correct.any() and not (correct[:-1] & ~correct[1:]).any(),
        "confidence": lambda: m,
        "variability": lambda: np.sqrt(v),
        "correctness": correct.sum,
        "threshold_closeness": lambda: m * q,
        "prediction_variance": lambda: np.sqrt(v + v**2 / (e - 1)) if e > 1 else np.nan,
        "el2n": lambda: _mean(h["el2n"][np.isin(epochs, options.get("epochs", epochs))]),
        "aum": h["margin"].mean,
        "entropy": h["entropy"].mean,
        "grad_norm_bound": lambda: h["el2n"][-1] if options.get("latest") else h["el2n"].mean(),
        "grand_last": lambda: np.mean(h["grand"]),
        "self_confidence": lambda: h["p_true"][-1],
        "normalized_margin": lambda: (h["p_true"][-1] - h["p_other"][-1] + 1) / 2,
        "confidence_weighted_entropy": lambda: _weighted_entropy(h, options["classes"]),
        "perplexity": lambda: np.exp(h["loss"].mean()),
        "rho": lambda: (h["loss"][-1] if options["latest"] else h["loss"].mean()) - options["irreducible"],
        "ifd": lambda: h["loss"].mean() / options["alone"],
        "dual": lambda: dual(h["p_true"], options.get("window", 10)),
    }
    return float(formulas[name]())


def _mean(x: Array) -> float:
    return float(x.mean()) if x.size else np.nan


def dual(p: Array, window: int) -> float:
    """Of one sample's probabilities of its target [E]."""
    windows = [p[k : k + window] for k in range(p.size - window + 1)]
    return float(np.mean([10 * w.std(ddof=1) * (1 - w.mean()) for w in windows])) if windows else np.nan


def tdds(p: Array, window: int, decay: float, least: float = 5e-324) -> float:
    """Of one sample's distributions [E, C], in which 0 stands for what is below ``least``."""
    e = len(p)
    kd = np.array([sum(map(_moved, before, after, [least] * p.shape[1])) for before, after in pairwise(p)])
    total = 0.0
    for k in range(e - window + 1):
        here = kd[k : k + window - 1]
        total += decay * (1 - decay) ** (e - window - k) * float(np.linalg.norm(here - here.mean()))
    return total if e >= window else np.nan


def _moved(before: float, after: float, least: float) -> float:
    return 0.0 if after == 0 else float(np.abs(after * (np.log(after) - np.log(before or least))))


def _weighted_entropy(h: dict[str, Array], classes: int) -> float:
    r = h["entropy"][-1] / np.log(classes) / max(h["p_true"][-1], 1e-6)
    return float(np.log1p(r) / max(r, 1e-6))


def _variance(p: Array, q: Array, ddof: int) -> float:
    """Of p; from q = 1 - p where that is the smaller and so has the more digits."""
    return float((p if p.mean() < q.mean() else q).var(ddof=ddof))


def softmax(logits: npt.ArrayLike) -> Array:
    """Probabilities [..., C]."""
    z = np.asarray(logits, dtype=np.float64)
    e = np.exp(z - z.max(-1, keepdims=True))
    p: Array = e / e.sum(-1, keepdims=True)
    return p


def entropy(p: Array) -> Array:
    """Of probabilities [..., C], in nats; the largest one's part from the sum of the others."""
    j = p.argmax(-1)[..., None]
    others = np.where(np.arange(p.shape[-1]) == j, 0.0, p)
    log = np.log(np.where(others > 0, others, 1.0))
    rest = others.sum(-1)
    values: Array = -(others * log).sum(-1) - (1 - rest) * np.log1p(-rest)
    return values


def ensemble_measures(p: Array, targets: npt.ArrayLike) -> dict[str, Array]:
    """Arrays [N] by name, from the members' probabilities [M, N, C] and targets [N]."""
    votes = p.argmax(-1)
    most = np.array([np.bincount(column).max() for column in votes.T])
    of_mean = entropy(p.mean(0))
    return {
        "ensemble_entropy": of_mean,
        "mutual_information": np.maximum(of_mean - entropy(p).mean(0), 0),
        "variation_ratio": 1 - most / len(p),
        "error_count": (votes != np.asarray(targets)).sum(0).astype(np.float64),
    }
