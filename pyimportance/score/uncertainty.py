"""Uncertainty that models of other kinds report, as scores: one formula each.

High is uncertain, and the more important end. Arrays are NumPy or torch; the large ones are used in blocks of
samples, and may be memory-mapped. Every function raises ArgumentError, naming argument and row, for what is
not as described. Sample ids are 0..N-1.

Sources: Amini et al. 2020, Deep evidential regression. van Amersfoort et al. 2020, Uncertainty estimation
using a single deep deterministic neural network (DUQ). Antoran et al. 2020, Depth uncertainty in neural
networks. Seo et al. 2019, Learning for single-shot confidence calibration through stochastic inferences.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.checks import check_positive
from pyimportance.errors import ArgumentError
from pyimportance.score import inputs
from pyimportance.score.predictions import (
    BLOCK,
    SUM_TOLERANCE,
    Array,
    Predictions,
    entropy,
    predictions,
    widened,
)
from pyimportance.score.values import Scores


def evidential_uncertainty(nu: Any, alpha: Any, beta: Any) -> Scores:
    """Epistemic uncertainty of evidential regression: beta / (nu (alpha - 1)), the variance of the mean under
    the normal-inverse-gamma distribution that the model predicts. Amini et al. 2020, section 3.

    nu     [N] floating point, above 0
    alpha  [N] above 1
    beta   [N] above 0
    """
    v = _above("nu", nu, 0, "N")
    a = _above("alpha", alpha, 1, v.size)
    b = _above("beta", beta, 0, v.size)
    with np.errstate(over="ignore"):  # beyond the largest number is infinite, and sorts as such
        values = (b / (v * (a - 1))).astype(np.float32)
    return Scores(values=values, measure="evidential_uncertainty")


def duq_uncertainty(features: Any, weights: Any, centroids: Any, sigma: float) -> Scores:
    """Distance to the nearest class: 1 - max_c exp(-mean((W_c f - e_c)^2) / (2 sigma^2)), in 0..1. van
    Amersfoort et al. 2020, equation 1.

    features   [N, F] floating point, the model's features f
    weights    [C, D, F], per class the W_c that takes them to D dimensions
    centroids  [C, D], the class centroids e_c
    sigma      length scale, above 0
    """
    w = _finite("weights", inputs.floats("weights", weights, ("C", "D", "F")))
    C, D, F = w.shape
    e = _finite("centroids", inputs.floats("centroids", centroids, (C, D)))
    f = inputs.floats("features", features, ("N", F))
    if w.size == 0:
        raise ArgumentError(f"weights: shape {[C, D, F]}; no axis may be empty")
    scale = 2 * check_positive("sigma", sigma) ** 2
    flat = w.reshape(C * D, F).T
    values = np.empty(len(f), np.float32)
    for part in _blocks(len(f), C * D + F):
        off = (_finite("features", f[part], part.start) @ flat).reshape(-1, C, D) - e
        values[part] = -np.expm1(-(off**2).mean(-1).min(-1) / scale)  # keeps the digits of the near ones
    return Scores(values=values, measure="duq_uncertainty", metadata={"sigma": str(float(sigma))})


def depth_uncertainty(depth_probs: Any, *, logits: Any = None, probs: Any = None) -> Scores:
    """Entropy, in nats, of the prediction averaged over depths: of sum_d q(d) p_d. Antoran et al. 2020,
    section 3.

    depth_probs  [D] the posterior q over depths: at least 0, of sum 1, give or take 0.01
    logits       [D, N, C] floating point, the predictions after each of D depths, or
    probs        [D, N, C], each row of sum 1; one of the two
    """
    q = widened(inputs.floats("depth_probs", depth_probs, ("D",)))
    if not ((q >= 0).all() and abs(q.sum() - 1) <= SUM_TOLERANCE):
        raise ArgumentError(f"depth_probs: {q}; must be at least 0 and of sum 1, give or take 0.01")
    q /= q.sum()
    given = predictions(logits, probs, (q.size, "N", "C"), axes=("depth", "row"))
    values = np.empty(given.num_samples, np.float32)
    for part, p in given.blocks():
        values[part] = entropy(np.einsum("d,dnc->nc", q, p))
    return Scores(values=values, measure="depth_uncertainty", metadata={"depths": str(q.size)})


def pass_variance(targets: Any, *, logits: Any = None, probs: Any = None) -> Scores:
    """Variance over T stochastic passes (dropout, stochastic depth) of the target's probability, ddof = 0.
    Seo et al. 2019.

    targets  [N] integers 0..C-1
    logits   [T, N, C] floating point, T at least 2, or
    probs    [T, N, C], each row of sum 1; one of the two
    """
    given = _passes(logits, probs)
    y = inputs.class_numbers("targets", targets, given.num_samples, given.num_classes)
    values = np.empty(given.num_samples, np.float32)
    for part, p in given.blocks():
        values[part] = p[:, np.arange(p.shape[1]), y[part]].var(0)
    return Scores(values=values, measure="pass_variance", metadata=_counted(given))


def pass_disagreement(*, logits: Any = None, probs: Any = None) -> Scores:
    """1 - mean_t BC(p_t, pbar) over T stochastic passes, in 0..1, with the Bhattacharyya coefficient
    BC(p, q) = sum_c sqrt(p_c q_c) and pbar the mean of the passes. Seo et al. 2019, section 3.

    logits  [T, N, C] floating point, T at least 2, or
    probs   [T, N, C], each row of sum 1; one of the two
    """
    given = _passes(logits, probs)
    values = np.empty(given.num_samples, np.float32)
    for part, p in given.blocks():
        # 1 - BC is half the squared distance of the roots, whose digits it keeps
        apart = np.sqrt(p) - np.sqrt(p.mean(0))
        values[part] = (apart**2).sum(-1).mean(0) / 2
    return Scores(values=values, measure="pass_disagreement", metadata=_counted(given))


def _passes(logits: Any, probs: Any) -> Predictions:
    given = predictions(logits, probs, ("T", "N", "C"), axes=("pass", "row"))
    if len(given.values) < 2:
        raise ArgumentError(f"{given.name}: {len(given.values)} passes; there must be at least 2")
    return given


def _counted(given: Predictions) -> dict[str, str]:
    return {"passes": str(len(given.values))}


def _above(name: str, value: Any, bound: int, length: int | str) -> Array:
    array = widened(inputs.floats(name, value, (length,)))
    if (wrong := ~((array > bound) & (array < np.inf))).any():
        row = int(wrong.argmax())
        raise ArgumentError(f"{name}: {array[row]:g} at row {row}; must be finite and above {bound}")
    return array


def _finite(name: str, value: npt.NDArray[Any], start: int = 0) -> Array:
    array = widened(value)
    if not (fine := np.isfinite(array)).all():
        at = tuple(int(i) for i in np.argwhere(~fine)[0])
        place = [at[0] + start, *at[1:]]
        raise ArgumentError(f"{name}: {array[at]:g} at {place}; must be finite")
    return array


def _blocks(rows: int, each: int) -> list[slice]:
    step = max(1, BLOCK // each)
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]
