"""Who owns the sample at each rank (rank 0: the most important). One pure function a file:

    assign(task, **options) -> int32 [N], the owner of the sample at each rank

task.py     Task, what is asked: samples by rank, workers, who holds what, sizes, counts
turns.py    dealing in turn, evenly or by counts: what most of them are made of
random.py   a seeded permutation dealt in turn
stripes.py  dealt in turn by rank
blocks.py   a run of consecutive ranks each
snake.py    dealt in turn, the direction reversed each round
sticky.py   equal shares of every stratum of ranks, keeping what each worker holds
tolerance.py as little moved as a distance between the workers' scores and all allows
keep.py     given the shares of strata, the most bytes stay where they are
balanced.py equal numbers and nearly equal bytes
classes.py  any of them inside each class
registry.py the names above, with their options
"""
