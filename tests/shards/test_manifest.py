"""Manifests are untrusted: every field is checked, and its error names it."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyimportance
from pyimportance import (
    ArgumentError,
    DataError,
    Partition,
    SampleIndex,
    Scores,
    ShardSet,
    partition,
    repartition,
    write_shards,
)
from pyimportance._C import crc32c
from pyimportance.io.meter import Meter
from pyimportance.shards.manifest import encode_pointer

Divide = Callable[..., Partition]


@pytest.fixture
def shards(source: Path, tmp_path: Path, divide: Divide) -> ShardSet:
    return write_shards(
        source, divide(pyimportance.index(source), 2, 2), tmp_path / "out", shard_bytes=60_000
    )


def test_what_it_says(shards: ShardSet, source: Path) -> None:
    opened = ShardSet.open(shards.root)
    assert opened.manifest == shards.manifest
    assert (opened.generation, opened.workers, opened.bins, opened.num_samples) == (0, 2, 2, 66)
    assert (opened.measure, opened.policy) == ("test", "stripes")
    assert opened.manifest.source_files == tuple(p.name for p in sorted(source.iterdir()))
    assert opened.manifest.source_digest == pyimportance.index(source).digest
    assert {(s.worker, s.bin) for s in opened.shards} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert repr(opened).startswith("ShardSet('")
    meter = Meter()
    ShardSet.open(shards.root, meter=meter).index(1, meter)
    paths = ["manifest.json", "manifest-000000.json", "worker-001/index-000000.arrow"]
    assert meter.bytes("index") == sum((Path(shards.root) / p).stat().st_size for p in paths)
    with pytest.raises(ArgumentError, match="worker is 2; this set has workers 0 to 1"):
        opened.index(2)


def change(shards: ShardSet, path: str, value: Any) -> None:
    """Sets a field ("shards.0.path") of the manifest; the pointer's sum is made to fit."""
    file = Path(shards.root) / "manifest-000000.json"
    fields = json.loads(file.read_text())
    *way, last = path.split(".")
    place = fields
    for step in way:
        place = place[int(step) if isinstance(place, list) else step]
    if value is KeyError:
        del place[last]
    else:
        place[int(last) if isinstance(place, list) else last] = value
    data = json.dumps(fields).encode()
    file.write_bytes(data)
    (Path(shards.root) / "manifest.json").write_bytes(encode_pointer(0, data))


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("format", "other", "is no manifest of pyimportance"),
        ("version", 3, "has format version 3; this release reads 1 and 2"),
        ("version", True, "has format version True; this release reads 1 and 2"),
        ("generation", 1, "field 'generation': must be 0, as the file's name says; got 1"),
        ("generation", KeyError, "field 'generation' is missing"),
        ("workers", 0, "field 'workers': must be an integer from 1"),
        ("workers", True, "field 'workers': must be an integer"),
        ("workers", 3, r"field 'indexes': must hold one entry per worker \(3\)"),
        ("bins", 1.5, "field 'bins': must be an integer"),
        ("bins", 1 << 40, r"field 'bins': must be at most 4194304 // 'workers' \(2\); got 1099511627776"),
        ("bins", 1, r"field 'shards\[\d+\]\.bin': must be an integer from 0 to 0; got 1"),
        ("samples", 67, "field 'indexes': add up to 66 samples; 'samples' says 67"),
        ("samples", 1 << 70, "field 'samples': must be an integer from 0 to"),
        ("id_bound", KeyError, "field 'id_bound' is missing"),
        ("id_bound", 65, "field 'id_bound': must be above the ids of 66 samples"),
        ("id_bound", 0, "field 'id_bound': must be above the ids of 66 samples"),
        ("id_bound", 1 << 70, "field 'id_bound': must be an integer from 0 to"),
        ("job", "abc", "field 'job': must be text like"),
        ("measure", None, "field 'measure': must be text"),
        ("descending", 1, "field 'descending': must be true or false"),
        ("source_files", "x", "field 'source_files': must be a list of texts"),
        ("shards", {}, "field 'shards': must be a list of objects"),
        ("shards.0", 1, "field 'shards': must be a list of objects"),
        ("shards.0.path", "/etc/passwd", r"field 'shards\[0\]\.path': must be a relative path without"),
        ("shards.0.path", "../up.tar", r"field 'shards\[0\]\.path': must be a relative path"),
        ("shards.0.path", "a//b.tar", r"field 'shards\[0\]\.path': must be a relative path"),
        ("shards.0.path", "a/../../b", r"field 'shards\[0\]\.path': must be a relative path"),
        ("shards.0.path", "manifest.json", r"field 'shards\[0\]\.path': must be a relative path"),
        ("shards.0.path", "pipe:id>x", r"field 'shards\[0\]\.path': must be a relative path"),
        ("shards.0.path", "worker-000/\x1b[2J", r"field 'shards\[0\]\.path': must be a relative path"),
        ("shards.0.path", "worker-000/x.tar\n", r"field 'shards\[0\]\.path': must be a relative path"),
        ("shards.0.path", "worker-000/index-000000.arrow", "field 'shards': name a file twice"),
        ("shards.0.bytes", -1, r"field 'shards\[0\]\.bytes': must be an integer from 0"),
        ("shards.0.crc32c", 1 << 32, r"field 'shards\[0\]\.crc32c': must be an integer from 0 to 4294967295"),
        ("shards.0.worker", 2, r"field 'shards\[0\]\.worker': must be an integer from 0 to 1; got 2"),
        ("shards.0.live", 1000, r"field 'shards\[0\]\.live': must be at most 'samples'"),
        ("shards.0.live", 0, "field 'shards': add up to"),
        ("shards.0.worker", 1, "field 'shards': of worker 0 hold"),
        ("shards.0.score_min", "low", r"field 'shards\[0\]\.score_min': must be a finite number or null"),
        ("shards.0.score_min", True, r"field 'shards\[0\]\.score_min': must be a finite number or null"),
        (
            "shards.0.score_max",
            float("nan"),
            r"field 'shards\[0\]\.score_max': must be a finite number or null",
        ),
        ("shards.0.score_max", float("inf"), r"field 'shards\[0\]\.score_max': must be a finite number"),
        ("shards.0.score_max", 10**400, r"field 'shards\[0\]\.score_max': must be a finite number or null"),
        ("indexes.0.path", "..", r"field 'indexes\[0\]\.path': must be a relative path"),
        ("indexes.1.samples", "9", r"field 'indexes\[1\]\.samples': must be an integer"),
    ],
)
def test_fields(shards: ShardSet, path: str, value: Any, text: str) -> None:
    change(shards, path, value)
    with pytest.raises(DataError, match=rf"manifest-000000\.json: .*{text}"):
        ShardSet.open(shards.root)


def test_the_unchanged_manifest_passes_the_same_way(shards: ShardSet) -> None:
    change(shards, "seed", 7)
    assert ShardSet.open(shards.root).manifest.seed == 7


UTF_16 = '{"format":"pyimportance-shards","version":1}'.encode("utf-16")


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"null", b"[" * 100_000, b"\xff\xfe", UTF_16])
def test_files_that_are_no_manifest(shards: ShardSet, data: bytes) -> None:
    for name in ("manifest-000000.json", "manifest.json"):
        (Path(shards.root) / name).write_bytes(data)
        with pytest.raises(DataError, match=rf"{name}: (is no (JSON|manifest)|stands for a)"):
            ShardSet.open(shards.root)


@pytest.mark.parametrize("name", ["manifest.json", "manifest-000000.json"])
def test_a_file_of_holes_is_not_read(name: str, shards: ShardSet) -> None:
    """It takes no room on the disk, and would in memory."""
    os.truncate(Path(shards.root) / name, 1 << 40)
    with pytest.raises(DataError, match=rf"{name}: has {1 << 40} bytes; of these files {1 << 30} are read"):
        ShardSet.open(shards.root)


@pytest.mark.parametrize("path", ["shards.0.path", "measure", "source_files.0"])
def test_half_a_character(shards: ShardSet, path: str) -> None:
    """JSON can say it, in either way; no file can be called so, and no terminal shows it."""
    change(shards, path, "\ud800")
    with pytest.raises(DataError, match=r"manifest-000000\.json: holds text that is not UTF-8"):
        ShardSet.open(shards.root)
    file = Path(shards.root) / "manifest-000000.json"
    file.write_bytes(data := file.read_bytes().replace(b"\\ud800", b"\xed\xa0\x80"))
    (Path(shards.root) / "manifest.json").write_bytes(encode_pointer(0, data))
    with pytest.raises(DataError, match=r"manifest-000000\.json: is no JSON \('utf-8' codec can't decode"):
        ShardSet.open(shards.root)


def test_infinite_scores(source: Path, tmp_path: Path) -> None:
    """JSON has none: the range in the manifest ends at float32's, the scores are in the indexes."""
    values = np.linspace(-1, 1, 66, dtype=np.float32)
    values[[3, 4]] = np.inf, -np.inf
    shards = write_shards(source, partition(Scores(values), 1, bins=2), tmp_path / "out")
    assert shards.verify().ok
    largest = float(np.finfo(np.float32).max)
    (first, last) = ShardSet.open(shards.root).shards
    assert (first.score_max, last.score_min) == (largest, -largest)
    index = ShardSet.open(shards.root).index(0)
    np.testing.assert_array_equal(index.score, values[index.ids])


def test_a_manifest_that_is_not_the_pointers(shards: ShardSet) -> None:
    path = Path(shards.root) / "manifest-000000.json"
    path.write_bytes(path.read_bytes() + b" ")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(DataError, match=rf"manifest-000000\.json: has SHA-256 {digest}; manifest\.json says"):
        ShardSet.open(shards.root)


def test_places_without_a_finished_set(tmp_path: Path, shards: ShardSet) -> None:
    with pytest.raises(DataError, match="nowhere: is no directory of shards"):
        ShardSet.open(tmp_path / "nowhere")
    (tmp_path / "half").mkdir()
    with pytest.raises(
        DataError, match=r"half: holds no manifest\.json: no shards, or their writing was not"
    ):
        ShardSet.open(tmp_path / "half")
    with pytest.raises(DataError, match="/out: holds no generation 3; the current one is 0"):
        ShardSet.open(shards.root, generation=3)
    with pytest.raises(ArgumentError, match="generation=-1: must be at least 0"):
        ShardSet.open(shards.root, generation=-1)


def test_a_link_that_leads_out_of_the_root(shards: ShardSet, tmp_path: Path) -> None:
    inside = Path(shards.root) / "worker-000"
    inside.rename(tmp_path / "outside")
    inside.symlink_to(tmp_path / "outside")
    with pytest.raises(DataError, match=r"index-000000\.arrow: leads out of .*/out, to .*/outside/index"):
        shards.index(0)
    (tmp_path / "link").symlink_to(shards.root)  # a link to the root itself is the user's own
    assert len(ShardSet.open(tmp_path / "link").index(1)) == 33


def test_an_index_that_is_not_the_manifests(shards: ShardSet) -> None:
    first, second = (Path(shards.root) / f"worker-00{w}" / "index-000000.arrow" for w in (0, 1))
    first.write_bytes(second.read_bytes())
    with pytest.raises(DataError, match=r"worker-000/index-000000\.arrow: has CRC32C"):
        shards.index(0)
    change(shards, "indexes.0.crc32c", shards.manifest.indexes[1].crc32c)
    with pytest.raises(
        DataError, match=r"worker-000/index-000000\.arrow: lists other shards than the manifest"
    ):
        ShardSet.open(shards.root).index(0)


def test_the_bound_of_the_ids(source: Path, tmp_path: Path) -> None:
    some = np.arange(5, 66, 7)
    parts = partition(Scores(np.zeros(len(some), np.float32), some), 2)
    pruned = write_shards(source, parts, tmp_path / "out")
    meter = Meter()
    assert ShardSet.open(pruned.root, meter=meter).id_bound == pruned.id_bound == some.max() + 1 == 62
    manifests = [tmp_path / "out" / name for name in ("manifest.json", "manifest-000000.json")]
    assert meter.bytes("index") == sum(path.stat().st_size for path in manifests)  # and no index
    fewer = repartition(pruned, partition(Scores(np.zeros(2, np.float32), some[:2]), 3))
    assert fewer.id_bound == some[1] + 1
    change(pruned, "id_bound", 61)
    holder = int(pruned.worker_of(np.array([61]))[0])
    with pytest.raises(DataError, match=r"index-000000\.arrow: lists sample 61; .*'id_bound' is 61"):
        ShardSet.open(pruned.root).index(holder)
    change(pruned, "id_bound", 70)
    problems = ShardSet.open(pruned.root).verify().problems
    assert [(p.file, p.problem) for p in problems] == [
        ("manifest-000000.json", "field 'id_bound': is 70, and one more than the highest id is 62")
    ]


def test_no_samples_are_bounded_by_nothing(source: Path, tmp_path: Path) -> None:
    nobody = Partition(2, 1, np.zeros(0, np.int64), np.zeros(3, np.int64))
    shards = write_shards(source, nobody, tmp_path / "out")
    assert (shards.id_bound, shards.num_samples) == (0, 0)
    assert shards.verify().ok
    change(shards, "id_bound", 1)
    with pytest.raises(DataError, match="'id_bound': must be above the ids of 0 samples, 0 where there is"):
        ShardSet.open(shards.root)


def test_an_index_in_use_is_not_read_again(shards: ShardSet) -> None:
    opened, meter = ShardSet.open(shards.root), Meter()
    index = opened.index(0, meter)
    assert meter.requests("index") == 1
    assert opened.index(0, meter) is index
    assert meter.requests("index") == 1
    copied = pickle.loads(pickle.dumps(opened))
    assert (copied.digest, copied.index(0, meter).ids.tolist()) == (opened.digest, index.ids.tolist())
    assert meter.requests("index") == 2
    path = Path(shards.root) / opened.manifest.indexes[0].path
    path.write_bytes(path.read_bytes()[:-1])
    assert opened.index(0) is index
    assert not opened.verify().ok  # it reads what lies on the disk
    del index
    gc.collect()
    with pytest.raises(DataError, match="has CRC32C"):
        opened.index(0)


def test_a_sample_in_two_workers(shards: ShardSet) -> None:
    """Worker 1's index is given worker 0's ids, and the manifest is made to fit."""
    path = Path(shards.root) / "worker-001" / "index-000000.arrow"
    taken = replace(SampleIndex.load(path), ids=shards.index(0).ids)
    taken.save(path)
    change(shards, "indexes.1.crc32c", crc32c(path.read_bytes()))
    opened = ShardSet.open(shards.root)
    with pytest.raises(DataError, match=r"out: holds sample \d+ twice, for workers 0 and 1"):
        opened.worker_of(np.zeros(1, np.int64))
    problems = opened.verify().problems
    assert [p.file for p in problems] == ["."]
    assert "twice" in problems[0].problem


def test_worker_of(shards: ShardSet) -> None:
    owners = shards.worker_of(np.arange(-1, 67))
    assert owners[[0, -1]].tolist() == [-1, -1]
    for worker in range(2):
        assert set(np.flatnonzero(owners == worker) - 1) == set(shards.index(worker).ids.tolist())
