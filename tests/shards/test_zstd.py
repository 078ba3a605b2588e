"""Compressed shards: streams for everybody, random access for us, and all that is done with shards."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

import pyimportance
from pyimportance import (
    DataError,
    ImportanceDataset,
    OutputError,
    Partition,
    SampleIndex,
    ShardSet,
    repartition,
    write_shards,
)
from pyimportance.account.baselines import VanillaDataset
from pyimportance.io.meter import Meter
from pyimportance.io.seek_table import SeekTable
from pyimportance.io.storage import open_file
from pyimportance.shards.compact import compact
from pyimportance.shards.layout import Layout, Zstd
from pyimportance.shards.prune import prune
from pyimportance.shards.repair import repair

Divide = Callable[..., Partition]
ZSTD: dict[str, Any] = {"shard_bytes": 150_000, "compression": "zstd", "frame_bytes": 20_000}


@pytest.fixture
def index(source: Path) -> SampleIndex:
    return pyimportance.index(source)


@pytest.fixture
def parts(divide: Divide) -> Partition:
    return divide(66, 2, 2)


@pytest.fixture
def shards(index: SampleIndex, parts: Partition, tmp_path: Path) -> ShardSet:
    return write_shards(index, parts, tmp_path / "out", **ZSTD)


@pytest.fixture
def plain(index: SampleIndex, parts: Partition, tmp_path: Path) -> ShardSet:
    return write_shards(index, parts, tmp_path / "plain", shard_bytes=150_000)


def tar_in(path: str | Path) -> bytes:
    with open(path, "rb") as file:
        return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read()


def samples(shards: ShardSet) -> list[list[dict[str, Any]]]:
    """Of every worker, in an epoch's order, without what names files."""
    found = []
    for rank in range(shards.workers):
        data = ImportanceDataset(shards, rank=rank, world_size=shards.workers)
        found.append([{k: v for k, v in s.items() if k != "__url__"} for s in data])
    return found


def test_the_tars_inside_are_the_plain_ones(shards: ShardSet, plain: ShardSet) -> None:
    assert len(shards.shards) == len(plain.shards) > 4
    for ours, theirs in zip(shards.shards, plain.shards, strict=True):
        assert ours.path == f"{theirs.path}.zst"
        tar = tar_in(shards.path_of(ours.path))
        assert tar == Path(plain.path_of(theirs.path)).read_bytes()
        assert ours == replace(
            theirs, path=ours.path, nbytes=ours.nbytes, crc32c=ours.crc32c, tar_bytes=len(tar)
        )
    assert sum(s.nbytes for s in shards.shards) != sum(s.nbytes for s in plain.shards)


def test_the_commands_of_the_manual(shards: ShardSet) -> None:
    path = shards.path_of(shards.shards[0].path)
    line = f"zstd -dc '{path}' | tar t --quoting-style=literal"
    command = subprocess.run(line, shell=True, capture_output=True, check=True)
    assert command.stderr == b""
    with tarfile.open(fileobj=io.BytesIO(tar_in(path))) as tar:
        assert command.stdout.decode().splitlines() == tar.getnames()


def test_frames_are_cut_between_samples(shards: ShardSet) -> None:
    larger = 0
    for worker in range(shards.workers):
        index = shards.index(worker)
        assert index.frame is not None
        for number, path in enumerate(index.files):
            with open_file(path) as file:
                cuts = SeekTable.read(file).content
            rows = np.flatnonzero(index.file == number)
            begin, end = index.offset[rows], (index.offset + index.nbytes)[rows]
            frame = index.frame[rows]
            assert (cuts[frame] <= begin).all()
            assert (end <= cuts[frame + 1]).all()
            assert set(frame.tolist()) == set(range(len(cuts) - 1))
            held = np.diff(cuts)
            held[-1] -= 1024  # what ends the tar
            alone = np.bincount(frame) == 1
            assert (held[~alone] <= 20_000).all()
            # None ends while the next sample would have found room.
            following = (end - begin)[np.searchsorted(begin, cuts[1:-1])]
            assert (held[:-1] + following > 20_000).all()
            larger += int((held > 20_000).sum())
    assert larger


def test_level_and_frame_size_reach_the_frames(tmp_path: Path, divide: Divide, write_tar: Any) -> None:
    """Each frame is what zstd makes of its bytes at that level, and says its size, its sum and a window."""
    texts = [path.read_bytes() for path in sorted(Path(pyimportance.__file__).parent.rglob("*.py"))[:40]]
    source = write_tar(tmp_path / "a.tar", [(f"k{i:02d}.txt", text) for i, text in enumerate(texts)])
    parts, sizes, frames = divide(40, 1), {}, {}
    for level, frame_bytes in ((1, 40_000), (9, 40_000), (19, 40_000), (9, 1), (9, 1 << 20)):
        out = tmp_path / f"{level}-{frame_bytes}"
        shards = write_shards(source, parts, out, compression="zstd", level=level, frame_bytes=frame_bytes)
        index, path = shards.index(0), shards.path_of(shards.shards[0].path)
        with open_file(path) as file:
            table, data = SeekTable.read(file), file.pread(0, file.size)
        ends = set((index.offset + index.nbytes).tolist())
        assert set(table.content[1:-1].tolist()) <= ends
        for begin, end, held in zip(table.stored[:-1], table.stored[1:], np.diff(table.content), strict=True):
            frame = data[begin:end]
            said = zstandard.get_frame_parameters(frame)
            assert (said.content_size, said.has_checksum) == (held, True)
            assert said.window_size <= max(held, 1024)  # of what is known to be short, no more is asked for
            content = zstandard.ZstdDecompressor().decompress(frame)
            options = {"write_checksum": True, "write_content_size": True}
            assert frame == zstandard.ZstdCompressor(level=level, **options).compress(content)
        sizes[level, frame_bytes], frames[level, frame_bytes] = len(data), len(table.content) - 1
    assert sizes[1, 40_000] > sizes[9, 40_000] > sizes[19, 40_000]
    assert sizes[9, 1] > sizes[9, 40_000] > sizes[9, 1 << 20]
    assert frames[9, 1] == 40 > frames[9, 40_000] == frames[1, 40_000] > frames[9, 1 << 20] == 1


def test_a_sample_larger_than_any_frame_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyimportance.shards import layout

    monkeypatch.setattr(layout, "MAX_FRAME", 10_000)
    end = np.array([500, 26_000, 26_500, 36_400])
    assert Zstd(frame_bytes=1000).cuts(end) == (0, 500, 10_500, 20_500, 26_000, 26_500, 36_400, 37_424)


def test_the_same_bytes_again(
    shards: ShardSet, index: SampleIndex, parts: Partition, tmp_path: Path, tree: Any
) -> None:
    write_shards(index, parts, tmp_path / "again", **ZSTD)
    assert tree(tmp_path / "again") == tree(tmp_path / "out")
    assert write_shards(index, parts, tmp_path / "out", **ZSTD).digest == shards.digest
    for other in ({"level": 4}, {"frame_bytes": 20_001}, {"compression": None, "frame_bytes": None}):
        with pytest.raises(OutputError, match="of another job"):
            write_shards(index, parts, tmp_path / "out", **ZSTD | other)


def test_what_the_manifest_says(shards: ShardSet, plain: ShardSet, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(shards.root, "manifest-000000.json")
    fields = json.loads(path.read_text())
    library = ".".join(map(str, zstandard.ZSTD_VERSION))
    said = {"format": "zstd", "level": 3, "frame_bytes": 20_000, "library": library}
    assert (fields["version"], fields["compression"]) == (2, said)
    assert shards.manifest.layout == Layout(150_000, compression=Zstd(3, 20_000))
    assert shards.manifest.encode() == path.read_bytes()
    old = json.loads(Path(plain.root, "manifest-000000.json").read_text())
    assert old["version"] == 1
    assert not {"compression", "library"} & old.keys()
    assert not any("tar_bytes" in s for s in old["shards"])


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("compression", "zstd", "field 'compression': must be an object"),
        ("compression", {"format": "lz4"}, "field 'compression.format': must be 'zstd'"),
        (
            "compression",
            {"format": "zstd", "level": 23},
            "field 'compression.level': must be",
        ),
        ("compression", {"format": "zstd", "level": 3, "frame_bytes": 0}, "field 'compression.frame_bytes'"),
        ("version", 3, "has format version 3; this release reads 1 and 2"),
    ],
)
def test_manifests_that_are_not_sound(shards: ShardSet, field: str, value: Any, problem: str) -> None:
    from pyimportance.shards.fields import Fields
    from pyimportance.shards.manifest import _decode

    fields = json.loads(Path(shards.root, "manifest-000000.json").read_text()) | {field: value}
    with pytest.raises(DataError) as raised:
        _decode(Fields(json.dumps(fields).encode(), "m.json"), 0)
    assert raised.value.problem.startswith(problem)


def test_killed_and_run_again(
    source: Path, parts: Partition, shards: ShardSet, tmp_path: Path, tree: Any
) -> None:
    parts.save(tmp_path / "parts")
    program = """
import os, signal, sys
from pyimportance import Partition, write_shards
source, parts, out, point = sys.argv[1:]
rename, left = os.replace, [int(point)]
def replace(old, new):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(old, new)
os.replace = replace
write_shards(source, Partition.load(parts), out, shard_bytes=150_000, compression="zstd", frame_bytes=20_000)
"""
    whole = tree(tmp_path / "out")
    for point in (1, 4, len(shards.shards) + 3):
        out = tmp_path / f"killed-{point}"
        command = [sys.executable, "-c", program, str(source), str(tmp_path / "parts"), str(out), str(point)]
        assert subprocess.run(command, check=False).returncode == -9
        kept = {p: p.stat().st_ino for p in out.rglob("*.tar.zst")}
        meters = [Meter(), Meter()]
        write_shards(source, parts, out, meters=meters, **ZSTD)
        assert tree(out) == whole
        same = [p for p, inode in kept.items() if p.stat().st_ino == inode]
        assert len(same) >= len(kept) - 4  # of those at work at a time, some may not have been noted
        assert sum(m.bytes("disk") for m in meters) == sum(p.stat().st_size for p in same)


def test_the_loader(shards: ShardSet, plain: ShardSet) -> None:
    for ours, theirs in zip(samples(shards), samples(plain), strict=True):
        by_id = {s["__index__"]: s for s in theirs}
        assert {s["__index__"]: s for s in ours} == by_id
        assert len(ours) == len(by_id)


def test_the_loader_counts_what_it_reads_of_the_file(shards: ShardSet) -> None:
    data = ImportanceDataset(shards, rank=0, world_size=2)
    assert len(list(data)) == len(data)
    files = sum(s.nbytes for s in shards.shards if s.worker == 0)
    assert data.io_report().bytes("disk") == files


def test_the_loader_reads_only_the_frames_it_needs(shards: ShardSet) -> None:
    data = ImportanceDataset(shards, rank=0, world_size=2, keep=0.1)
    kept = {s["__index__"] for s in data}
    index = shards.index(0)
    needed = 0
    for number, path in enumerate(index.files):
        rows = (index.file == number) & np.isin(index.ids, list(kept))
        if rows.any():
            with open_file(path) as file:
                table = SeekTable.read(file)
            assert index.frame is not None
            needed += int(np.diff(table.stored)[np.unique(index.frame[rows])].sum()) + table.cost[0]
    assert data.io_report().bytes("disk") == needed


def test_loader_processes(shards: ShardSet) -> None:
    from torch.utils.data import DataLoader

    data = ImportanceDataset(shards, rank=0, world_size=2, batch_size=4)
    loader = DataLoader(data, batch_size=4, num_workers=2, collate_fn=list)
    ids = [s["__index__"] for batch in loader for s in batch]
    assert sorted(ids) == sorted(shards.index(0).ids.tolist())


def test_repartition_and_compact(
    shards: ShardSet, plain: ShardSet, divide: Divide, index: SampleIndex, tmp_path: Path
) -> None:
    second = divide(66, 2, 2, seed=1)
    meters = [Meter(), Meter()]
    moved, expected = repartition(shards, second, meters=meters), repartition(plain, second)
    assert moved.verify().ok
    delta = [s for s in moved.shards if "g000001" in s.path]
    assert delta
    for ours, theirs in zip(moved.shards, expected.shards, strict=True):
        assert tar_in(moved.path_of(ours.path)) == Path(expected.path_of(theirs.path)).read_bytes()
    assert 0 < sum(m.bytes("origin") for m in meters) <= sum(s.nbytes for s in shards.shards)
    assert repartition(shards, second).digest == moved.digest

    whole = compact(moved)
    fresh = write_shards(index, second, tmp_path / "fresh", **ZSTD)
    assert [(s.nbytes, s.crc32c, s.tar_bytes) for s in whole.shards] == [
        (s.nbytes, s.crc32c, s.tar_bytes) for s in fresh.shards
    ]
    assert compact(whole).digest == whole.digest
    assert whole.verify().ok

    tars = {p.name for p in Path(shards.root).rglob("*.tar.zst")}
    assert prune(whole).generations == (0, 1)
    left = {p.name for p in Path(shards.root).rglob("*.tar.zst")}
    assert left == {Path(s.path).name for s in whole.shards} < tars


def test_shards_from_compressed_shards(
    shards: ShardSet, plain: ShardSet, parts: Partition, tmp_path: Path
) -> None:
    """Frames are decompressed and their payloads copied under canonical headers."""
    own = shards.index(0)
    ids = np.arange(own.num_samples)
    source = replace(own, ids=ids, score=None, bin=None)
    theirs = replace(plain.index(0), ids=ids, score=None, bin=None)
    division = Partition(1, 1, ids, np.array([0, len(ids)]))
    ours = write_shards(source, division, tmp_path / "a")
    assert [s.crc32c for s in ours.shards] == [
        s.crc32c for s in write_shards(theirs, division, tmp_path / "b").shards
    ]


def test_the_baseline_reads_them_too(shards: ShardSet) -> None:
    index = shards.index(0)
    with closing(VanillaDataset(index)) as data:
        found = {s["__index__"]: s for s in data}
        assert data.io_report().bytes("origin") >= sum(s.nbytes for s in shards.shards if s.worker == 0)
    for s in ImportanceDataset(shards, rank=0, world_size=2):
        assert found[s["__index__"]] == s


def test_verify(shards: ShardSet) -> None:
    meter = Meter()
    report = shards.verify(meter=meter)
    assert report.ok, report
    assert report.nbytes == sum(s.nbytes for s in shards.shards)
    info = shards.shards[1]
    path = Path(shards.path_of(info.path))
    data = path.read_bytes()
    for at in range(0, len(data), max(1, len(data) // 23)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 64]) + data[at + 1 :])
        problems = shards.verify().problems
        assert problems
        assert {p.file for p in problems} == {info.path}
    path.write_bytes(data)
    assert shards.verify().ok


def test_verify_tells_another_tar_in_its_place(shards: ShardSet) -> None:
    """One that is sound in itself."""
    info = shards.shards[0]
    path = Path(shards.path_of(info.path))
    other = Path(shards.path_of(shards.shards[1].path)).read_bytes()
    path.write_bytes(other)
    manifest = replace(shards.manifest, shards=(replace(info, nbytes=len(other)), *shards.shards[1:]))
    problems = replace(shards, manifest=manifest).verify().problems
    assert [p.problem for p in problems] == [
        f"holds a tar of {shards.shards[1].tar_bytes} bytes; the manifest says {info.tar_bytes}"
    ]


def test_the_loader_tells_what_is_damaged(shards: ShardSet) -> None:
    info = max((s for s in shards.shards if s.worker == 0), key=lambda s: s.samples)
    path = Path(shards.path_of(info.path))
    with open_file(path) as file:
        table = SeekTable.read(file)
    data = bytearray(path.read_bytes())
    data[int(table.stored[1]) - 2] ^= 1  # of the first frame's checksum
    path.write_bytes(data)
    with pytest.raises(DataError, match="frame 0, which begins at 0 of the compressed file") as raised:
        list(ImportanceDataset(shards, rank=0, world_size=2))
    assert raised.value.path == str(path)
    assert raised.value.member is not None

    path.write_bytes(bytes(data)[:-1] + b"x")
    with pytest.raises(DataError, match="no seek table of zstd ends here"):
        list(ImportanceDataset(shards, rank=0, world_size=2))


def test_repair(shards: ShardSet, parts: Partition, tmp_path: Path, tree: Any) -> None:
    before = tree(tmp_path / "out")
    Path(shards.path_of(shards.manifest.indexes[1].path)).unlink()
    assert repair(ShardSet.open(shards.root), partition=parts).ok
    assert tree(tmp_path / "out") == before
