"""Jobs that are killed with SIGKILL in the middle of an epoch, and go on in another shape: nothing is lost or
doubled. 240 jobs of two kills each, 15 of them in the fast set."""

import json
import os
import shutil
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pytest
from torch.utils.data import DataLoader

from pyimportance import ImportanceDataset, ShardSet, WebDataset, samplers
from tests.forked import CONTEXT

JOBS, FAST, LEGS = 240, 15, 3  # and so many legs that each job goes through
COUNTS, BINS, DAMAGED = (83, 70, 90, 81), 3, 5
RS2, INFOBATCH = samplers.RS2(0.7), samplers.InfoBatch(9)


def same(sample):
    return sample


def skip(error):
    return True


# What is read by what: `open_` says what each of these is.
KINDS = (
    ("shards", {}),
    ("shards", {"mix": "sequential"}),
    ("shards", {"keep": 0.6, "batched": True}),
    ("tars", {"shuffle": 50, "map": same}),
    ("shards", {"sampler": RS2}),
    ("web", {"shuffle": 20, "map": same, "equalize": "drop"}),
    ("shards", {"batched": True, "equalize": "batch"}),
    ("damaged", {"on_error": "skip"}),
    ("shards", {"sampler": INFOBATCH}),
    ("tars", {"batched": True, "map": same}),
    ("shards", {"mix": [1.5, 1, 0.5], "batched": True}),
    ("web damaged", {"handler": skip, "shuffle": 20}),
    ("shards", {"shuffle": False, "equalize": "drop"}),
    ("web", {"shuffle": 20, "batched": True, "sampler": RS2}),
    ("tars", {"shardshuffle": True, "equalize": "drop"}),
)


@dataclass
class Leg:
    """A shape of job. ``alone``: each rank is a process of its own, killed with its loader processes at
    some moment, a step or not; else all ranks are in step in one process, killed before or after it saves
    step ``die_after`` / 2; 0: not at all."""

    world: int
    B: int
    processes: int
    method: str
    persistent: bool
    alone: bool
    die_after: int


def open_(kind, source, options, B, **place):
    """A data set of shards or, by WebDataset, of them or of tars; batches of B are made in it or outside."""
    options = dict(options)
    batched, place = options.pop("batched", False), {"elastic": True, "seed": 5, **place}
    if kind in {"shards", "damaged"}:
        return ImportanceDataset(source, batch_size=B, batched=batched, **options, **place)
    shuffle, function = options.pop("shuffle", 0), options.pop("map", None)
    dataset = WebDataset(source, batch_size=None if batched else B, **options, **place)
    dataset = dataset.shuffle(shuffle) if shuffle else dataset
    dataset = dataset.map(function) if function else dataset
    return dataset.batched(B, None) if batched else dataset


def rows(batch, weighed):
    """(id, weight) of its samples but for pads."""
    names = "__index__", "__weight__", "__pad__"
    if isinstance(batch, dict):
        columns = [batch[name].tolist() for name in names]
    else:
        columns = [[sample[name] for sample in batch] for name in names]
    samples = zip(*columns, strict=True)
    return [(i, weight if weighed else 1) for i, weight, pad in samples if not pad]


def job(what, leg, ranks, log, begin):
    """Some ranks of a job, in step, in this process. A line of the log is a step of the training: what these
    ranks were given, and the state that is saved after it."""
    (kind, source, options), (epoch, state) = what, begin
    if leg.alone:
        os.setsid()  # to be killed with its loader processes
    datasets = [open_(kind, source, options, leg.B, rank=r, world_size=leg.world) for r in ranks]
    how = {"num_workers": leg.processes, "collate_fn": same}
    if leg.processes:
        how |= {"multiprocessing_context": leg.method, "persistent_workers": leg.persistent}
    size = None if options.get("batched") else leg.B
    loaders = [DataLoader(dataset, batch_size=size, **how) for dataset in datasets]
    if leg.persistent:  # its processes have read another epoch before
        for dataset in datasets:
            dataset.set_epoch(epoch + 1)
        assert len(list(zip(*loaders, strict=True))) == len(loaders[0])
    for dataset in datasets:
        dataset.set_epoch(epoch)
        if state is not None:
            dataset.load_state_dict(state)
    weighed = options.get("equalize") != "batch"
    with open(log, "a") as file:
        file.write(f"{sum(len(dataset) for dataset in datasets)}\n")
        for step, batches in enumerate(zip(*loaders, strict=True), 1):
            given = [row for batch in batches for row in rows(batch, weighed)]
            states = [dataset.state_dict(batches=step) for dataset in datasets]
            assert all(s == states[0] for s in states)
            if not leg.alone and step * 2 + 1 == leg.die_after:
                os.kill(os.getpid(), signal.SIGKILL)
            file.write(json.dumps([given, states[0]]) + "\n")
            file.flush()
            if not leg.alone and step * 2 == leg.die_after:
                os.kill(os.getpid(), signal.SIGKILL)
            if leg.alone and leg.die_after:
                time.sleep(0.002)


def run(what, leg, folder, begin):
    """What was given until the last step that all ranks saved, their state then, and the sum of lengths."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    places = [[r] for r in range(leg.world)] if leg.alone else [range(leg.world)]
    logs = [folder / f"{n}.log" for n in range(len(places))]
    processes = [
        CONTEXT.Process(target=job, args=(what, leg, ranks, log, begin))
        for ranks, log in zip(places, logs, strict=True)
    ]
    for process in processes:
        process.start()
    if leg.alone and leg.die_after:
        while processes[-1].is_alive() and len(lines(logs[-1])) <= leg.die_after // 2:
            time.sleep(0.001)
        for process in processes:  # in the midst of what each of them does
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    for process in processes:
        process.join(240)
        assert process.exitcode in ((-signal.SIGKILL, 0) if leg.die_after else (0,))
    steps = [lines(log) for log in logs]
    saved = min(map(len, steps))
    given, state = Counter(), begin[1]
    for some in steps:
        for samples, after in some[1:saved]:
            given.update(map(tuple, samples))
            state = after
    return given, state, sum(sum(some[:1]) for some in steps)


def lines(log):
    """Those that were written to their end."""
    text = log.read_text() if log.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


@pytest.fixture
def source_of(shard_set, write_tar, tmp_path):
    def get(kind):
        shards, parts = shard_set(COUNTS, BINS)
        if kind == "tars":
            for n, first in enumerate(np.cumsum([0, *COUNTS[:-1]]).tolist()):
                some = range(first, first + COUNTS[n])
                write_tar(tmp_path / f"{n}.tar", [(f"s{i:06d}", parts[i]) for i in some])
            return str(tmp_path / "{0..3}.tar")
        if "damaged" not in kind:
            return shards.root
        shutil.copytree(shards.root, tmp_path / "set")
        for w in range(len(COUNTS)):
            index = ShardSet.open(tmp_path / "set").index(w)
            for row in range(w, DAMAGED * 10, 40):
                with open(index.files[index.file[row]], "r+b") as file:
                    file.seek(int(index.offset[row]))
                    file.write(b"?")
        return str(tmp_path / "set")

    return get


@pytest.mark.parametrize(
    "seed", [pytest.param(n, marks=[] if n < FAST else pytest.mark.slow) for n in range(JOBS)]
)
def test_killed_and_resumed(source_of, tmp_path, seed):
    r = np.random.default_rng(seed)
    kind, options = KINDS[seed % len(KINDS)]
    what, epoch = (kind, source_of(kind), options), int(r.integers(0, 5))
    alone, spawned = seed % 8 == 3, seed % 40 == 13
    state, given, whole = None, Counter(), Counter()
    for number in range(LEGS):
        world, B = int(r.integers(1, 7)), int(r.integers(1, 24))
        processes = int(r.integers(1, 4)) if seed % 4 == 0 or seed % 16 == 11 else 0
        if spawned:  # each of which takes seconds to begin
            world, processes = min(world, 2), int(number == 1)
        if options.get("equalize") == "batch":
            B = max(B, world)  # a sample for each rank
        steps = -(-sum(COUNTS) // (world * B))
        leg = Leg(
            world=min(world, 3) if alone else world,
            B=B,
            processes=processes,
            method="spawn" if spawned else "fork",
            persistent=seed % 8 == 4 and processes > 0,
            alone=alone,
            die_after=int(r.integers(2, 2 * steps + 2)) if number < LEGS - 1 else 0,
        )
        before = given.total()
        some, state, declared = run(what, leg, tmp_path / "logs", (epoch, state))
        given += some
        if state is not None and state["epoch"] > epoch:  # of a WebDataset that has read all
            break
    plain = {**options, "equalize": "pad", "batched": False}
    dataset = open_(kind, what[1], plain, 1, rank=0, world_size=1)
    dataset.set_epoch(epoch)
    whole.update(rows(list(dataset), options.get("equalize") != "batch"))
    if options.get("equalize") == "drop":  # what is left in the end, as is known when the last leg begins
        assert not given - whole
        assert some.total() == declared
        assert (whole - given).total() == whole.total() - before - declared
    else:
        assert given == whole
    if "damaged" in kind:
        assert 0 < sum(COUNTS) - len(whole) < 20
