"""Who owns the sample at each rank (rank 0: the most important). One pure function a file:

    assign(order, workers, seed, current, **options) -> int32 [N], the owner of the sample at each rank

order    int64 [N], the position (ascending sample id) of the sample at each rank
workers  >= 1
seed     >= 0
current  int32 [N], who holds the sample at each rank now, -1 nobody; None: nobody holds anything

random.py   a seeded permutation dealt in turn
stripes.py  dealt in turn by rank
blocks.py   a run of consecutive ranks each
snake.py    dealt in turn, the direction reversed each round
sticky.py   equal shares of every stratum of ranks, keeping what each worker holds
registry.py the names above, with their options
"""
