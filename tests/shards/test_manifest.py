"""Manifests are untrusted: every field is checked, and its error names it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyimportance
from pyimportance import ArgumentError, DataError, Partition, SampleIndex, ShardSet, write_shards
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
        ("version", 2, "has format version 2; this release reads 1"),
        ("generation", 1, "field 'generation': must be 0, as the file's name says; got 1"),
        ("generation", KeyError, "field 'generation' is missing"),
        ("workers", 0, "field 'workers': must be an integer from 1"),
        ("workers", True, "field 'workers': must be an integer"),
        ("workers", 3, r"field 'indexes': must hold one entry per worker \(3\)"),
        ("bins", 1.5, "field 'bins': must be an integer"),
        ("bins", 1, r"field 'shards\[\d+\]\.bin': must be an integer from 0 to 0; got 1"),
        ("samples", 67, "field 'indexes': add up to 66 samples; 'samples' says 67"),
        ("samples", 1 << 70, "field 'samples': must be an integer from 0 to"),
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
        ("shards.0.path", "worker-000/index-000000.arrow", "field 'shards': name a file twice"),
        ("shards.0.bytes", -1, r"field 'shards\[0\]\.bytes': must be an integer from 0"),
        ("shards.0.crc32c", 1 << 32, r"field 'shards\[0\]\.crc32c': must be an integer from 0 to 4294967295"),
        ("shards.0.worker", 2, r"field 'shards\[0\]\.worker': must be an integer from 0 to 1; got 2"),
        ("shards.0.live", 1000, r"field 'shards\[0\]\.live': must be at most 'samples'"),
        ("shards.0.live", 0, "field 'shards': add up to"),
        ("shards.0.worker", 1, "field 'shards': of worker 0 hold"),
        ("shards.0.score_min", "low", r"field 'shards\[0\]\.score_min': must be a number or null"),
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


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"null", b"[" * 100_000, b"\xff\xfe"])
def test_files_that_are_no_manifest(shards: ShardSet, data: bytes) -> None:
    for name in ("manifest-000000.json", "manifest.json"):
        (Path(shards.root) / name).write_bytes(data)
        with pytest.raises(DataError, match=rf"{name}: is no (JSON|manifest)"):
            ShardSet.open(shards.root)


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
    with pytest.raises(DataError, match=r"manifest-000003\.json: does not exist"):
        ShardSet.open(shards.root, generation=3)


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
