"""Thousands of damaged manifests, indexes, compressed files, notes and offers: each is refused, or is sound.

The tars' turn is in `test_mutations.py` and, by native fuzzers, in `tests/native/test_fuzz.py`. As often as
PYIMPORTANCE_FUZZ_RUNS says under `pytest -m fuzz`, some hundred times otherwise.
"""

from __future__ import annotations

import itertools
import json
import os
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

import pyimportance
from pyimportance import DataError, Partition, SampleIndex, ShardSet, repartition, write_shards
from pyimportance.io.compress import write_frames
from pyimportance.io.frames import content_of
from pyimportance.io.seek_table import SeekTable
from pyimportance.io.storage import File
from pyimportance.shards import journal, offers
from pyimportance.shards.index_file import decode, encode
from pyimportance.shards.manifest import encode_pointer
from tests.native.fuzz.readers import Memory, change

Divide = Callable[..., Partition]
LONG = int(os.environ.get("PYIMPORTANCE_FUZZ_RUNS", "100000"))
RUNS = [
    300,
    pytest.param(LONG, marks=[pytest.mark.fuzz, pytest.mark.timeout(12 * 3600)]),
]


@pytest.fixture
def shards(source: Path, divide: Divide, tmp_path: Path) -> ShardSet:
    """Two workers, after a repartition; of two generations."""
    first = write_shards(
        source, divide(pyimportance.index(source), 2, 2), tmp_path / "out", shard_bytes=60_000
    )
    return repartition(first, divide(66, 2, 2, seed=1))


def change_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(len(out))) if out else 0
        match int(rng.integers(5)):
            case 0:
                out[at : at + 1] = rng.bytes(1)
            case 1:
                out[at : at + 8] = int(rng.choice([0, 1, 2**31 - 1, 2**62])).to_bytes(8, "little")
            case 2:
                del out[at : at + int(rng.integers(1, 65))]
            case 3:
                out[at:at] = out[at : at + int(rng.integers(1, 65))]
            case 4:
                del out[at + (len(out) - at) // 2 * int(rng.integers(2)) + 1 :]
    return bytes(out)


def use(shards: ShardSet) -> None:
    """What a loader, a repartition and an export ask of a generation."""
    for worker in range(min(shards.workers, 4)):
        shards.index(worker)
    shards.worker_of(np.arange(100))
    assert shards.id_bound >= shards.num_samples >= 0
    assert shards.is_compact in (True, False)


@pytest.mark.parametrize("runs", RUNS)
def test_manifests(runs: int, shards: ShardSet) -> None:
    rng, outcomes = np.random.default_rng(0), Counter[str]()
    root = Path(shards.root)
    path, pointer = root / "manifest-000001.json", root / "manifest.json"
    original, points = path.read_bytes(), pointer.read_bytes()
    fields, inside = json.loads(original), str(os.path.realpath(root))
    for run in range(runs):
        changed = json.dumps(change(fields, Random(run))).encode()
        data = changed if run % 3 else change_bytes(original, rng)
        path.write_bytes(data)
        pointer.write_bytes(encode_pointer(1, data) if run % 8 else change_bytes(points, rng))
        try:
            opened = ShardSet.open(root)
            use(opened)
        except DataError as e:
            outcomes["refused"] += 1
            here = os.path.realpath(e.path).startswith(inside)
            assert here, run
        else:
            outcomes["taken"] += 1
            assert all(os.path.realpath(opened.path_of(s.path)).startswith(inside) for s in opened.shards), (
                run
            )
    assert min(outcomes["refused"], outcomes["taken"]) > runs / 100, outcomes


@pytest.mark.parametrize("runs", RUNS)
def test_indexes(runs: int, shards: ShardSet, tmp_path: Path) -> None:
    rng, outcomes = np.random.default_rng(0), Counter[str]()
    whole = shards.index(0)
    original = encode(replace(whole, files=offers.relative(shards, whole)))
    for run in range(runs):
        data = change_bytes(original, rng)
        try:
            found = decode(data, "mutant")
        except DataError as e:
            outcomes["refused"] += 1
            named = e.path == "mutant"
            assert named, run
        else:
            outcomes["taken"] += 1
            assert sound(found), run
    assert min(outcomes["refused"], outcomes["taken"]) > runs / 100, outcomes


def sound(index: SampleIndex) -> bool:
    """Everything can be asked of it, and every part lies in its sample and file."""
    if not len(index):
        return True
    rows = np.repeat(np.arange(len(index)), np.diff(index.part_start))
    inside = index.part_offset + index.part_size <= (index.offset + index.nbytes)[rows]
    within = index.offset + index.nbytes <= index.file_bytes[index.file]
    return bool(
        inside.all() and within.all() and index.digest and index.key(0) and len(index.key_buffers) == 2
    )


def read_or_refused(framed: File, offset: int, nbytes: int) -> bytes | None:
    try:
        return framed.pread(offset, nbytes)
    except DataError as e:
        named = (e.path, e.offset) == (framed.path, offset)
        assert named
        return None


@pytest.mark.parametrize("runs", RUNS)
def test_frames_and_their_tables(runs: int, tmp_path: Path) -> None:
    """A table cuts all that is before it into frames, and none holds more than it says."""
    rng, outcomes = np.random.default_rng(0), Counter[str]()
    content = rng.integers(0, 9, 6000, np.uint8).tobytes()
    cuts = [0, 1, 2000, 2001, 6000]
    (tmp_path / "content").write_bytes(content)
    with open(tmp_path / "content", "rb") as plain, open(tmp_path / "x.tar.zst", "w+b") as out:
        write_frames(plain.fileno(), cuts, out, 3)
        out.seek(0)
        original = out.read()
    frames = {content[a:b] for a, b in itertools.pairwise(cuts)}
    body = len(original) - (8 + 8 * (len(cuts) - 1) + 9)
    for run in range(runs):
        parts = original[:body], original[body:]
        data = change_bytes(original, rng) if run % 4 == 0 else parts[0] + change_bytes(parts[1], rng)
        file = Memory(data)
        try:
            table = SeekTable.read(file)
        except DataError as e:
            outcomes["refused"] += 1
            named = e.path == file.path and e.offset is not None and 0 <= e.offset <= len(data)
            assert named, run
            continue
        outcomes["taken"] += 1
        inside = 0 < table.stored[-1] < len(data) and (np.diff(table.content) <= 1 << 30).all()
        assert inside and table.stored[0] == table.content[0] == 0, run  # noqa: PT018
        with content_of(file) as framed:
            for at, nbytes in zip(table.content.tolist(), np.diff(table.content).tolist(), strict=False):
                found = read_or_refused(framed, at, nbytes)
                outcomes["frame refused" if found is None else "frame read"] += 1
                assert found is None or found in frames, run
    assert min(outcomes.values()) > runs / 100, outcomes
    assert len(outcomes) == 4


@pytest.mark.parametrize("runs", RUNS)
def test_offers_and_notes(runs: int, shards: ShardSet) -> None:
    rng, outcomes = np.random.default_rng(0), Counter[str]()
    offer = zlib.decompress(offers.pack(shards, shards.index(0)))
    notes = (Path(shards.root) / "worker-000" / "job-000001.json").read_bytes()
    for run in range(runs):
        mutant = change_bytes(offer, rng)
        try:
            found = offers.unpack(shards, zlib.compress(mutant, 0) if run % 4 else mutant, "rank 1")
        except DataError as e:
            outcomes["refused"] += 1
            named = e.path == "rank 1"
            assert named, run
        else:
            outcomes["taken"] += 1
            assert set(found.files) <= {shards.path_of(s.path) for s in shards.shards}, run
        head, finished, end = journal.parse(change_bytes(notes, rng))
        assert end <= len(notes) + 400
        assert head is None or isinstance(head["job"], str)
        assert all(type(n) is int and type(c) is int for n, c in finished.values())
    assert min(outcomes["refused"], outcomes["taken"]) > runs / 100, outcomes
