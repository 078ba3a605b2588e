"""Jobs that are killed with SIGKILL in the middle of an epoch, and go on in another shape: nothing is lost or
doubled. 200 kills, 15 of them in the fast set."""

import json
import os
import signal
from collections import Counter

import numpy as np
import pytest
from torch.utils.data import DataLoader

from pyimportance import ImportanceDataset, samplers
from tests.forked import CONTEXT

KILLS, FAST, JOBS = 200, 15, 3  # and so many jobs that each of them goes through
COUNTS, BINS = (83, 70, 90, 81), 3
OPTIONS = (
    {},
    {"mix": "sequential"},
    {"keep": 0.6},
    {"shuffle": False},
    {"sampler": samplers.RS2(0.7)},
    {"sampler": samplers.InfoBatch(9)},
    {"mix": [1.5, 1, 0.5]},
)


def job(root, log, shape, epoch, state):
    """All ranks of a job in step, in this process. A line of the log is a step of the training: what ranks
    were given, and the state that is saved after it. It is killed before or after it saves a step.
    """
    options, world, B, (processes, method, persistent), die_after = shape
    ranks = [
        ImportanceDataset(root, rank=r, world_size=world, batch_size=B, elastic=True, seed=5, **options)
        for r in range(world)
    ]
    how = {"multiprocessing_context": method, "persistent_workers": persistent} if processes else {}
    loaders = [DataLoader(d, batch_size=B, num_workers=processes, collate_fn=list, **how) for d in ranks]
    if persistent:  # its processes have read another epoch before
        for data in ranks:
            data.set_epoch(epoch + 1)
        assert len(list(zip(*loaders, strict=True))) == len(loaders[0])
    for data in ranks:
        data.set_epoch(epoch)
        if state is not None:
            data.load_state_dict(state)
    with open(log, "a") as file:
        for step, batches in enumerate(zip(*loaders, strict=True), 1):
            given = [(s["__index__"], s["__weight__"]) for b in batches for s in b if not s["__pad__"]]
            states = [data.state_dict(batches=step) for data in ranks]
            assert all(s == states[0] for s in states)
            if step * 2 + 1 == die_after:
                os.kill(os.getpid(), signal.SIGKILL)
            file.write(json.dumps([given, states[0]]) + "\n")
            file.flush()
            if step * 2 == die_after:
                os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    "seed", [pytest.param(n, marks=[] if n < FAST else pytest.mark.slow) for n in range(KILLS)]
)
def test_killed_and_resumed(shard_set, tmp_path, seed):
    shards, _ = shard_set(COUNTS, BINS)
    r = np.random.default_rng(seed)
    options, epoch = OPTIONS[seed % len(OPTIONS)], int(r.integers(0, 5))
    state, given, log = None, Counter(), tmp_path / "log"
    for number in range(JOBS):
        world, B = int(r.integers(1, 7)), int(r.integers(1, 24))
        processes = int(r.integers(1, 4)) if seed % 8 == 0 else 0
        spawned = seed % 40 == 16
        if spawned:  # each of which takes seconds to begin
            world, processes = min(world, 2), 1
        how = processes, "spawn" if spawned else "fork", seed % 16 == 8
        steps = -(-sum(COUNTS) // (world * B))
        die_after = int(r.integers(2, 2 * steps + 2)) if number < JOBS - 1 else 0
        log.unlink(missing_ok=True)
        process = CONTEXT.Process(
            target=job, args=(shards.root, log, (options, world, B, how, die_after), epoch, state)
        )
        process.start()
        process.join(240)
        assert process.exitcode in ((-signal.SIGKILL, 0) if die_after else (0,))
        for line in log.read_text().splitlines():
            some, state = json.loads(line)
            given.update(map(tuple, some))
    whole = ImportanceDataset(shards, rank=0, world_size=1, seed=5, **options)
    whole.set_epoch(epoch)
    assert given == Counter((s["__index__"], s["__weight__"]) for s in whole)
