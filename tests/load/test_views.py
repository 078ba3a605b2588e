"""Parts as views of the memory they were read into: the same as bytes, for as long as a view is there."""

import gc
import os
import weakref

import numpy as np
import pytest
from torch.utils.data import DataLoader

from pyimportance import ArgumentError, DataError, ImportanceDataset, ShardSet, write_shards
from tests.load.conftest import divide, write_tar
from tests.load.memory import grown
from tests.server import Server

N = 120
SIZES = (0, 1, 511, 512, 2047, 2048, 2**14 - 1, 2**14, 70_001)
ONE = {"rank": 0, "world_size": 1, "batch_size": 8}
VIEWS = {**ONE, "parts": "memoryview"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder with `set` and `packed`, parts by sample id)"""
    folder, r = tmp_path_factory.mktemp("views"), np.random.default_rng(2)
    parts = [
        {"a": r.bytes(SIZES[i % len(SIZES)]), "x": r.bytes(3000), **({"b.c": b"%d" % i} if i % 3 else {})}
        for i in range(N)
    ]
    write_tar(folder / "s.tar", [(f"{i:03d}", p) for i, p in enumerate(parts)])
    write_shards(folder / "s.tar", divide([N // 2, N // 2], 2), folder / "set", shard_bytes=2**19)
    write_shards(
        folder / "s.tar",
        divide([N // 2, N // 2], 2),
        folder / "packed",
        shard_bytes=2**19,
        compression="zstd",
    )
    return folder, parts


def payloads(sample):
    return {name: value for name, value in sample.items() if not name.startswith("__")}


def is_view(part):
    return type(part) is memoryview and part.readonly and part.c_contiguous and part.format == "B"


@pytest.mark.parametrize("name", ["set", "packed"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"window_bytes": 1},
        {"window_bytes": 2**17, "mix": "sequential", "shuffle": False},
        {"keep": 0.4},
        {"ids": list(range(0, N, 7))},
        {"select_files": lambda name: not name.endswith(".x")},
        {"mix": [3, 0.5]},
    ],
)
def test_views_are_what_bytes_would_be(made, name, options):
    views = list(ImportanceDataset(made[0] / name, **VIEWS, **options))
    assert all(is_view(part) for sample in views for part in payloads(sample).values())
    assert views == list(ImportanceDataset(made[0] / name, **ONE, **options))
    assert len(views) > 10


@pytest.mark.parametrize("window_bytes", [2**16, 2**25])
def test_batches_have_views_beside_their_fields(made, window_bytes):
    folder, parts = made
    seen = []
    for batch in ImportanceDataset(
        folder / "set", batched=True, fields={"x": ("uint8", (3000,))}, window_bytes=window_bytes, **VIEWS
    ):
        ids = batch["__index__"].tolist()
        for slot, i in enumerate(ids):
            assert batch["x"][slot].numpy().tobytes() == parts[i]["x"]
            assert is_view(batch["a"][slot])
            assert batch["a"][slot] == parts[i]["a"]
            assert batch["b.c"][slot] == parts[i].get("b.c")
        seen += ids
    assert sorted(seen) == list(range(N))


def test_a_view_outlives_all_else(made):
    folder, parts = made
    dataset = ImportanceDataset(folder / "set", window_bytes=2**16, **VIEWS)
    samples, kept = iter(dataset), []
    for _ in range(N // 2):
        sample = next(samples)
        kept.append((sample["__index__"], sample["a"]))
    del samples, sample
    for epoch in range(1, 4):
        dataset.set_epoch(epoch)
        assert sum(1 for _ in dataset) == N
    del dataset
    gc.collect()
    others = list(ImportanceDataset(folder / "packed", **VIEWS))
    assert len(others) == N
    assert all(view == parts[i]["a"] for i, view in kept)


def test_a_view_cannot_be_written_to(made):
    sample = next(iter(ImportanceDataset(made[0] / "set", **VIEWS)))
    with pytest.raises(TypeError, match="read-only"):
        sample["x"][0] = 1
    assert memoryview(sample["x"].obj).readonly
    assert not np.frombuffer(sample["x"], np.uint8).flags.writeable


def memories(dataset, keep=lambda number: False):
    """How many buffers were held when each sample was there."""
    held, kept = weakref.WeakSet(), []
    for number, sample in enumerate(dataset):
        held.add(sample["x"].obj)
        if keep(number):
            kept.append(sample["x"])
        yield len(held)
    del sample


def test_what_nobody_looks_at_is_let_go(made):
    """Samples of a window are made some at a time, so that two windows have views in passing."""
    options = {**VIEWS, "window_bytes": 2**16}
    windows = max(memories(ImportanceDataset(made[0] / "set", **options), lambda _: True))
    assert windows > 10
    assert max(memories(ImportanceDataset(made[0] / "set", **options))) <= 4  # two workers, two windows


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """64 MiB."""
    folder = tmp_path_factory.mktemp("large")
    write_tar(folder / "s.tar", [(f"{i:05d}", {"x": os.urandom(20_000)}) for i in range(3200)])
    return write_shards(folder / "s.tar", divide([3200], 2), folder / "set")


@pytest.mark.parametrize(
    "options", [{}, {"parts": "memoryview"}, {"batched": True}, {"batched": True, "fields": True}]
)
def test_memory_is_bounded_by_windows(large, options):
    """In windows of 2 MiB, by the system's account of this process."""
    if "fields" in options:
        options = {**options, "fields": {"x": ("uint8", (20_000,))}}
    dataset = ImportanceDataset(large, **ONE, window_bytes=2**21, **options)
    assert grown(dataset) < 6 * 2**21  # two that are held, two to read into, and the rest


def outcome(dataset):
    """The samples up to an error, and what it says."""
    samples = []
    try:
        samples.extend(dataset)
    except DataError as error:
        return samples, str(error)
    return samples, None


@pytest.mark.parametrize("damage", ["header", "cut", "gone"])
def test_damage_is_the_same_error(made, tmp_path, damage):
    shards = write_shards(made[0] / "s.tar", divide([N], 2), tmp_path / "set", shard_bytes=2**19)
    found = shards.index(0)
    path = found.files[found.file[40]]
    if damage == "header":
        with open(path, "r+b") as file:
            file.seek(int(found.offset[40]))
            file.write(b"?")
    elif damage == "cut":
        os.truncate(path, int(found.offset[40]) + 100)
    else:
        os.remove(path)
    (got, said), (right, problem) = (outcome(ImportanceDataset(shards, **o)) for o in (VIEWS, ONE))
    assert problem is not None
    assert (got, said) == (right, problem)
    skipping = {"on_error": "skip", "max_skipped": N}
    got, right = (list(ImportanceDataset(shards, **o, **skipping)) for o in (VIEWS, ONE))
    assert got == right
    assert len(got) == N


@pytest.mark.parametrize("cached", [False, True])
def test_views_of_shards_behind_a_url(made, tmp_path, cached):
    folder, parts = made
    with Server(folder) as server:
        cache = {"cache_dir": tmp_path} if cached else {}
        samples = list(ImportanceDataset(f"{server.url}/set", **VIEWS, **cache))
    assert all(is_view(sample["a"]) and payloads(sample) == parts[sample["__index__"]] for sample in samples)
    assert len(samples) == N


def lengths(samples):
    assert all(is_view(sample["x"]) for sample in samples)
    return [(sample["__index__"], len(sample["a"])) for sample in samples]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_loader_processes_use_views_and_send_views(made, method):
    folder, parts = made
    dataset = ImportanceDataset(folder / "set", **VIEWS)
    more = {"batch_size": 8, "num_workers": 1, "multiprocessing_context": method}
    used = [pair for batch in DataLoader(dataset, collate_fn=lengths, **more) for pair in batch]
    assert sorted(used) == [(i, len(p["a"])) for i, p in enumerate(parts)]
    sent = [sample for batch in DataLoader(dataset, collate_fn=list, **more) for sample in batch]
    assert all(is_view(part) for sample in sent for part in payloads(sample).values())
    assert sorted((s["__index__"], payloads(s) == parts[s["__index__"]]) for s in sent) == [
        (i, True) for i in range(N)
    ]


def test_what_parts_may_be(made):
    with pytest.raises(ArgumentError, match="parts='view': allowed are bytes, memoryview"):
        ImportanceDataset(ShardSet.open(made[0] / "set"), **ONE, parts="view")
