"""Payloads that change under the same headers, sizes and times: seen where somebody has their checksums."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyimportance
from pyimportance import (
    _C,
    ArgumentError,
    DataError,
    OutputError,
    Partition,
    SampleIndex,
    ShardSet,
    compact,
    repartition,
    spool,
    write_shards,
)
from pyimportance.shards import index_file, pool

Divide = Callable[..., Partition]


def flip(path: str | Path, offset: int) -> None:
    """Another byte there, with neither size nor time changed."""
    status = os.stat(path)
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def payload(index: SampleIndex, part: int) -> bytes:
    (row,) = np.flatnonzero((index.part_start[:-1] <= part) & (part < index.part_start[1:]))
    with open(index.files[index.file[row]], "rb") as file:
        file.seek(int(index.part_offset[part]))
        return file.read(int(index.part_size[part]))


def place(index: SampleIndex, part: int) -> tuple[str, str, int]:
    """(file, member, offset) of a part's payload."""
    row = int(np.searchsorted(index.part_start, part, side="right")) - 1
    member = f"{index.key(row)}.{index.extensions[index.part_ext[part]]}"
    return index.files[index.file[row]], member, int(index.part_offset[part])


@pytest.mark.parametrize("limit", [None, 5])
def test_an_index_with_checksums(source: Path, limit: int | None, tmp_path: Path) -> None:
    plain = pyimportance.index(source, limit=limit)
    index = pyimportance.index(source, limit=limit, checksums=True)
    assert plain.part_crc32c is None
    assert index.part_crc32c is not None
    assert index.part_crc32c.tolist() == [
        _C.crc32c(payload(index, part)) for part in range(len(index.part_size))
    ]
    assert replace(index, part_crc32c=None).digest == plain.digest != index.digest
    index.save(tmp_path / "index.arrow")
    loaded = SampleIndex.load(tmp_path / "index.arrow")
    assert loaded.digest == index.digest
    assert loaded.part_crc32c is not None
    assert loaded.part_crc32c.tolist() == index.part_crc32c.tolist()
    with pytest.raises(ArgumentError, match=r"part_crc32c is int64 \[3\]; expected uint32 \[\d+\]"):
        replace(index, part_crc32c=np.zeros(3, np.int64))
    with pytest.raises(ArgumentError, match="checksums"):
        pyimportance.index(source, checksums="yes")  # type: ignore[arg-type]


def test_checksums_that_do_not_fit_the_parts(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = pyimportance.index(source, checksums=True)
    assert index.part_crc32c is not None
    batch = index_file._batch

    def fewer(*arguments: Any) -> Any:
        made = batch(*arguments)
        sums = made["crc32c"]
        shifted = sums.from_arrays([0] * len(sums) + [len(sums.flatten())], sums.flatten(), type=sums.type)
        return made.set_column(made.schema.get_field_index("crc32c"), made.schema.field("crc32c"), shifted)

    monkeypatch.setattr(index_file, "_batch", fewer)
    with pytest.raises(DataError, match="has not as many checksums as parts"):
        index_file.decode(index_file.encode(index), "it")


@pytest.mark.parametrize("window", [1, 1 << 20])
def test_a_payload_that_changes_between_index_and_write(  # noqa: PLR0917
    source: Path, tmp_path: Path, divide: Divide, window: int, monkeypatch: Any, tree: Any, write_tar: Any
) -> None:
    """Wherever in a payload, also in one of many windows; put right again, the run goes on."""
    monkeypatch.setattr(pool, "LOCAL_WINDOW", window)
    write_tar(source / "large.tar", [("large.bin", bytes(300_000))])
    index, parts = pyimportance.index(source, checksums=True), divide(67, 2)
    write_shards(index, parts, tmp_path / "whole", shard_bytes=30_000)
    largest = int(np.argmax(index.part_size))
    for number, (part, at) in enumerate(((0, 0), (largest, 0), (largest, int(index.part_size[largest]) - 1))):
        path, member, offset = place(index, part)
        flip(path, offset + at)
        out = tmp_path / str(number)
        text = rf"{re.escape(path)}, member '{re.escape(member)}', offset {offset}: its payload has CRC32C "
        with pytest.raises(DataError, match=text + r"0x.{8}; the index says 0x.{8}\. The tar was changed"):
            write_shards(index, parts, out, shard_bytes=30_000)
        assert not (out / "manifest.json").exists()
        write_shards(source, parts, tmp_path / f"without-{number}")  # nobody knows
        flip(path, offset + at)
        write_shards(index, parts, out, shard_bytes=30_000)
        assert tree(out) == tree(tmp_path / "whole")


def test_samples_of_shards_are_compared_when_they_move(
    source: Path, tmp_path: Path, divide: Divide, tree: Any
) -> None:
    index = pyimportance.index(source, checksums=True)
    shards = write_shards(index, divide(index, 3, 2), tmp_path / "out", shard_bytes=60_000)
    for worker in range(3):
        own = shards.index(worker)
        assert own.part_crc32c is not None
        assert own.part_crc32c.tolist() == [
            _C.crc32c(payload(own, part)) for part in range(len(own.part_size))
        ]
    later = divide(index, 3, 2, seed=1)
    own = shards.index(0)
    moving = np.flatnonzero(later.worker_of(own.ids) == 1)[0]
    part = int(own.part_start[moving])
    path, member, offset = place(own, part)
    flip(path, offset)
    before = tree(tmp_path / "out")
    text = rf"member '{re.escape(member)}', offset {offset}: its payload has .* The shard is damaged"
    with pytest.raises(DataError, match=text):
        repartition(shards, later)
    with pytest.raises(DataError, match=text):
        compact(shards, shard_bytes=30_000)
    assert before.items() <= tree(tmp_path / "out").items()
    flip(path, offset)
    moved = compact(repartition(shards, later))
    assert moved.verify().ok
    assert all(moved.index(w).part_crc32c is not None for w in range(3))


def test_a_lost_index_with_checksums_is_made_again(source: Path, tmp_path: Path, divide: Divide) -> None:
    parts = divide(66, 2)
    shards = write_shards(pyimportance.index(source, checksums=True), parts, tmp_path / "out")
    lost = Path(shards.path_of(shards.manifest.indexes[1].path))
    data = lost.read_bytes()
    lost.unlink()
    assert ShardSet.open(shards.root).repair(partition=parts).ok
    assert lost.read_bytes() == data


def test_what_goes_through_a_spool_is_compared(source: Path, tmp_path: Path, divide: Divide) -> None:
    index = spool(source, tmp_path / "spool", allow_missing_eof=True)  # as for an exchange
    assert index.part_crc32c is not None
    path, member, offset = place(index, int(np.argmax(index.part_size)))
    assert path.startswith(str(tmp_path / "spool"))
    flip(path, offset)
    text = rf"{re.escape(path)}, member '{re.escape(member)}', offset {offset}: its payload has CRC32C"
    with pytest.raises(DataError, match=text):
        write_shards(source, divide(66, 2), tmp_path / "out", spool=tmp_path / "spool", exchange="spool")
    with pytest.raises(DataError, match=text):
        write_shards(index, divide(66, 2), tmp_path / "other")
    flip(path, offset)
    write_shards(source, divide(66, 2), tmp_path / "out", spool=tmp_path / "spool", exchange="spool")


def test_a_spool_that_keeps_other_bytes_than_were_written(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced = os.replace

    def damaging(old: str, new: str) -> None:
        if str(new).endswith(".tar"):
            flip(old, 700)
        replaced(old, new)

    monkeypatch.setattr(os, "replace", damaging)
    with pytest.raises(OutputError, match=r"\.tar: has CRC32C 0x.{8}; 0x.{8} was written to it"):
        spool(source, tmp_path / "spool")
    assert not list((tmp_path / "spool").glob("*.tar"))
    monkeypatch.undo()
    spool(source, tmp_path / "spool")
