"""1,000 shapes of job (50 in the fast set), each with shards of its own, read to the end by all ranks."""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from torch.utils.data import DataLoader

from pyimportance import (
    ArgumentError,
    ImportanceDataset,
    WebDataset,
    repartition,
    samplers,
    write_shards,
)
from pyimportance.io.meter import TIERS
from tests.load.samples import best, ids

# Two cores are enough for these tests, whatever the DataLoader thinks of four processes on them.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

SHAPES, FAST = 1000, 50
PROCESSES = (0, 1, 0, 2, 0, 3, 0, 4)  # of one shape after the other: forking is what takes the time
PAGE = 4096
DISK, ORIGIN = TIERS.index("disk"), TIERS.index("origin")


@dataclass
class Shape:
    """counts, now: samples per worker, when written and, if any, after a repartition."""

    counts: list[int]
    now: list[int]
    bins: int
    shard_bytes: int
    world: int
    B: int
    processes: int
    persistent: bool
    batched: bool
    options: dict
    ids: bool  # whether only some are asked for
    drawn: float | None  # the part that RS2 draws of them every epoch
    web: bool  # whether by WebDataset, on the shards
    spawned: bool
    fixed: tuple[int, ...] | None  # the shape of a part that comes as a tensor


def shape_of(seed):
    r = np.random.default_rng(seed)
    workers, samples = int(r.integers(1, 9)), int(r.choice([r.integers(1, 7), r.integers(1, 250)]))

    def counts(workers):
        if r.random() < 0.5:  # as partition() divides
            return [samples // workers + (w < samples % workers) for w in range(workers)]
        return np.bincount(r.integers(0, workers, samples), minlength=workers).tolist()

    first, bins = counts(workers), int(r.integers(1, 5))
    processes, spawned = PROCESSES[seed % len(PROCESSES)], seed % 48 == 17
    worlds = 3 if spawned else 10 if not processes else 7 if processes < 3 else 5
    web, batched = bool(r.random() < 0.3), bool(r.integers(0, 2))
    made_here = batched and not web
    equalize = str(r.choice(["pad", "drop", "error", *["batch"] * made_here]))
    drawn = float(r.choice([0.1, 0.5, 0.9])) if r.random() < 0.2 else None
    mixes = ["stratified", "stratified", "sequential"]
    if drawn is None:
        # A curriculum's epochs differ in size, so that a later one may be uneven, or too small for the ranks.
        mixes += ["curriculum"] * (equalize in {"pad", "batch"})
        mixes += [r.choice([0.5, 1, 1.3, 2], bins).tolist()]
    mix = mixes[int(r.integers(len(mixes)))]
    return Shape(
        counts=first,
        now=counts(int(r.integers(1, 9))) if r.random() < 0.25 else first,
        bins=bins,
        shard_bytes=int(r.choice([4096, 32_768, 2**28])),
        world=int(r.integers(1, worlds)),
        B=int(r.integers(9 if equalize == "batch" else 1, 20)),
        processes=processes,
        persistent=bool(r.integers(0, 2)),
        batched=batched,
        options={
            "elastic": bool(r.integers(0, 2)),
            "equalize": equalize,
            "keep": float(r.choice([1.0, 1.0, 0.5, 0.07])),
            "mix": mix,
            **({"epochs": 3} if mix == "curriculum" else {}),
            **({"parts": "memoryview"} if not web and r.random() < 0.3 else {}),
            "shuffle": bool(r.random() < 0.8),
            "window_bytes": int(r.choice([2000, 20_000, 2**25])),
            "seed": seed,
        },
        ids=bool(r.random() < 0.2),
        drawn=drawn,
        web=web,
        spawned=spawned,
        fixed=(int(r.integers(1, 5)), 3) if made_here and r.random() < 0.4 else None,
    )


def sources(samples, seed, fixed):
    """Parts by sample id: one to three each, some of them empty, and where asked for one of a fixed size."""
    r = np.random.default_rng([seed, 1])
    names = [("bin",), ("bin", "cls"), ("cls", "bin", "seg.png")]
    same = r.choice(len(names)) if r.random() < 0.5 else None
    parts = [
        {
            name: r.bytes(int(r.integers(0, 600)))
            for name in names[r.choice(len(names)) if same is None else same]
        }
        for _ in range(samples)
    ]
    return parts if fixed is None else [{**part, "x": r.bytes(math.prod(fixed))} for part in parts]


@pytest.fixture
def made(tmp_path, write_tar, divide):
    def make(shape, seed):
        parts = sources(sum(shape.counts), seed, shape.fixed)
        write_tar(tmp_path / "source.tar", [(f"s{i:06d}", p) for i, p in enumerate(parts)])
        start = divide(shape.counts, shape.bins, seed=seed)
        shards = write_shards(tmp_path / "source.tar", start, tmp_path / "set", shard_bytes=shape.shard_bytes)
        if shape.now is not shape.counts:
            shards = repartition(shards, divide(shape.now, shape.bins, seed=seed + 1))
        return shards, parts

    return make


def opened(shards, shape):
    """A data set per rank. Where the options do not fit the shape, they are refused for a reason that holds,
    and the shape is read with others."""
    options = {"batch_size": shape.B, "batched": shape.batched, "world_size": shape.world, **shape.options}
    if shape.fixed is not None:
        options["fields"] = {"x": ("uint8", shape.fixed)}
    if shape.ids:
        options["ids"] = [i for i in range(sum(shape.now)) if i % 3] or [0]
    if shape.drawn is not None:
        options["sampler"] = samplers.RS2(shape.drawn)
    for change in ({}, {"elastic": True}, {"equalize": "pad"}, {"sampler": samplers.RS2(0.9)}):
        options |= change
        try:
            make = web if shape.web else ImportanceDataset
            return [make(shards, rank=rank, **options) for rank in range(shape.world)], options
        except ArgumentError as error:
            problem = str(error)
        assert refused(problem, shards, shape, options)
    raise AssertionError(problem)


def web(shards, *, batched, shuffle, batch_size, **options):
    """WebDataset of the same."""
    dataset = WebDataset(shards, batch_size=None if batched else batch_size, **options)
    dataset = dataset.shuffle(50) if shuffle else dataset
    return dataset.batched(batch_size, None) if batched else dataset


def refused(text, shards, shape, options):
    workers, world = shards.workers, shape.world
    if "comes to none in epoch" in text:
        return not any(options["sampler"].count(len(some), 0) for some in left_of(shards, shape, options))
    if "neither divides the other" in text:
        return not options["elastic"] and workers % world and world % workers
    return options["equalize"] in ("error", "drop") and f"equalize='{options['equalize']}'" in text


def left_of(shards, shape, options):
    """The ids of each worker that `keep` and `ids` leave."""
    descending, wanted = shards.manifest.descending, options.get("ids", range(sum(shape.now)))
    return [best(shards.index(w), options["keep"], descending, wanted) for w in range(shards.workers)]


def samples_of(batch, fixed):
    if isinstance(batch, list):
        return batch
    columns = {name: list(column) for name, column in batch.items()}
    if fixed is not None:
        columns["x"] = [bytes(x.numpy()) for x in columns["x"] if x.shape == fixed]
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def epoch_of(dataset, loader, epoch, shape):
    """(batches, bytes read by tier) of one rank."""
    dataset.set_epoch(epoch)
    before = dataset.counts()
    expected = len(loader)  # from here on the DataLoader warns, and so fails, if there are more
    batches = [samples_of(batch, shape.fixed) for batch in loader]
    assert len(batches) == expected
    return batches, (dataset.counts() - before)[:, 0]


def ranges_of(shards, batches, processes, dataset):
    """Bytes by tier of the samples in ``batches``, each read once by each process that yields it; and what
    lies between two of a draw, if it has no whole page."""
    place = {}
    for w in range(shards.workers):
        index = shards.index(w)
        tier, columns = DISK if w in dataset.home else ORIGIN, (index.file, index.offset, index.nbytes)
        for i, file, offset, n in zip(index.ids.tolist(), *(c.tolist() for c in columns), strict=True):
            place[i] = tier, (w, file), offset, offset + n
    total = np.zeros(len(TIERS), np.int64)
    for p in range(max(1, processes)):
        before, end = None, 0
        for tier, file, begin, until in sorted(
            place[i] for i in {i for batch in batches[p :: max(1, processes)] for i in ids(batch)}
        ):
            joined = dataset._choosing.has_gaps and file == before and begin // PAGE <= -(-end // PAGE)
            total[tier] += until - (end if joined else begin)
            before, end = file, until
    return total


def check_drawn(shards, kept, seen, rates):
    """Of each worker's bins: all samples equally often, but for one more of some."""
    times = Counter(seen)
    for w in range(shards.workers):
        index = shards.index(w)
        for b, rate in enumerate(rates):
            some = [times.pop(i, 0) for i in index.ids[index.bin == b].tolist() if i in kept]
            count = math.floor(rate * len(some) + 0.5)
            assert sum(some) == count
            assert all(t in {count // len(some), -(-count // len(some))} for t in some)
    assert not times


@pytest.mark.parametrize(
    "seed", [pytest.param(n, marks=[] if n < FAST else pytest.mark.slow) for n in range(SHAPES)]
)
def test_a_shape(made, seed):
    """Equal batches on all ranks, every sample once but for marked pads, right bytes, all reads counted."""
    shape = shape_of(seed)
    shards, parts = made(shape, seed)
    datasets, options = opened(shards, shape)
    persistent = shape.persistent and shape.processes > 0
    loaders = [
        DataLoader(
            dataset,
            batch_size=None if shape.batched else shape.B,
            collate_fn=dict if shape.batched and not shape.web else list,
            num_workers=shape.processes,
            persistent_workers=persistent,
            multiprocessing_context="spawn" if shape.spawned else "fork" if shape.processes else None,
        )
        for dataset in datasets
    ]
    left = left_of(shards, shape, options)
    kept = {i for some in left for i in some}
    sampler = options.get("sampler", samplers.Curriculum(3) if options["mix"] == "curriculum" else None)
    for epoch in range(2 if persistent or not shape.processes else 1):
        ranks = []
        for dataset, loader in zip(datasets, loaders, strict=True):
            batches, read = epoch_of(dataset, loader, epoch, shape)
            if options["window_bytes"] > 2**20:  # one window: no sample is needed in two
                tiers = TIERS.index("index") if shape.web or shape.spawned else len(TIERS)  # read again there
                expected = ranges_of(shards, batches, shape.processes, dataset)
                assert (read == expected)[:tiers].all()
            ranks.append(batches)
        if options["equalize"] == "batch":
            sizes = [tuple(map(len, batches)) for batches in ranks]
            assert len({len(size) for size in sizes}) == 1
            own = [dataset.own_batch_size for dataset in datasets]
            assert sum(own) <= shape.B * shape.world
            assert all(n == b for size, b in zip(sizes, own, strict=True) for n in size[:-1])
        else:
            (sizes,) = {tuple(map(len, batches)) for batches in ranks}
            assert all(size == shape.B for size in sizes[:-1])
        samples = [[sample for batch in batches for sample in batch] for batches in ranks]
        for sample in (sample for mine in samples for sample in mine):
            i = sample["__index__"]
            assert {name: part for name, part in sample.items() if name[:2] != "__"} == parts[i]
            assert sample["__key__"] == f"s{i:06d}"
        seen = ids(sample for mine in samples for sample in mine if not sample["__pad__"])
        pads = [sum(sample["__pad__"] for sample in mine) for mine in samples]
        assert set(seen) <= kept
        rates = options["mix"] if isinstance(options["mix"], list) else None
        assert len(seen) == len(set(seen)) or rates
        if options["equalize"] == "drop":
            assert not any(pads)
        elif rates:
            check_drawn(shards, kept, seen, rates)
        else:
            assert len(seen) == sum(
                sampler.count(len(some), epoch) if sampler else len(some) for some in left
            )
        assert min(pads) == 0
        assert options["equalize"] in {"pad", "batch"} or not any(pads)
