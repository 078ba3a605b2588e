"""Shards -> batches: each rank reads its own workers' shards, all ranks get equally many batches.

merge.py    several lists merged in proportion to their lengths, and any part of the merge on its own
plan.py     the sequence one worker yields in an epoch: a function of (generation, seed, epoch, worker)
deal.py     who gets what of it: ranks, rounds, batches, loader processes, padding
ahead.py    windows of planned rows, read by native threads ahead of whoever consumes them
holding.py  what a worker holds, and the rows of its sequence
reader.py   those rows as samples or batches
fields.py   parts of one size that batches get as arrays
sending.py  how loader processes send them: through memory, and not through a pipe
making.py   how samples are handed over, and what is done with those in error
batch.py    a batch that is being filled
shared.py   what the training process and its loader processes share: epoch, generation, position, counts
mapped.py   memory that processes share
state.py    the position of a loader as a small dict, checked when it comes back
rank.py     which rank of how many this process is, and whether its share stays so
tars.py     tars that were not written by us, as the shards of one worker; and some parts alone
dataset.py  ImportanceDataset: all of it as a torch IterableDataset

The first three are pure NumPy and know neither files nor torch.
"""
