"""What to train on in an epoch or a batch, and with which weights, by rules built on scores.

Every epoch: ``sample(scores, epoch, seed=0) -> Draw``, a pure function; and ``count(num_samples, epoch)``,
how many that gives, None where the scores decide. A loader takes them: ``ImportanceDataset(sampler=...)``.

    ActiveSampling("SPV")   P ~ s + eps, s = prediction_variance       biased   Chang 2017
                  ("STC")   the same, s = threshold_closeness          biased
                  ("SD")    the same, s = 1 - confidence               biased
                  ("ISD")   SD with weight 1 / (N P)
                  ("SE")    the same, s = confidence                   biased
    ActiveWeighting("WPV")  all samples, w ~ s + eps, of mean 1;       biased   Chang 2017
                   ("WTC" "WD" "WE")  s as above
    InfoBatch               a share of those below the mean left out, the others up-weighted
                                                                                Qin 2024
    RS2                     a fresh uniform subset                              Okanovic 2024
    WeightedSampling        P ~ s + eps, with or without replacement, corrected Horvitz 1952
    Curriculum              the easy ones, more every epoch            biased   Platanios 2019

Every batch: ``sample(ids, numbers) -> Draw``, with a small state that can be saved.

    ImportanceSampling      P ~ a bound of the gradient's norm, weight 1 / (B P), where that pays
                                                                                Katharopoulos 2018
    SelectiveBackprop       P = CDF(loss) ** beta                      biased   Jiang 2019

Once: ``select(scores, fraction, method=...)``, biased as all fixed pruning is. It takes the rules above as
well where they go by scores alone ("isd", "infobatch"), for a number of samples that is given, and with
``weights=True`` gives a Draw.

    "ccs"                   equally many of all degrees, but the hardest        Zheng 2023
    "moderate"              the central ones, by median_distance                Xia 2023

Weights are 1 where nothing else is said. Samples without a score (NaN) are never lost: they count as average
(Active*), are always there (InfoBatch), or are the last to be taken (select). The same arguments give the
same ids on any machine and with any NumPy (chance.py).

draw.py         Draw: ids, weights, and whether they are biased
active.py       ActiveSampling, ActiveWeighting, batch_weights
infobatch.py    InfoBatch
rs2.py          RS2
weighted.py     WeightedSampling
curriculum.py   Curriculum
importance.py   ImportanceSampling
selective.py    SelectiveBackprop
ccs.py          the selection "ccs"
moderate.py     the selection "moderate", and median_distance
drawing.py      the selections that are the rules above
chance.py       random numbers that are the same everywhere
batches.py      checks of what is given for a batch, and of saved states
"""

from __future__ import annotations

from pyimportance.order.samplers.active import ActiveSampling, ActiveWeighting, batch_weights
from pyimportance.order.samplers.curriculum import Curriculum
from pyimportance.order.samplers.draw import Draw
from pyimportance.order.samplers.importance import ImportanceSampling
from pyimportance.order.samplers.infobatch import InfoBatch
from pyimportance.order.samplers.moderate import median_distance
from pyimportance.order.samplers.rs2 import RS2
from pyimportance.order.samplers.selective import SelectiveBackprop
from pyimportance.order.samplers.weighted import WeightedSampling

__all__ = [
    "RS2",
    "ActiveSampling",
    "ActiveWeighting",
    "Curriculum",
    "Draw",
    "ImportanceSampling",
    "InfoBatch",
    "SelectiveBackprop",
    "WeightedSampling",
    "batch_weights",
    "median_distance",
]
