"""Shards that are not what they were: one clear error that names file, member and offset."""

import os
import shutil

import numpy as np
import pytest

from pyimportance import DataError, ImportanceDataset, Scores, ShardSet, partition, write_shards


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


def name_of(index, part):
    row = int(np.searchsorted(index.part_start, part, side="right")) - 1
    return f"{index.key(row)}.{index.extensions[index.part_ext[part]]}"


@pytest.mark.parametrize("part", [0, 1])
def test_a_header_that_is_overwritten(damaged, part):
    shards, index, row, path = damaged
    at = int(index.part_start[row]) + part
    header = int(index.part_offset[at]) - 512
    overwrite(path, header, b"?")
    error = error_of(shards)
    assert (error.path, error.member, error.offset) == (path, name_of(index, at), header)
    assert error.problem == (
        f"the index has this member here, of {index.part_size[at]} bytes; found at {header}: no tar header, "
        "or a damaged one: its checksum does not match. The shard is damaged, or another file lies in its "
        "place: `verify` says all that is wrong"
    )


def test_another_sample_in_its_place(damaged):
    shards, index, row, path = damaged
    with open(path, "rb") as file:
        file.seek(int(index.offset[row + 1]))
        header = file.read(512)
    overwrite(path, int(index.offset[row]), header)
    error = error_of(shards)
    assert error.member == name_of(index, index.part_start[row])
    assert f"; found '{name_of(index, index.part_start[row + 1])}' of " in error.problem


@pytest.mark.parametrize("name", ["{}.x", "d/" * 60 + "{}.x", "é/" * 20 + "{}.x", "n" * 5000 + "{}.x"])
@pytest.mark.parametrize("change", ["swap", "size"])
def test_a_shard_that_was_written_again(write_tar, tmp_path, name, change):
    """Of the same size, with headers of every form: a name, a prefix, a pax record, a long one."""
    key = name[:-2].format
    samples = [(key(i), {"cls": b"%d" % i, "x": b"%d" % i * 600}) for i in range(4)]
    write_tar(tmp_path / "a.tar", samples)
    parts = partition(Scores(-np.arange(4, dtype=np.float32)), 1)
    shards = write_shards(tmp_path / "a.tar", parts, tmp_path / "set")
    assert len(list(ImportanceDataset(shards, rank=0, world_size=1))) == 4
    if change == "swap":
        samples[1], samples[2] = samples[2], samples[1]
    else:
        samples[2][1]["x"] += b"!"
    write_tar(tmp_path / "b.tar", samples)
    other = write_shards(tmp_path / "b.tar", parts, tmp_path / "other")
    shutil.copyfile(other.path_of(other.shards[0].path), shards.path_of(shards.shards[0].path))
    with pytest.raises(
        DataError, match=r"(?s)the index has this member here, of .* bytes; found '"
    ) as caught:
        list(ImportanceDataset(shards, rank=0, world_size=1))
    assert caught.value.path == shards.path_of(shards.shards[0].path)
    assert caught.value.member == (f"{key(1)}.cls" if change == "swap" else f"{key(2)}.x")


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
