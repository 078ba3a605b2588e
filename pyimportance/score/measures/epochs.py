"""Measures over a sample's observations, from the running sums of a Dynamics.

Sources: Sheikholeslami 2023, importance-aware data-parallel training (DAIS). Toneva et al. 2019, An empirical
study of example forgetting. Swayamdipta et al. 2020, Dataset cartography. Chang et al. 2017, Active bias.
Paul et al. 2021, Deep learning on a data diet. Pleiss et al. 2020, Identifying mislabeled data using the area
under the margin ranking. Marion et al. 2023, When less is more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyimportance.score.dynamics import Dynamics
from pyimportance.score.history import mean_over
from pyimportance.score.measures import runs
from pyimportance.score.measures.registry import Array, builtin, epoch_numbers, flag, observed


@builtin("loss_mean", high="hard", needs=("loss",), runs=runs.of_observations)
def loss_mean(d: Dynamics) -> Array:
    """Mean loss. Sheikholeslami 2023 ("average")."""
    return d.mean("loss")


def _fallback(runs: Sequence[Dynamics], _: object) -> dict[str, str]:
    return (
        {}
        if any((run.count > 1).any() for run in runs)
        else {"fallback": "loss_mean: no sample was observed more than once"}
    )


@builtin("loss_variance", high="hard", needs=("loss",), notes=_fallback, runs=runs.of_variances)
def loss_variance(d: Dynamics) -> Array:
    """Variance of the loss, ddof = 1. Sheikholeslami 2023.

    Where no sample was observed more than once it is the mean loss instead (as in the paper's code), which
    the scores' metadata then says.
    """
    return d.variance("loss", ddof=1) if (d.count > 1).any() else d.mean("loss")


@builtin("forgetting", high="hard", needs=("correct",), runs=runs.of_forgetting)
def forgetting(d: Dynamics) -> Array:
    """How often the sample went from correct to wrong; +inf where it was never correct. Over several runs the
    sum, to which a run in which it was never correct adds its observations; +inf where it was in none. Toneva
    et al. 2019.
    """
    assert d.forgotten is not None
    assert d.correct is not None
    return observed(d, np.where(d.correct > 0, d.forgotten, np.inf))


@builtin("first_learned", high="hard", needs=("correct",), runs=None)
def first_learned(d: Dynamics) -> Array:
    """The first epoch, from 0, in which the sample was correct; +inf where none. Of one run. Toneva et al.
    2019.
    """
    assert d.first_learned is not None
    assert d.correct is not None
    return observed(d, np.where(d.correct > 0, d.first_learned, np.inf))


@builtin("unforgettable", high="settled", needs=("correct",), runs=runs.all_of)
def unforgettable(d: Dynamics) -> Array:
    """1 where the sample was learned and never forgotten after, in every run of several, else 0. Toneva et
    al. 2019.
    """
    assert d.forgotten is not None
    assert d.correct is not None
    return observed(d, (d.correct > 0) & (d.forgotten == 0))


@builtin("confidence", high="easy", needs=("p_true",), runs=runs.of_observations)
def confidence(d: Dynamics) -> Array:
    """Mean probability of the target. Swayamdipta et al. 2020."""
    return d.mean("p_true")


@builtin("variability", high="ambiguous", needs=("p_true",))
def variability(d: Dynamics) -> Array:
    """Standard deviation of the target's probability, ddof = 0. Swayamdipta et al. 2020."""
    return np.sqrt(d.variance("p_true", ddof=0))


@builtin("correctness", high="easy", needs=("correct",), fraction=flag, runs=runs.of_counts)
def correctness(d: Dynamics, fraction: bool = False) -> Array:
    """How often correct, 0 to E; ``fraction``: of the observations. Swayamdipta et al. 2020."""
    assert d.correct is not None
    return d.correct / observed(d, d.count if fraction else np.ones_like(d.count))


@builtin("threshold_closeness", high="ambiguous", needs=("p_true",), runs=runs.of_threshold)
def threshold_closeness(d: Dynamics) -> Array:
    """m (1 - m) of the mean probability m of the target. Chang et al. 2017; Swayamdipta et al. 2020."""
    return d.mean("p_true") * d.mean("p_false")


@builtin("prediction_variance", high="ambiguous", needs=("p_true",), least=2)
def prediction_variance(d: Dynamics) -> Array:
    """sqrt(v + v^2 / (E - 1)), v the variance of the target's probability. Chang et al. 2017."""
    v = d.variance("p_true", ddof=0)
    return np.sqrt(v + v * v / np.where(d.count > 1, d.observations - 1, np.nan))


@builtin(
    "el2n",
    high="hard",
    needs=("el2n",),
    besides={"epochs": "history"},
    runs=runs.of_observations,
    epochs=epoch_numbers,
)
def el2n(d: Dynamics, epochs: tuple[int, ...] | None = None) -> Array:
    """Mean of ||p - onehot(y)||_2, 0 to sqrt(2). Paul et al. 2021, who take some early epoch of several runs.

    ``epochs``: a range or list of the epochs to take, counted from the first that the dynamics cover; each
    weighs alike there. It needs a history.
    """
    if epochs is None:
        return d.mean("el2n")
    assert d.history is not None
    return mean_over(d.history, "el2n", epochs)


@builtin("aum", high="easy", needs=("margin",), runs=runs.of_observations)
def aum(d: Dynamics) -> Array:
    """Mean margin of the target's logit over the largest other; low: a suspect label. Pleiss et al. 2020."""
    return d.mean("margin")


@builtin("entropy", high="ambiguous", needs=("entropy",), runs=runs.of_observations)
def entropy(d: Dynamics) -> Array:
    """Mean entropy of the predicted distribution, in nats."""
    return d.mean("entropy")


@builtin("grand_last", high="hard", needs=("grand",), runs=runs.of_observations)
def grand_last(d: Dynamics) -> Array:
    """Mean norm of the gradient with respect to the last layer's weights and bias, ||p - onehot(y)||_2
    sqrt(1 + ||h||^2) for its input h. Paul et al. 2021 (GraNd, of the last layer).
    """
    return d.mean("grand")


@builtin("perplexity", high="rare", needs=("loss",), runs=runs.of_perplexity)
def perplexity(d: Dynamics) -> Array:
    """exp of the mean loss, which for a language model is the mean over its tokens. Marion et al. 2023."""
    return np.exp(d.mean("loss"))
