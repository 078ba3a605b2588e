"""Scores in, an order and a division of the samples out.

argsort.py      argsort: the stable order of importance, NaN last
ranking.py      rank: scores checked and put in order
values.py       Partition: which worker owns which samples, in which bins
moves.py        Moves: what changed hands between two partitions
partition.py    partition: Scores -> Partition, dispatching over policies/
capacity.py     how many samples unequal machines get
device.py       the same for scores that lie on a device: argsort, and divide as partition does
policies/       who owns the sample at each rank, one pure function a file
matching.py     group labels chosen so that least has to move
select.py       select: a part of the samples, by importance
samplers/       ids and weights for an epoch or a batch: a sampler or a method of select a file
place.py        place: which node each worker runs on
placing.py      how it finds out
distance.py     Kolmogorov-Smirnov distances of all workers at once
quality.py      quality: how alike the workers' shares are
checks.py       arguments that several verbs share
lookup.py       IdMap: sample id -> small integer
parquet.py      a Partition as a Parquet file, and back
"""
