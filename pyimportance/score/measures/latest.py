"""Measures of a sample's latest observation, kept in float32.

Sources: Katharopoulos and Fleuret 2018, Not all samples are created equal. The label quality scores of
cleanlab: Northcutt et al. 2021, Confident learning; Kuan and Mueller 2022, Model-agnostic label quality
scoring.
"""

from __future__ import annotations

from pyimportance.score import labels
from pyimportance.score.dynamics import Dynamics
from pyimportance.score.measures import runs
from pyimportance.score.measures.registry import Array, at_least, builtin, flag


@builtin("grad_norm_bound", high="hard", needs=("el2n",), runs=runs.of_observations, latest=flag)
def grad_norm_bound(d: Dynamics, latest: bool = False) -> Array:
    """Mean bound of the norm of the gradient with respect to the last layer's input, or the ``latest`` one:
    for softmax and cross-entropy it is ||p - onehot(y)||_2. Katharopoulos and Fleuret 2018.
    """
    return d.latest("el2n") if latest else d.mean("el2n")


@builtin("self_confidence", high="clean", needs=("loss",))
def self_confidence(d: Dynamics) -> Array:
    """The target's probability at the latest observation; low: a suspect label. cleanlab."""
    return d.latest("p_true")


@builtin("normalized_margin", high="clean", needs=("loss", "margin"))
def normalized_margin(d: Dynamics) -> Array:
    """(p_y - max of the other p + 1) / 2 at the latest observation; low: a suspect label. cleanlab."""
    return labels.normalized_margin(d.latest("prob_margin"))


@builtin(
    "confidence_weighted_entropy",
    high="clean",
    needs=("loss", "entropy", "classes"),
    classes=at_least(2, or_none=True),
)
def confidence_weighted_entropy(d: Dynamics, classes: int | None = None) -> Array:
    """ln(r + 1) / max(r, 1e-6), r = (H / ln C) / max(p_y, 1e-6), at the latest observation, H the entropy and
    C = ``classes``, at least 2, by default as many as the logits had; low: a suspect label. cleanlab.
    """
    known = classes if classes is not None else d.classes
    assert known is not None  # one of the two is, as the measure needs it
    return labels.confidence_weighted_entropy(d.latest("p_true"), d.latest("entropy"), known)
