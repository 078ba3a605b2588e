"""Shards that are not what they were: one clear error that names file, key and offset."""

import os
import shutil

import numpy as np
import pytest

from pyimportance import DataError, ImportanceDataset, ShardSet


@pytest.fixture
def damaged(shard_set, tmp_path):
    """A copy to damage: (shard set, index of worker 0, row 5 of it, path of that row's shard)."""
    shutil.copytree(shard_set((31, 33))[0].root, tmp_path / "set")
    shards = ShardSet.open(tmp_path / "set")
    index = shards.index(0)
    return shards, index, 5, index.files[index.file[5]]


def overwrite(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def error_of(shards):
    with pytest.raises(DataError) as caught:
        list(ImportanceDataset(shards, rank=0, world_size=2))
    return caught.value


def test_a_header_that_is_overwritten(damaged):
    shards, index, row, path = damaged
    overwrite(path, int(index.offset[row]), bytes(512))
    error = error_of(shards)
    assert (error.path, error.member, error.offset) == (path, index.key(row), index.offset[row])
    assert str(error).startswith(
        f"{path}, member {index.key(row)!r}, offset {index.offset[row]}: no tar header"
    )


def test_another_sample_in_its_place(damaged):
    shards, index, row, path = damaged
    with open(path, "rb") as file:
        file.seek(int(index.offset[row + 1]))
        header = file.read(512)
    overwrite(path, int(index.offset[row]), header)
    error = error_of(shards)
    assert error.member == index.key(row)
    assert error.problem.startswith(f"the member here is '{index.key(row + 1)}.")


@pytest.mark.parametrize("change", [-512, 512])
def test_a_shard_of_another_length(damaged, change):
    shards, _, _, path = damaged
    nbytes = os.path.getsize(path)
    os.truncate(path, nbytes + change)
    error = error_of(shards)
    assert error.path == path
    assert error.problem == f"has {nbytes + change} bytes; {nbytes} were written"
    assert error.member is not None
    assert error.offset is not None


def test_a_shard_that_is_gone(damaged):
    shards, _, _, path = damaged
    os.remove(path)
    assert str(error_of(shards)) == f"{path}: does not exist"


def test_an_index_that_is_damaged_shows_before_anything_is_read(damaged):
    shards, _, _, _ = damaged
    path = os.path.join(shards.root, shards.manifest.indexes[0].path)
    overwrite(path, os.path.getsize(path) // 2, b"\xff" * 8)
    with pytest.raises(DataError, match="CRC32C") as caught:
        ImportanceDataset(shards.root, rank=0, world_size=2)
    assert caught.value.path == path


def test_samples_before_the_damage_are_yielded_and_files_closed(damaged, open_below):
    shards, index, row, path = damaged
    overwrite(path, int(index.offset[row]), bytes(512))
    dataset = ImportanceDataset(shards, rank=0, world_size=2, shuffle=False, mix="sequential", window_bytes=1)
    samples = []
    with pytest.raises(DataError):
        samples.extend(iter(dataset))
    assert [sample["__index__"] for sample in samples] == index.ids[:row].tolist()
    assert open_below(shards.root) == []


def test_a_payload_is_not_looked_at(damaged):
    """That is `verify`'s business: loading checks what costs nothing."""
    shards, index, row, path = damaged
    part = index.part_start[row]
    overwrite(path, int(index.part_offset[part]), b"x")
    samples = list(ImportanceDataset(shards, rank=0, world_size=2))
    assert sorted(s["__index__"] for s in samples if not s["__pad__"]) == np.sort(index.ids).tolist()
