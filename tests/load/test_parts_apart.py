"""Some parts of each sample: the others are not read, wherever they lie."""

import os

import numpy as np
import pytest

from pyimportance import ArgumentError, DataError, ImportanceDataset, WebDataset, samplers, write_shards
from tests.load.conftest import divide, write_tar
from tests.load.samples import requests
from tests.server import Server

N = 60
JOIN = 16 << 10
ONE = {"rank": 0, "world_size": 1, "batch_size": 8}


def wanted(name):
    return name.endswith((".cls", ".txt"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder with `set`, `packed` and `s.tar`, the parts of each sample): those between vary in size."""
    folder, r = tmp_path_factory.mktemp("apart"), np.random.default_rng(3)
    parts = []
    for i in range(N):
        own = {"cls": b"%d" % i, "jpg": r.bytes(int(r.choice([0, 3000, 3584, 9000, 20_000, 90_000])))}
        if i % 5:
            own["txt"] = r.bytes(int(r.choice([100, 2100, 17_000])))
        if i % 3 == 0:
            own["z"] = r.bytes(5000)
        parts.append(own)
    write_tar(folder / "s.tar", [(f"k{i:05d}", p) for i, p in enumerate(parts)])
    plan = divide([N // 2, N // 2], 2)
    write_shards(folder / "s.tar", plan, folder / "set", shard_bytes=1 << 19)
    write_shards(folder / "s.tar", plan, folder / "packed", shard_bytes=1 << 19, compression="zstd")
    return folder, parts


def wanted_of(shards, join=0):
    """[(file, begin, end)] of what is to be read of those parts."""
    indexes = map(shards.index, range(shards.workers))
    return [
        request
        for index in indexes
        for request in requests(index, np.arange(len(index)), join, ("cls", "txt"))
    ]


@pytest.mark.parametrize("name", ["set", "packed"])
@pytest.mark.parametrize(
    ("options", "in_part"),
    [
        ({}, False),
        ({"shuffle": False}, False),
        ({"select_files": wanted}, True),
        ({"keep": 0.4}, True),
        ({"ids": range(0, N, 7)}, True),
        ({"sampler": samplers.RS2(0.3)}, True),
    ],
)
def test_the_system_reads_ahead_of_nothing_but_what_is_read_whole(made, monkeypatch, name, options, in_part):
    """It would read as much again, and more, and no count of requests shows it."""
    advised, advise = set(), os.posix_fadvise

    def noted(fd, begin, length, advice):
        advised.add((os.readlink(f"/proc/self/fd/{fd}"), begin, length, advice))
        advise(fd, begin, length, advice)

    monkeypatch.setattr(os, "posix_fadvise", noted)
    samples = list(ImportanceDataset(made[0] / name, **ONE, **options))
    files = {os.path.realpath(sample["__url__"]) for sample in samples}
    assert len(files) > 2
    assert advised == {(file, 0, 0, os.POSIX_FADV_RANDOM) for file in files if in_part}


@pytest.mark.parametrize("name", ["set", "packed"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"parts": "memoryview"},
        {"window_bytes": 1},
        {"window_bytes": 2**17, "shuffle": False, "mix": "sequential"},
        {"keep": 0.4},
        {"ids": list(range(0, N, 7))},
        {"mix": [2, 0.5]},
    ],
)
def test_samples_are_those_of_all_parts_less_some(made, name, options):
    shards = made[0] / name
    some = list(ImportanceDataset(shards, **ONE, select_files=wanted, **options))
    whole = list(ImportanceDataset(shards, **ONE, **options))
    assert some == [{k: v for k, v in sample.items() if k not in ("jpg", "z")} for sample in whole]
    assert len(some) > 8


@pytest.mark.parametrize("kind", [ImportanceDataset, WebDataset])
@pytest.mark.parametrize("extensions", [["cls", "txt"], {"txt", "cls"}, ("cls", "txt", "none")])
def test_parts_are_named_by_a_function_or_by_extensions(made, kind, extensions):
    by_names = kind(made[0] / "set", **ONE, select_files=wanted)
    by_extensions = kind(made[0] / "set", **ONE, select_files=extensions)
    assert list(by_extensions) == list(by_names)
    assert by_extensions.counts().tolist() == by_names.counts().tolist()
    assert list(by_extensions) == list(by_names)  # in a second epoch, or the same again


@pytest.mark.parametrize("kind", [ImportanceDataset, WebDataset])
@pytest.mark.parametrize(
    ("select", "text"),
    [
        (3, "select_files=3: must be a list of extensions, or a function of a name"),
        ("cls", "select_files='cls': must be a list of extensions"),
        (b"cls", "select_files=b'cls': must be"),
        ([], r"select_files=\[\]: must be"),
        (["cls", 3], r"select_files=\['cls', 3\]: must be"),
        (["z"], "select_files leaves nothing of sample 'k0.*, nor of"),
        ([".cls"], "select_files leaves nothing of sample 'k0"),
    ],
)
def test_what_names_no_parts(made, kind, select, text):
    with pytest.raises(ArgumentError, match=text):
        kind(made[0] / "set", **ONE, select_files=select)


@pytest.mark.parametrize("parts", ["bytes", "memoryview"])
def test_what_lies_between_is_read_where_it_has_no_whole_page(made, parts):
    dataset = ImportanceDataset(made[0] / "set", **ONE, select_files=wanted, parts=parts)
    assert sum(1 for _ in dataset) == N
    expected = wanted_of(dataset.shards)
    total = sum(end - begin for _, begin, end in expected)
    assert dataset.counts()[2].tolist() == [total, len(expected)]  # of the disk
    assert total < 0.4 * sum(dataset.shards.index(w).nbytes.sum() for w in range(2))


def test_fields_and_lists_of_batches(made):
    folder, parts = made
    fields = {"txt": ("uint8", (2100,))}
    ids = [i for i, p in enumerate(parts) if len(p.get("txt", b"")) == 2100]
    options = {"batched": True, "fields": fields, "ids": ids, "select_files": wanted}
    for batch in ImportanceDataset(folder / "set", **ONE, **options):
        assert "jpg" not in batch
        for slot, i in enumerate(batch["__index__"].tolist()):
            assert batch["txt"][slot].numpy().tobytes() == parts[i]["txt"]
            assert batch["cls"][slot] == parts[i]["cls"]


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("name", ["set", "packed"])
def test_behind_a_url(made, tmp_path, cached, name):
    folder, parts = made
    here = ImportanceDataset(folder / "set", **ONE).shards
    with Server(folder) as server:
        cache = {"cache_dir": tmp_path} if cached else {}
        dataset = ImportanceDataset(f"{server.url}/{name}", **ONE, select_files=wanted, **cache)
        before = dataset.io_report().bytes("origin")
        for sample in dataset:
            i = sample["__index__"]
            assert {k: v for k, v in sample.items() if not k.startswith("__")} == {
                k: v for k, v in parts[i].items() if k in ("cls", "txt")
            }
        fetched = dataset.io_report().bytes("origin") - before
    needed = sum(end - begin for _, begin, end in wanted_of(here, JOIN))
    if name == "set":
        assert fetched == needed
    else:
        assert fetched > 0


def test_plain_tars(made):
    folder, parts = made
    dataset = WebDataset(str(folder / "s.tar"), select_files=wanted)
    assert [(s["cls"], s.get("txt")) for s in dataset] == [(p["cls"], p.get("txt")) for p in parts]
    nbytes = dataset.io_report().bytes("origin")
    assert nbytes < 0.4 * os.path.getsize(folder / "s.tar")


@pytest.mark.parametrize("select", [None, wanted])
def test_parts_that_rename_files_leaves_out(made, select):
    """Are not read either: as many bytes as select_files has read."""

    def rename(name):
        return "" if name.endswith(".jpg" if select else (".jpg", ".z")) else name

    whole = WebDataset(str(made[0] / "s.tar"), select_files=wanted)
    some = WebDataset(str(made[0] / "s.tar"), rename_files=rename, select_files=select)
    assert list(some) == list(whole)
    assert some.io_report().bytes("origin") == whole.io_report().bytes("origin")


def part_at(index, row, extension):
    for p in range(index.part_start[row], index.part_start[row + 1]):
        if index.extensions[index.part_ext[p]] == extension:
            return int(index.part_offset[p])
    return None


@pytest.mark.parametrize("views", ["bytes", "memoryview"])
@pytest.mark.parametrize("damage", [("cls",), ("txt",), ("txt", "cls")])
def test_headers_are_checked(made, tmp_path, damage, views):
    """Of two that are damaged the first is told, whichever is read first; others are not looked at."""
    shards = write_shards(made[0] / "s.tar", divide([N], 1), tmp_path / "set")
    index = shards.index(0)
    row = next(
        i
        for i in range(5, N)
        if part_at(index, i, "txt") and part_at(index, i, "txt") - part_at(index, i, "jpg") > 50_000
    )
    with open(index.files[0], "r+b") as file:
        for extension in ("jpg", *damage):
            file.seek(part_at(index, row, extension) - 512)
            file.write(b"?")
    for epoch in range(5):
        dataset = ImportanceDataset(shards, **ONE, select_files=wanted, parts=views)
        dataset.set_epoch(epoch)
        with pytest.raises(DataError, match="no tar header") as caught:
            list(dataset)
        first = min(damage)
        assert caught.value.member == f"{index.key(row)}.{first}"
        assert caught.value.offset == part_at(index, row, first) - 512
        skipping = ImportanceDataset(shards, **ONE, select_files=wanted, parts=views, on_error="skip")
        skipping.set_epoch(epoch)
        assert sum(sample["__pad__"] for sample in skipping) == skipping.skipped == 1


def test_a_tar_that_is_cut_between_two_parts(made, tmp_path):
    """Of the bytes that it was opened with some are gone: the part that is there is of no use alone."""
    shards = write_shards(made[0] / "s.tar", divide([N], 1), tmp_path / "set")
    index = shards.index(0)
    row = max(i for i in range(N) if part_at(index, i, "txt") and not part_at(index, i, "z"))
    dataset = ImportanceDataset(
        shards, **ONE, select_files=wanted, shuffle=False, mix="sequential", window_bytes=1
    )
    samples = iter(dataset)
    next(samples)
    os.truncate(index.files[0], part_at(index, row, "txt") + 10)
    with pytest.raises(DataError, match="ends here") as caught:
        list(samples)
    assert caught.value.member == f"{index.key(row)}.txt"
