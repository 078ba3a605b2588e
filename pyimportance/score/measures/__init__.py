"""The measures: Dynamics -> one score per sample.

registry.py   what a measure is, and those there are by name
scoring.py    measures(): their names; score(): one of them applied
epochs.py     over a sample's observations, from running sums: means, variances, counts
latest.py     of a sample's latest observation
given.py      beside losses of the same samples from elsewhere: rho, ifd
history.py    on how its numbers went, in windows of epochs: from a history
runs.py       what a measure comes to over several runs
own.py        users' own: @measure on a function of one sample's history or logits
compiled.py   such a function compiled, and what is said when it fails

A measure is one short expression over what was recorded. Samples never observed, or observed too few times
for it, come out as NaN.
"""

from pyimportance.score.measures import epochs as epochs
from pyimportance.score.measures import given as given
from pyimportance.score.measures import history as history
from pyimportance.score.measures import latest as latest
from pyimportance.score.measures.own import measure as measure
from pyimportance.score.measures.own import score_logits as score_logits
from pyimportance.score.measures.scoring import measures as measures
from pyimportance.score.measures.scoring import score as score
