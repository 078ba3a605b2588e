"""What was read, and what a plain loader would have read: reports of what :mod:`pyimportance.io` counted.

report.py     IOReport: bytes and requests by tier and rank, beside named baselines
baselines.py  VanillaDataset: the global reshuffle every plain loader does, really read through the same meter
"""
