"""Jobs at the same time, what a crash leaves, and links: nothing committed or foreign is ever touched."""

from __future__ import annotations

import os
import re
import tarfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import pyimportance
from pyimportance import (
    ArgumentError,
    DataError,
    OutputError,
    Partition,
    SampleIndex,
    Scores,
    ShardSet,
    partition,
    repartition,
    write_shards,
)
from pyimportance.io.lock import locked
from pyimportance.io.meter import Meter
from pyimportance.shards import generations, index_file
from pyimportance.shards.generations import commit_generation, write_delta

Divide = Callable[..., Partition]


@pytest.fixture
def shards(source: Path, tmp_path: Path, divide: Divide) -> ShardSet:
    return write_shards(source, divide(66, 3), tmp_path / "out", shard_bytes=60_000)


def test_a_commit_between_the_choice_of_a_number_and_the_writing(
    shards: ShardSet, divide: Divide, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = divide(66, 3, seed=1), divide(66, 3, seed=2)
    original = generations._divide
    committed: list[ShardSet] = []

    def divide_late(*arguments: Any) -> Any:
        divided = original(*arguments)
        monkeypatch.setattr(generations, "_divide", original)
        committed.append(repartition(shards, a))
        return divided

    monkeypatch.setattr(generations, "_divide", divide_late)
    late = repartition(shards, b)
    (early,) = committed
    assert {early.generation, late.generation} == {1, 2}
    for made, parts in ((early, a), (late, b)):
        again = ShardSet.open(shards.root, generation=made.generation)
        assert again.verify().ok
        assert again.worker_of(np.arange(66)).tolist() == parts.worker_of(np.arange(66)).tolist()
    assert repartition(shards, a).digest == early.digest


def test_a_generation_that_was_taken_over_cannot_be_committed(shards: ShardSet, divide: Divide) -> None:
    a, b = divide(66, 5, seed=1), divide(66, 2, seed=2)
    records = [write_delta(shards, a, w) for w in range(5)]
    new = repartition(shards, b)
    assert new.generation == 1
    left = {p.name for p in (Path(shards.root) / "worker-004").iterdir()}
    assert left == set()  # although the new job has no such worker
    with pytest.raises(OutputError, match=r"records|was committed by another job|taken this generation over"):
        commit_generation(shards, a, records)
    assert ShardSet.open(shards.root).digest == new.digest
    assert new.verify().ok


def test_half_written_manifests_of_a_dead_process_are_removed(shards: ShardSet, divide: Divide) -> None:
    root = Path(shards.root)
    half = [root / f"{name}.0123abcd.tmp" for name in ("manifest-000001.json", "manifest.json")]
    other = root / "notes.json.0123abcd.tmp"
    for path in (*half, other):
        path.write_text("{")
    writing = threading.Thread(target=write_delta, args=(shards, divide(66, 3, seed=1), 0))
    with locked(str(root / "job.json")):  # a process that commits, and is alive
        writing.start()
        writing.join(0.2)
        assert all(path.exists() for path in half)
    writing.join()
    assert [path.name for path in root.glob("*.tmp")] == [other.name]
    half[0].write_text("{")
    repartition(shards, divide(66, 3, seed=1))
    assert [path.name for path in root.glob("*.tmp")] == [other.name]


def test_what_cannot_be_removed_is_named(shards: ShardSet, divide: Divide) -> None:
    (Path(shards.root) / "manifest-000001.json.0123abcd.tmp").mkdir()
    with pytest.raises(OutputError, match=r"manifest-000001\.json\.0123abcd\.tmp: cannot be removed"):
        repartition(shards, divide(66, 3, seed=1))


def test_records_of_shards_that_were_written_again(shards: ShardSet, divide: Divide) -> None:
    parts = divide(66, 3, seed=1)
    records = [write_delta(shards, parts, w) for w in range(3)]
    notes = Path(shards.root) / "worker-001" / "job-000001.json"
    notes.write_bytes(notes.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(OutputError, match=r"worker-001/g000001-.*: was written again since"):
        commit_generation(shards, parts, records)


def test_a_link_in_the_place_of_a_worker_leads_nowhere(
    shards: ShardSet, tmp_path: Path, divide: Divide
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "g000001-bin00-000009.tar").write_text("precious")
    (Path(shards.root) / "worker-003").symlink_to(outside)
    with pytest.raises(OutputError, match=r"worker-003: is a link"):
        repartition(shards, divide(66, 4, seed=1))
    assert {p.name: p.read_text() for p in outside.iterdir()} == {"g000001-bin00-000009.tar": "precious"}


@pytest.mark.parametrize("name", ["manifest.json", "manifest-000000.json"])
def test_a_manifest_that_is_a_link_out(shards: ShardSet, tmp_path: Path, name: str) -> None:
    (Path(shards.root) / name).rename(tmp_path / "elsewhere.json")
    (Path(shards.root) / name).symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(DataError, match="leads out of"):
        ShardSet.open(shards.root)


class StopHereError(Exception):
    """An interruption at a known place."""


def stop(done: int, total: int) -> None:
    raise StopHereError


def test_a_bit_that_flipped_between_two_runs(source: Path, tmp_path: Path, divide: Divide, tree: Any) -> None:
    parts = divide(66, 2)
    write_shards(source, parts, tmp_path / "whole", shard_bytes=30_000)
    out = tmp_path / "out"
    with pytest.raises(StopHereError):
        write_shards(pyimportance.index(source), parts, out, shard_bytes=30_000, progress=stop)
    flipped = sorted(out.rglob("*.tar"))
    assert flipped
    for path in flipped:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    assert write_shards(source, parts, out, shard_bytes=30_000).verify().ok
    assert tree(out) == tree(tmp_path / "whole")


def test_a_bit_that_flipped_in_a_delta(shards: ShardSet, divide: Divide, tree: Any) -> None:
    parts = divide(66, 3, seed=1)
    record = write_delta(shards, parts, 0)
    before = tree(Path(shards.root))
    path = next((Path(shards.root) / "worker-000").glob("g000001-*.tar"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert write_delta(shards, parts, 0).shards == record.shards
    assert tree(Path(shards.root)) == before


@pytest.mark.parametrize("finished", [False, True])
def test_a_source_that_was_changed_since(
    finished: bool, source: Path, tmp_path: Path, divide: Divide, tree: Any
) -> None:
    parts, out = divide(66, 2), tmp_path / "out"
    if finished:
        write_shards(source, parts, out, shard_bytes=30_000)
    else:
        with pytest.raises(StopHereError):
            write_shards(pyimportance.index(source), parts, out, shard_bytes=30_000, progress=stop)
    index = pyimportance.index(source)
    changed = source / "data-003.tar"
    data = bytearray(changed.read_bytes())
    last = len(index.part_size) - 20 + int(np.argmax(index.part_size[-20:]))
    data[int(index.part_offset[last])] ^= 1
    changed.write_bytes(data)
    os.utime(changed, ns=(0, 1))
    before = tree(out)
    with pytest.raises(OutputError, match=r"earlier state of data-003\.tar, which was changed since"):
        write_shards(source, parts, out, shard_bytes=30_000)
    assert tree(out) == before


@pytest.mark.parametrize("mebibytes", [1, 2, 40])
def test_an_index_with_an_extension_without_end(tmp_path: Path, write_tar: Any, mebibytes: int) -> None:
    """A header that does not fit into the writer's window must not be written past its end."""
    from pyimportance import _C

    index = pyimportance.index(write_tar(tmp_path / "a.tar", [("k.x", b"1" * 10)]))
    long = "a" * (mebibytes << 20)
    start, text = np.array([0, 1]), np.frombuffer(b"k", np.uint8)
    columns = (index.part_start, index.part_ext, index.part_size)
    with pytest.raises(ArgumentError, match=r"an extension of .* bytes; at most 1024"):
        _C.tar_header_sizes(start, text, [long], *columns)
    more = (index.file, index.offset, index.part_offset)
    for canonical in (False, True):
        copier = _C.TarCopier([(0, 0, "a", "")], canonical, 1)
        with pytest.raises(ArgumentError, match=r"an extension of .* bytes; at most 1024"):
            copier.wait(copier.begin(0, start, text, [long], *columns, *more, None, 1 << 20, False))
    index = hostile(index, extensions=(long,))
    index_path = tmp_path / "a.arrow"
    index_path.write_bytes(index_file.encode(index))
    with pytest.raises(DataError, match="at most 1024"):
        SampleIndex.load(index_path)


def hostile(index: SampleIndex, **fields: Any) -> SampleIndex:
    """An index whose fields nobody checked."""
    made: SampleIndex = object.__new__(SampleIndex)
    made.__dict__.update({**vars(index), **fields})
    return made


@pytest.mark.parametrize("extension", ["__index__", "a/b", "a\0", "a\n", "JPG", "É"])
def test_extensions_that_are_refused(tmp_path: Path, write_tar: Any, extension: str) -> None:
    index = pyimportance.index(write_tar(tmp_path / "a.tar", [("k.x", b"1")]))
    with pytest.raises(ArgumentError, match="extension"):
        replace(index, extensions=(extension,))


def test_an_extension_that_repeats_in_a_sample(tmp_path: Path, write_tar: Any) -> None:
    index = pyimportance.index(write_tar(tmp_path / "a.tar", [("j.x", b""), ("k.x", b"1"), ("k.y", b"2")]))
    with pytest.raises(ArgumentError, match="sample 'k' has the extension 'x' twice"):
        replace(index, part_ext=np.zeros(3, np.int32))
    upper = write_tar(tmp_path / "b.tar", [("k.É", b"1"), ("k.x", b""), ("j.é", b"2")])
    assert pyimportance.index(upper).extensions == ("x", "é")
    both = write_tar(tmp_path / "c.tar", [("k.É", b"1"), ("k.é", b"2")])
    with pytest.raises(DataError, match="sample 'k' has the extension 'é' twice"):
        pyimportance.index(both)


@pytest.mark.parametrize("key", ["/a", "../a", "a/../b", "..", "\\a", "a\\..\\b"])
def test_keys_that_lead_out(tmp_path: Path, write_tar: Any, key: str) -> None:
    index = pyimportance.index(write_tar(tmp_path / "a.tar", [("j.x", b""), ("k.x", b"1")]))
    keys = pa.array(["j", key], pa.large_string())
    text = re.escape(f"key {key!r} begins with a slash or has a component '..'")
    with pytest.raises(ArgumentError, match=text):
        replace(index, keys=keys)
    made = hostile(index, keys=keys)
    (tmp_path / "a.arrow").write_bytes(index_file.encode(made))
    with pytest.raises(DataError, match=rf"a\.arrow: is no sound index \({text}"):
        SampleIndex.load(tmp_path / "a.arrow")
    parts = partition(Scores(np.arange(2, dtype=np.float32)), 1)
    with pytest.raises(
        ArgumentError, match=rf"{re.escape(key)}': (its member .* (slash|'\.\.')|a reader would not)"
    ):
        write_shards(made, parts, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.tar"))


def test_a_tar_whose_name_as_a_prefix_leads_out(tmp_path: Path, write_tar: Any) -> None:
    source = write_tar(tmp_path / "...tar", [("k.x", b"1")])
    one = partition(Scores(np.ones(1, np.float32)), 1)
    with pytest.raises(ArgumentError, match=r"key '\.\./k': its member '\.\./k\.x' has a component '\.\.'"):
        write_shards(source, one, tmp_path / "out", keys="prefix")
    assert write_shards(source, one, tmp_path / "out2").num_samples == 1


def test_names_in_errors_are_cut(tmp_path: Path, write_tar: Any) -> None:
    members = [("k" * 60_000 + ".__x", b"")]
    with pytest.raises(DataError) as caught:
        pyimportance.index(write_tar(tmp_path / "b.tar", members, dialect=tarfile.PAX_FORMAT))
    assert len(str(caught.value)) < 1000
    assert caught.value.member is not None
    assert len(caught.value.member) == 60_004
    key = "é" * 30_000 + "."
    index = pyimportance.index(write_tar(tmp_path / "a.tar", [("k.x", b"1")]))
    with pytest.raises(ArgumentError, match=r"key '1é{99}\.\.\.'") as caught_key:
        write_shards(
            replace(index, keys=pa.array(["1" + key], pa.large_string())),
            partition(Scores(np.ones(1, np.float32)), 1),
            tmp_path / "out",
        )
    assert len(str(caught_key.value)) < 1000


def test_samples_between_wanted_ones_are_not_read(tmp_path: Path, write_tar: Any) -> None:
    source = write_tar(tmp_path / "a.tar", [(f"{i:03d}.x", b"x" * 512) for i in range(100)])
    meter = Meter()
    half = partition(Scores(ids=np.arange(0, 100, 2), values=np.ones(50, np.float32)), 1)
    write_shards(source, half, tmp_path / "half", meters=[meter])
    assert meter.bytes("origin") == 50 * 1024  # header and payload


def test_two_tars_with_many_zeros_between(tmp_path: Path, write_tar: Any) -> None:
    one = write_tar(tmp_path / "a.tar", [("a.x", b"1")]).read_bytes()
    two = write_tar(tmp_path / "b.tar", [("b.x", b"2")]).read_bytes()
    joined = tmp_path / "c.tar"
    for zeros in (0, 64 << 10, 300 << 10, 1 << 20):
        joined.write_bytes(one + bytes(zeros) + two)
        with pytest.raises(DataError, match="data after the end-of-archive blocks"):
            pyimportance.index(joined)
    joined.write_bytes(one + bytes(1 << 20))
    assert pyimportance.index(joined).num_samples == 1


def test_a_name_that_is_not_utf8(tmp_path: Path, write_tar: Any) -> None:
    made = write_tar(tmp_path / "a.tar", [("a.x", b"1")])
    os.rename(made, os.fsencode(tmp_path) + b"/\xff.tar")
    with pytest.raises(DataError, match=r"xff\.tar: its name is not UTF-8"):
        pyimportance.index(tmp_path)
