"""The feedback inside a training loop.

schedule.py    Schedule: which epochs warm up, are observed, and end with a repartition
observer.py    Observer: what a training loop calls, and what that cost
checks.py      settings that would fail after the warm-up fail before it
recipe.py      what a saved state and the controller that loads it have in common
controller.py  Controller: observe -> score -> partition -> repartition as the schedule says
frameworks.py  Accelerate and the Trainer of Transformers, kept from dividing data twice
batchnorm.py   pool_batchnorm: one set of BatchNorm statistics from all ranks'
"""
