"""Active bias: draw samples, or weigh their losses, by how uncertain, hard or easy they have been.

Chang, Learned-Miller and McCallum 2017, Active bias: training more accurate neural networks by emphasizing
high variance samples, section 3. With s a sample's uncertainty (or difficulty, or easiness) and eps the mean
of s over the data set, which keeps every sample in play:

    drawing     P ~ s + eps          SPV, STC, SD, SE; ISD is SD with the weight 1 / (N P), which corrects it
    weighing    w ~ s + eps          WPV, WTC, WD, WE; scaled so that the mean over each batch is 1

    PV: s = prediction_variance    TC: s = threshold_closeness    D: s = 1 - confidence    E: s = confidence

A sample that has no score yet (NaN) counts as average, s = eps. In the first epochs, the burn-in, scores mean
little: every sample is there once, with weight 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from pyimportance.checks import check_fraction, check_integer
from pyimportance.errors import ArgumentError
from pyimportance.order.checks import check_scores, part_of
from pyimportance.order.samplers.chance import Chance, Floats, corrections, raised, total
from pyimportance.order.samplers.draw import Draw
from pyimportance.score import inputs
from pyimportance.score.values import Scores

_MEASURES = {
    "PV": "prediction_variance",
    "TC": "threshold_closeness",
    "D": "confidence",
    "E": "confidence",
}
DRAWING = ("SPV", "STC", "SD", "ISD", "SE")
WEIGHING = ("WPV", "WTC", "WD", "WE")


@dataclass(frozen=True)
class ActiveSampling:
    """Draw by ``rule``, one of DRAWING, with replacement: as many samples as a fraction of all there are.

    burn_in   epochs, from 0, in which the draw is uniform and without replacement
    fraction  0..1: floor(fraction * N + 1/2) samples an epoch

    ISD is not biased, nor is the burn-in. The others are: that is the method. Their weights are 1.
    """

    rule: str
    burn_in: int = 0
    fraction: float = 1.0
    compares: ClassVar[bool] = True  # eps and N P are of all samples, whoever holds them (load/choosing.py)

    def __post_init__(self) -> None:
        _check_rule(self.rule, DRAWING)
        check_integer("burn_in", self.burn_in, 0)
        check_fraction("fraction", self.fraction)

    def count(self, num_samples: int, epoch: int) -> int:
        """How many samples an epoch has: a function of N alone."""
        return part_of(self.fraction, num_samples)

    def sample(self, scores: Scores, epoch: int, seed: int = 0) -> Draw:
        """The epoch's samples, in the order drawn.

        scores  of the measure that the rule names, or "custom" values of the same kind
        """
        ids, N = check_scores(scores).sample_ids(), scores.num_samples
        count, chance = part_of(self.fraction, N), Chance(self.rule, seed, epoch)
        if epoch < self.burn_in:
            return Draw.plain(ids[chance.permutation(N)[:count]], biased=False)
        mass = smoothed(scores, self.rule)
        drawn = chance.replacing(mass, count) if N else np.empty(0, np.int64)
        if self.rule != "ISD":
            return Draw.plain(ids[drawn], biased=True)
        return Draw(ids[drawn], corrections(mass, drawn).astype(np.float32), biased=False)


@dataclass(frozen=True)
class ActiveWeighting:
    """Weigh by ``rule``, one of WEIGHING: every sample is there once an epoch, with a weight of its own.

    burn_in  epochs, from 0, in which all weights are 1

    Biased (after the burn-in): that is the method.
    """

    rule: str
    burn_in: int = 0
    compares: ClassVar[bool] = True
    per_batch: ClassVar[bool] = True  # a loader that makes batches gives them to `batch_weights`

    def __post_init__(self) -> None:
        _check_rule(self.rule, WEIGHING)
        check_integer("burn_in", self.burn_in, 0)

    def count(self, num_samples: int, epoch: int) -> int:
        """How many samples an epoch has: all."""
        return num_samples

    def sample(self, scores: Scores, epoch: int, seed: int = 0) -> Draw:
        """All samples in random order; the mean of their weights is 1. Batches go through `batch_weights`,
        which ImportanceDataset(batched=True) does.

        scores  of the measure that the rule names, or "custom" values of the same kind
        """
        ids = check_scores(scores).sample_ids()
        shuffled = Chance(self.rule, seed, epoch).permutation(ids.size)
        if epoch < self.burn_in:
            return Draw.plain(ids[shuffled], biased=False)
        mass = smoothed(scores, self.rule)[shuffled]
        return Draw(ids[shuffled], batch_weights(mass), biased=True)


def batch_weights(weights: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """float32 [B]: the weights of a batch scaled so that their mean is 1, as Chang's rules want it.

    Zero weights throughout become ones. ArgumentError for other than finite numbers >= 0 [B].
    """
    given = inputs.floats("weights", weights, ("B",)).astype(np.float64)
    if (wrong := ~(np.isfinite(given) & (given >= 0))).any():
        at = int(wrong.argmax())
        raise ArgumentError(f"weights: {given[at]} at position {at}; must be finite and >= 0")
    if not given.any():
        return np.ones(given.size, np.float32)
    scaled = given / given.max()
    mean_one: Floats = scaled / (total(scaled) / scaled.size)
    return mean_one.astype(np.float32)


def _check_rule(rule: str, allowed: tuple[str, ...]) -> None:
    if rule not in allowed:
        raise ArgumentError(f"rule={rule!r}: must be one of {', '.join(allowed)}")


def smoothed(scores: Scores, rule: str) -> Floats:
    """s + eps, float64 [N]; ones where all of it would be zero."""
    kind = rule[2:] if rule.startswith("IS") else rule[1:]
    measure = _MEASURES[kind]
    if scores.measure not in (measure, "custom"):
        raise ArgumentError(f"scores: of {scores.measure}; rule {rule} needs those of {measure}")
    s = scores.values.astype(np.float64)
    largest = 1.0 if measure == "confidence" else np.inf
    if (wrong := (s < 0) | (s > largest) | np.isinf(s)).any():
        at = int(wrong.argmax())
        allowed = "within 0..1" if measure == "confidence" else "finite and >= 0"
        sample = scores.sample_ids()[at]
        raise ArgumentError(f"scores: {s[at]} for sample {sample}; rule {rule} needs them {allowed}")
    return raised(1 - s if kind == "D" else s)
