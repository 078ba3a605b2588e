"""The feedback inside a training loop.

schedule.py    Schedule: which epochs warm up, are observed, and end with a repartition
controller.py  Controller: observe -> score -> partition -> repartition as the schedule says
batchnorm.py   pool_batchnorm: one set of BatchNorm statistics from all ranks'
"""
