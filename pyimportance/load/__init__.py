"""Shards -> batches: each rank reads its own workers' shards, all ranks get equally many batches.

merge.py    several lists merged in proportion to their lengths, and any part of the merge on its own
plan.py     the sequence one worker yields in an epoch: a function of (generation, seed, epoch, worker)
deal.py     who gets what of it: ranks, rounds, batches, loader processes, padding
ahead.py    windows of planned rows, read by native threads ahead of whoever consumes them
reader.py   what a worker holds, and its sequence of samples
batch.py    samples -> a batch, for batched=True
shared.py   what the training process and its loader processes share: epoch, generation, position, counts
mapped.py   memory that processes share
state.py    the position of a loader as a small dict, checked when it comes back
rank.py     which rank of how many this process is, and whether its share stays so
tars.py     tars that were not written by us, as the shards of one worker; and some parts alone
dataset.py  ImportanceDataset: all of it as a torch IterableDataset

The first three are pure NumPy and know neither files nor torch.
"""
