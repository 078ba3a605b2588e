"""Label quality: how well a sample's label fits what a model says that was not trained on it.

Low is suspect, and the more important end. The formulas stand here once, for given predictions
(`label_quality`) and for the latest observation of a training run (measures/latest.py).

Sources: the label quality scores of cleanlab. Northcutt et al. 2021, Confident learning. Kuan and Mueller
2022, Model-agnostic label quality scoring to detect real-world label errors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError
from pyimportance.score import inputs
from pyimportance.score.predictions import Array, entropy, predictions
from pyimportance.score.values import Scores

LABEL_MEASURES = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")
_LEAST = 1e-6


def normalized_margin(prob_margin: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(p_y - max of the other p + 1) / 2, in 0..1."""
    return (prob_margin + 1.0) / 2.0


def confidence_weighted_entropy(
    p_true: npt.NDArray[Any], entropies: npt.NDArray[Any], classes: int
) -> npt.NDArray[Any]:
    """ln(r + 1) / max(r, 1e-6) with r = (H / ln C) / max(p_y, 1e-6), C at least 2.

    It falls from 1 as r grows; below r = 1e-6 the bound in the denominator, cleanlab's, takes it to 0.
    """
    ratio = entropies / np.log(classes) / np.maximum(p_true, _LEAST)
    weighted: npt.NDArray[Any] = np.log1p(ratio) / np.maximum(ratio, _LEAST)
    return weighted


def label_quality(
    targets: Any,
    *,
    logits: Any = None,
    probs: Any = None,
    temperature: float = 1.0,
    measure: str = "self_confidence",
) -> Scores:
    """One score per sample from out-of-sample predictions (a cross-validation's: `Ensemble.mean_probs`).

    targets      [N] integers 0..C-1, the labels as given
    logits       [N, C] floating point, C at least 2, or
    probs        [N, C], each row of sum 1; one of the two
    temperature  of the logits (`fit_temperature`)
    measure      "self_confidence"              p_y
                 "normalized_margin"            (p_y - max of the other p + 1) / 2
                 "confidence_weighted_entropy"  ln(r + 1) / max(r, 1e-6), r = (H / ln C) / max(p_y, 1e-6)

    Raises ArgumentError, naming argument, row and class, for what is not as described.
    """
    if measure not in LABEL_MEASURES:
        raise ArgumentError(f"measure={measure!r}: must be one of {', '.join(LABEL_MEASURES)}")
    given = predictions(logits, probs, ("N", "C"), temperature=temperature)
    if given.num_classes < 2:
        raise ArgumentError(f"{given.name}: 1 class; there must be at least 2")
    y = inputs.class_numbers("targets", targets, given.num_samples, given.num_classes)
    values = np.empty(given.num_samples, np.float32)
    for part, p in given.blocks():
        values[part] = _quality(measure, p, y[part])
    return Scores(values=values, measure=measure, descending=False)


def _quality(measure: str, p: Array, y: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    rows = np.arange(len(p))
    p_true = p[rows, y]
    if measure == "self_confidence":
        return p_true
    if measure == "confidence_weighted_entropy":
        return confidence_weighted_entropy(p_true, entropy(p), p.shape[1])
    p[rows, y] = -np.inf
    return normalized_margin(p_true - p.max(1))
