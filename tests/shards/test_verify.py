"""verify finds every damage, and names the place."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyimportance
from pyimportance import _C, DataError, Partition, ShardSet, write_shards
from pyimportance.io.frames import content_of
from pyimportance.io.meter import Meter
from pyimportance.io.storage import open_file
from pyimportance.shards import verify as module
from pyimportance.shards.index import index_of, scan_file
from pyimportance.shards.index_file import encode
from pyimportance.shards.listed import is_listed

Divide = Callable[..., Partition]


@pytest.fixture
def shards(source: Path, tmp_path: Path, divide: Divide) -> ShardSet:
    return write_shards(
        source, divide(pyimportance.index(source), 2, 2), tmp_path / "out", shard_bytes=60_000
    )


def test_a_sound_set(shards: ShardSet) -> None:
    meter = Meter()
    report = shards.verify(threads=3, meter=meter)
    assert report.ok
    assert (report.samples, report.nbytes) == (66, sum(s.nbytes for s in shards.shards))
    assert str(report) == f"{len(shards.shards)} shards, 66 samples, {report.nbytes} bytes: sound"
    assert meter.bytes("disk") == report.nbytes


def test_every_byte_matters(shards: ShardSet) -> None:
    info = shards.shards[1]
    path = Path(shards.root) / info.path
    data = path.read_bytes()
    for at in range(0, len(data), 997):
        path.write_bytes(data[:at] + bytes([data[at] ^ 64]) + data[at + 1 :])
        problems = shards.verify().problems
        assert problems
        assert {p.file for p in problems} == {info.path}
    path.write_bytes(data)
    assert shards.verify().ok


def test_a_missing_and_a_short_shard(shards: ShardSet) -> None:
    gone, short = shards.shards[0], shards.shards[-1]
    (Path(shards.root) / gone.path).unlink()
    os.truncate(Path(shards.root) / short.path, 512)
    report = shards.verify()
    assert not report.ok
    assert [str(p) for p in report.problems] == [
        f"{gone.path}: does not exist",
        f"{short.path}: has 512 bytes; the manifest says {short.nbytes}",
    ]
    assert str(report).endswith(f"2 problems\n{report.problems[0]}\n{report.problems[1]}")


def test_a_damaged_index_is_one_problem(shards: ShardSet) -> None:
    path = Path(shards.root) / "worker-001" / "index-000000.arrow"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    problems = shards.verify().problems
    assert [p.file for p in problems] == ["worker-001/index-000000.arrow"]
    assert "has CRC32C" in problems[0].problem


@pytest.mark.parametrize("column", ["offset", "keys", "part_size", "part_offset", "nbytes", "extensions"])
def test_an_index_that_names_wrong_places(
    column: str, tmp_path: Path, write_tar: Callable[..., Path]
) -> None:
    path = write_tar(tmp_path / "a.tar", [("x.txt", b"1"), ("y.txt", bytes(600)), ("z.txt", bytes(20))])
    found = scan_file(str(path))
    assert module._compare("a.tar", found, found) == []
    with open_file(path) as file:
        columns, _ = _C.tar_scan([(file.handle, file.size, file.path)], False, -1)
    assert is_listed(found, 0, file, columns)
    changed: dict[str, Any] = {
        "offset": {"offset": np.array([0, 1536, 2560]), "nbytes": np.array([1024, 1024, 1024])},
        "keys": {"keys": found.keys.take([0, 2, 1])},
        "part_size": {"part_size": np.array([1, 599, 20])},
        "part_offset": {"part_offset": np.array([512, 1537, 3072]), "part_size": np.array([1, 600, 20])},
        "nbytes": {"nbytes": np.array([1024, 1536, 1536])},
        "extensions": {"extensions": ("jpg",)},
    }
    wrong = replace(found, **changed[column])
    assert not is_listed(wrong, 0, file, columns)
    rows = {"keys": [1, 2], "extensions": [0, 1, 2], "nbytes": [2]}.get(column, [1])
    problems = module._compare("a.tar", wrong, found)
    assert [p.offset for p in problems] == wrong.offset[rows].tolist()
    assert [p.member for p in problems] == [wrong.key(r) for r in rows]
    assert str(problems[0]).startswith("a.tar, member ")
    assert str(problems[0]).endswith("the sample here is not as its index says")


def test_an_index_that_names_wrong_frames(source: Path, tmp_path: Path, divide: Divide) -> None:
    shards = write_shards(source, divide(66, 1), tmp_path / "out", compression="zstd", frame_bytes=20_000)
    index, path = shards.index(0), shards.path_of(shards.shards[0].path)
    assert index.frame is not None
    assert index.frame.max() > 2
    wrong = index.frame.copy()
    wrong[7] += 1
    with content_of(open_file(path)) as tar:
        columns, _ = _C.tar_scan([(tar.handle, tar.size, tar.path)], False, -1)
        assert is_listed(index, 0, tar, columns)
        assert not is_listed(replace(index, frame=wrong), 0, tar, columns)
        found = index_of([(path, tar)], columns)
    (problem,) = module._compare("a.tar", replace(index, frame=wrong), found)
    assert problem.member == index.key(7)


def test_one_shard_that_cannot_be_read_is_one_problem(
    shards: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though others are read by the same call."""
    monkeypatch.setattr(module, "_runs", lambda own, nbytes: [range(len(own))])
    assert min(sum(s.worker == w for s in shards.shards) for w in range(2)) > 2
    info = shards.shards[1]
    scan = _C.tar_sum_and_scan

    def fails(files: Any, **options: Any) -> Any:
        for _, _, path in files:
            if path.endswith(info.path):
                raise DataError("cannot be read (Input/output error)", path=path, offset=512)
        return scan(files, **options)

    monkeypatch.setattr(_C, "tar_sum_and_scan", fails)
    meter = Meter()
    (problem,) = shards.verify(meter=meter).problems
    assert str(problem) == f"{info.path}, offset 512: cannot be read (Input/output error)"
    assert meter.bytes("disk") == sum(s.nbytes for s in shards.shards) - info.nbytes


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_payloads_are_compared_with_an_index_that_has_checksums(
    compression: Any, source: Path, tmp_path: Path, divide: Divide
) -> None:
    """Whichever of the two is not what it was, though files sum to what the manifest says."""
    whole = pyimportance.index(source, checksums=True)
    shards = write_shards(
        whole, divide(66, 2), tmp_path / "out", shard_bytes=60_000, compression=compression, order="shuffled"
    )
    assert shards.verify().ok
    index, info = shards.index(1), shards.manifest.indexes[1]
    assert index.part_crc32c is not None
    part = len(index.part_crc32c) // 2
    row = int(np.searchsorted(index.part_start, part, side="right")) - 1
    right = int(index.part_crc32c[part])
    forged = index.part_crc32c.copy()
    forged[part] ^= 1
    changed = replace(index, part_crc32c=forged, files=tuple(s.path for s in shards.shards if s.worker == 1))
    data = encode(changed)
    Path(shards.path_of(info.path)).write_bytes(data)
    put_right = replace(info, nbytes=len(data), crc32c=_C.crc32c(data))
    manifest = replace(shards.manifest, indexes=(shards.manifest.indexes[0], put_right))
    (problem,) = replace(shards, manifest=manifest).verify().problems
    assert shards.path_of(problem.file) == index.files[index.file[row]]
    assert problem.member == f"{index.key(row)}.{index.extensions[index.part_ext[part]]}"
    assert problem.offset == index.part_offset[part]
    says = f"has CRC32C {right:#010x}; its index says {right ^ 1:#010x}"
    assert problem.problem == f"the payload here {says}"


def test_a_damaged_payload_names_its_member(source: Path, tmp_path: Path, divide: Divide) -> None:
    whole = pyimportance.index(source, checksums=True)
    shards = write_shards(whole, divide(66, 2), tmp_path / "out", shard_bytes=60_000)
    index = shards.index(0)
    part = int(np.argmax(index.part_size))
    row = int(np.searchsorted(index.part_start, part, side="right")) - 1
    with open(index.files[index.file[row]], "r+b") as file:
        file.seek(int(index.part_offset[part] + index.part_size[part]) - 1)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([last ^ 1]))
    of_file, of_payload = shards.verify().problems
    assert "the manifest says" in of_file.problem
    assert of_payload.member == f"{index.key(row)}.{index.extensions[index.part_ext[part]]}"
    assert of_payload.offset == index.part_offset[part]
    assert of_payload.problem.startswith("the payload here has CRC32C 0x")


def test_a_shard_with_many_problems_lists_the_first(tmp_path: Path, write_tar: Callable[..., Path]) -> None:
    path = write_tar(tmp_path / "a.tar", [(f"{i}.x", b"") for i in range(50)])
    found = scan_file(str(path))
    wrong = replace(found, keys=found.keys.take(list(range(49, -1, -1))))
    assert len(module._compare("a.tar", wrong, found)) == 10


def test_progress_goes_to_the_end(shards: ShardSet) -> None:
    calls: list[tuple[int, int]] = []
    report = shards.verify(progress=lambda *call: calls.append(call))
    assert len(calls) == len(shards.shards)
    assert calls == sorted(calls)
    assert calls[-1] == (report.nbytes, report.nbytes)
