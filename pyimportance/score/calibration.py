"""Calibration before scoring: the temperature to divide logits by, and how far confidence is from accuracy.

    T = fit_temperature(validation_logits, validation_targets)
    ensemble.add(logits=logits, temperature=T)

Sources: Guo et al. 2017, On calibration of modern neural networks. Kumar et al. 2019, Verified uncertainty
calibration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyimportance.checks import check_integer
from pyimportance.errors import ArgumentError
from pyimportance.score import inputs
from pyimportance.score.predictions import Array, Predictions, predictions

_LOG_BOUND = 690.0  # e^690 and e^-690 are doubles


def fit_temperature(logits: Any, targets: Any) -> float:
    """The T > 0 for which softmax(logits / T) has the least mean negative log-likelihood. Guo et al. 2017.

    logits   [N, C] floating point, of samples that were not trained on; -inf is a probability of 0
    targets  [N] integers 0..C-1

    The likelihood is convex in 1/T, and T is where its slope is 0: there the mean loss is the mean entropy.
    Raises ArgumentError where an argument is not as described, and where there is no such T: with every
    target the largest logit of its row (the smaller T, the better), with logits that tell less than nothing
    of the targets (the larger, the better), and with a target of probability 0.
    """
    given = predictions(logits, None, ("N", "C"))
    y = inputs.class_numbers("targets", targets, given.num_samples, given.num_classes)
    _check_identifiable(given, y)
    low = high = 0.0  # log(1/T), between which the slope changes its sign
    while _slope(given, y, low) >= 0 and low > -_LOG_BOUND:
        low -= 2.0
    while _slope(given, y, high) <= 0 and high < _LOG_BOUND:
        high += 2.0
    from scipy.optimize import brentq

    return float(np.exp(-brentq(lambda log: _slope(given, y, log), low, high, xtol=1e-12)))


def _slope(given: Predictions, y: npt.NDArray[np.int64], log_sharpness: float) -> float:
    """Of the mean loss by b = 1/T: the mean of E_p[z] - z_y, p = softmax(b z). It rises with b."""
    total = 0.0
    for part, z in given.shifted_logits():
        np.maximum(z, -1e300, out=z)  # of probability 0 all the same, and 0 times it is 0
        target = z[np.arange(len(z)), y[part]]
        p = np.exp(np.exp(log_sharpness) * z)
        total += float(((p * z).sum(-1) / p.sum(-1) - target).sum())
    return total / given.num_samples


def _check_identifiable(given: Predictions, y: npt.NDArray[np.int64]) -> None:
    if not given.num_samples:
        raise ArgumentError("logits: no row; a temperature needs some")
    below = flat = 0.0  # how far targets are below the largest, and below the mean
    for part, z in given.shifted_logits():
        target = z[np.arange(len(z)), y[part]]
        if np.isinf(target).any():
            row = part.start + int(np.isinf(target).argmax())
            raise ArgumentError(f"logits: -inf at row {row} for its target; its loss is infinite at any T")
        below -= float(target.sum())
        finite = z > -np.inf
        flat += float((np.where(finite, z, 0).sum(-1) / finite.sum(-1) - target).sum())
    if below == 0:
        raise ArgumentError(
            "logits: every target has the largest of its row, and the loss falls as T goes to 0: "
            "no temperature is best; must be of samples of which some are wrong"
        )
    if flat >= 0:
        raise ArgumentError(
            "logits: targets have no more than the mean of their row, and the loss falls as T goes to "
            "infinity: no temperature is best; do the targets belong to these logits?"
        )


@dataclass(frozen=True, eq=False)
class Calibration:
    """Confidence and accuracy by bins of confidence, and what they differ by.

    count       int64 [bins] samples n_b; bin b holds confidences in (b / bins, (b + 1) / bins]
    confidence  float64 [bins], mean in the bin (NaN: empty)
    accuracy    float64 [bins], likewise
    """

    count: npt.NDArray[np.int64]
    confidence: Array
    accuracy: Array

    @property
    def ece(self) -> float:
        """Expected calibration error: sum_b n_b/N |confidence - accuracy|. Guo et al. 2017."""
        return self._weighted(np.abs(self.confidence - self.accuracy))

    @property
    def squared_error(self) -> float:
        """Debiased: sum_b n_b/N [(confidence - accuracy)^2 - accuracy (1 - accuracy) / (n_b - 1)].

        What is subtracted is the part that chance has in the square; the estimate can be below 0. A bin of
        one sample shows no spread to estimate it by, and nothing is subtracted there: its accuracy is 0 or 1.
        Kumar et al. 2019.
        """
        chance = self.accuracy * (1 - self.accuracy) / np.maximum(self.count - 1, 1)
        return self._weighted((self.confidence - self.accuracy) ** 2 - chance)

    def _weighted(self, values: Array) -> float:
        there = self.count > 0
        return float(np.average(values[there], weights=self.count[there]))


def calibration(
    targets: Any, *, logits: Any = None, probs: Any = None, temperature: float = 1.0, bins: int = 15
) -> Calibration:
    """How far the confidence of predictions, the largest probability, is from their accuracy.

    targets      [N] integers 0..C-1
    logits       [N, C], or
    probs        [N, C], each row of sum 1; one of the two
    temperature  of the logits (`fit_temperature`)
    bins         of equal width, (lo, hi]

    Raises ArgumentError where an argument is not as described.
    """
    given = predictions(logits, probs, ("N", "C"), temperature=temperature)
    y = inputs.class_numbers("targets", targets, given.num_samples, given.num_classes)
    edges = np.linspace(0, 1, check_integer("bins", bins, 1) + 1)
    if not given.num_samples:
        raise ArgumentError(f"{given.name}: no row; a calibration error needs some")
    sums = np.zeros((3, bins))  # samples, confidence, right ones
    for part, p in given.blocks():
        top = p.argmax(-1)
        confidence = p[np.arange(len(p)), top]
        at = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
        for i, weights in enumerate((None, confidence, top == y[part])):
            sums[i] += np.bincount(at, weights, bins)
    count = sums[0].astype(np.int64)
    means = np.full((2, bins), np.nan)
    np.divide(sums[1:], count, out=means, where=count > 0)
    return Calibration(count, means[0], means[1])
