"""What stands around a training loop.

schedule.py     Schedule: which epochs warm up, are observed, and end with a repartition
"""
