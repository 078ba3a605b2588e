"""write_shards: what readers find in the shards, their exact form, and every refusal."""

from __future__ import annotations

import itertools
import os
import re
import tarfile
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
    Scores,
    ShardSet,
    partition,
    repartition,
    write_shards,
)
from pyimportance.io.storage import open_files
from pyimportance.shards import delta, plan, work

Divide = Callable[..., Partition]
KEY = re.compile(r"((?:.*/|)[^.]+)[.]")


def samples_of(source: Path, read_wds: Any) -> list[dict[str, Any]]:
    return [s for tar in sorted(source.glob("*.tar")) for s in read_wds(tar)]


def test_webdataset_reads_the_same_samples(
    source: Path, tmp_path: Path, divide: Divide, read_wds: Any
) -> None:
    parts = divide(pyimportance.index(source), 3, 2)
    shards = write_shards(source, parts, tmp_path / "out", shard_bytes=60_000)
    expected = samples_of(source, read_wds)
    for worker in range(3):
        for bin_ in range(2):
            own = [s for s in shards.shards if (s.worker, s.bin) == (worker, bin_)]
            assert len(own) > 1
            read = [s for shard in own for s in read_wds(tmp_path / "out" / shard.path)]
            assert read == [expected[i] for i in parts.group(worker, bin_)]


def test_cifar_slice(test_data: Path, tmp_path: Path, divide: Divide, read_wds: Any) -> None:
    index = pyimportance.index(test_data / "cifar10" / "train-*.tar", limit=6000)
    shards = write_shards(index, divide(index, 2), tmp_path / "out", keys="prefix")
    expected = {f"{Path(tar).stem}/{s.pop('__key__')}": s for tar in index.files for s in read_wds(tar)}
    read = {s.pop("__key__"): s for shard in shards.shards for s in read_wds(shards.path_of(shard.path))}
    assert len(read) == 6000
    assert all(expected[key] == sample for key, sample in read.items())


def test_indexes_find_every_byte(source: Path, tmp_path: Path, divide: Divide) -> None:
    original = pyimportance.index(source)
    parts = divide(original, 3, 2)
    shards = write_shards(original, parts, tmp_path / "out", shard_bytes=60_000)
    for worker in range(3):
        index = shards.index(worker)
        assert index.ids.tolist() == parts.worker(worker).tolist()
        assert index.bin is not None
        assert index.bin.tolist() == parts.bin_of(index.ids).tolist()
        assert index.score is not None
        assert parts.values is not None
        start = parts.offsets[2 * worker]
        assert index.score.tolist() == parts.values[start : start + len(index)].tolist()
        for row, old in enumerate(original.rows_of(index.ids).tolist()):
            assert index.key(row) == original.key(old)
            assert parts_in(index, row) == parts_in(original, old)


def parts_in(index: pyimportance.SampleIndex, row: int) -> dict[str, bytes]:
    found = {}
    with open(index.files[index.file[row]], "rb") as file:
        for p in range(index.part_start[row], index.part_start[row + 1]):
            file.seek(index.part_offset[p])
            found[index.extensions[index.part_ext[p]]] = file.read(index.part_size[p])
    return found


def test_canonical_form(source: Path, tmp_path: Path, divide: Divide) -> None:
    shards = write_shards(source, divide(pyimportance.index(source), 1), tmp_path / "out")
    path = Path(shards.path_of(shards.shards[0].path))
    with tarfile.open(path) as tar:
        members = tar.getmembers()
    for m in members:
        assert (m.mtime, m.uid, m.gid, m.mode, m.uname, m.gname) == (0, 0, 0, 0o444, "", "")
        needs_pax = not m.name.isascii()
        assert m.pax_headers == ({"path": m.name} if needs_pax else {})
        assert m.offset_data - m.offset == 512 + (1024 if needs_pax else 0)
    names = [m.name for m in members]
    by_key = [KEY.match(name)[1] for name in names]  # type: ignore[index]
    assert len(list(itertools.groupby(by_key))) == 66  # parts stay together
    for key in set(by_key):
        own = [n for n, k in zip(names, by_key, strict=True) if k == key]
        assert own == sorted(own)
    assert not any(n.endswith(".JPG") for n in names)
    assert path.read_bytes().endswith(bytes(1024))
    assert (
        path.stat().st_size
        == sum(512 * (1 + -(-m.size // 512)) + 1024 * (not m.name.isascii()) for m in members) + 1024
    )


@pytest.mark.parametrize("length", [99, 100, 101, 155, 156, 157, 255, 256, 257, 400])
def test_names_at_the_limits_of_ustar(
    length: int, tmp_path: Path, write_tar: Any, read_tar: Any, divide: Divide
) -> None:
    for slash in (1, 50, 99, 100, 101, 154, 155, 156):
        name = "n" * (length - 2) + ".x"
        if slash < length - 3:
            name = name[:slash] + "/" + name[slash + 1 :]
        source = write_tar(tmp_path / "a.tar", [(name, b"data")], dialect=tarfile.PAX_FORMAT)
        shards = write_shards(source, divide(1, 1), tmp_path / f"out-{slash}")
        path = shards.path_of(shards.shards[0].path)
        assert read_tar(path) == {name: b"data"}
        fits = length <= 100 or ("/" in name and slash <= 155 and length - slash - 1 <= 100)
        assert (os.path.getsize(path) == 2048) == fits


def test_manifests_are_renamed_when_all_they_name_is_there(
    source: Path, tmp_path: Path, divide: Divide, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed: list[str] = []
    rename, out = os.replace, tmp_path / "out"

    def note(old: str, new: str) -> None:
        rename(old, new)
        renamed.append(os.path.relpath(new, out))

    monkeypatch.setattr(os, "replace", note)
    sets = [write_shards(source, divide(66, 3, 2), out, shard_bytes=60_000)]
    first, renamed = renamed, []
    sets.append(repartition(sets[0], divide(66, 3, 2, seed=1)))
    for generation, (shards, names) in enumerate(zip(sets, (first, renamed), strict=True)):
        assert names[-2:] == [f"manifest-{generation:06d}.json", "manifest.json"]
        before = [s.path for s in shards.shards if f"/g{generation:06d}-" in s.path]
        before += [i.path for i in shards.manifest.indexes]
        assert len(before) > 12
        assert sorted(names[:-2]) == sorted(before)


def test_all_that_a_manifest_names_is_synced_before_it(
    source: Path, tmp_path: Path, divide: Divide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every shard before it has its name, its name before the manifest has one; a folder once for all.

    Native threads sync the shards that they write (`test_disks_that_fail` sees how), and say so by ending.
    """
    events: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.replace
    begin, wait = _C.TarCopier.begin, _C.TarCopier.wait
    written: dict[tuple[_C.TarCopier, int], str] = {}

    def sync(fd: int) -> None:
        events.append(("synced", os.readlink(f"/proc/self/fd/{fd}")))
        fsync(fd)

    def begun(copier: _C.TarCopier, out: int, *columns: Any) -> int:
        task = begin(copier, out, *columns)
        if columns[-1]:
            written[copier, task] = os.readlink(f"/proc/self/fd/{out}")
        return task

    def waited(copier: _C.TarCopier, task: int) -> tuple[int, int, int, int]:
        outcome = wait(copier, task)
        events.append(("synced", written[copier, task]))
        return outcome

    def name(old: str, new: str) -> None:
        rename(old, new)
        events.append((os.fspath(old), os.fspath(new)))

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", name)
    monkeypatch.setattr(_C.TarCopier, "begin", begun)
    monkeypatch.setattr(_C.TarCopier, "wait", waited)
    root = tmp_path / "out"
    sets = [write_shards(source, divide(66, 3, 2), root, shard_bytes=30_000)]
    sets.append(repartition(sets[0], divide(66, 3, 2, seed=1)))
    names = [new for _, new in events]
    for shards in sets:
        manifest = names.index(str(root / f"manifest-{shards.generation:06d}.json"))
        new = [s.path for s in shards.shards if f"/g{shards.generation:06d}-" in s.path]
        assert len(new) > 12
        for path in [*new, *(i.path for i in shards.manifest.indexes)]:
            named = names.index(str(root / path))
            assert ("synced", events[named][0]) in events[:named]
            assert ("synced", str((root / path).parent)) in events[named:manifest]
    written = len(sets[0].shards)
    first = names.index(str(root / "manifest.json"))
    assert sum(event[0] == "synced" for event in events[:first]) < written + 30


def test_empty_groups_cost_nothing(
    source: Path, tmp_path: Path, divide: Divide, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        return plan.plan_group(*arguments, **options)

    for module in (work, delta):
        monkeypatch.setattr(module, "plan_group", counted)
    many = divide(66, 2, 1_000_000)
    shards = write_shards(source, many, tmp_path / "out")
    assert (calls, len(shards.shards)) == (66, 66)  # a bin for each
    moved = divide(66, 2, 1_000_000, seed=1)
    new = repartition(shards, moved)
    assert 66 < calls <= 3 * 66
    for generation, parts in ((shards, many), (new, moved)):
        for worker in range(2):
            index = generation.index(worker)
            assert index.bin is not None
            assert index.bin.tolist() == parts.bin_of(index.ids).tolist()


def test_same_bytes_everywhere(source: Path, tmp_path: Path, divide: Divide, tree: Any) -> None:
    parts = divide(pyimportance.index(source), 3, 2)
    one = write_shards(source, parts, tmp_path / "one", shard_bytes=60_000)
    moved = tmp_path / "elsewhere"
    source.rename(moved)
    two = write_shards(sorted(moved.iterdir()), parts, tmp_path / "two", shard_bytes=60_000)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert one.digest == two.digest
    for name in tree(tmp_path / "one"):
        assert str(tmp_path).encode() not in (tmp_path / "one" / name).read_bytes()
    other = write_shards(moved, divide(pyimportance.index(moved), 3, 2, seed=1), tmp_path / "three")
    assert other.digest != one.digest


def test_shards_are_cut_at_their_size(source: Path, tmp_path: Path, divide: Divide) -> None:
    parts = divide(pyimportance.index(source), 1)
    for shard_bytes in (1, 30_000, 100_000):
        shards = write_shards(source, parts, tmp_path / str(shard_bytes), shard_bytes=shard_bytes)
        for this, following in zip(shards.shards, [*shards.shards[1:], None], strict=True):
            assert this.nbytes <= shard_bytes or this.samples == 1
            if following is not None:  # the next sample would not have fitted
                first = shards.index(0).nbytes[sum(s.samples for s in shards.shards if s.path <= this.path)]
                assert this.nbytes + first > shard_bytes
    assert len(write_shards(source, parts, tmp_path / "whole").shards) == 1
    assert len(ShardSet.open(tmp_path / "1").shards) == 66


def test_a_subset_and_idle_workers(source: Path, tmp_path: Path, read_wds: Any) -> None:
    chosen = np.array([3, 30, 64], np.int64)
    parts = partition(Scores(ids=chosen, values=np.array([1, 3, 2], np.float32)), 5, bins=2)
    shards = write_shards(source, parts, tmp_path / "out")
    assert shards.num_samples == 3
    assert [len(shards.index(w)) for w in range(5)] == [1, 1, 1, 0, 0]
    assert shards.worker_of(np.array([64, 3, 4, 30], np.int64)).tolist() == [1, 2, -1, 0]
    assert sum(len(read_wds(tmp_path / "out" / s.path)) for s in shards.shards) == 3


def test_scores_that_are_unknown(source: Path, tmp_path: Path, divide: Divide) -> None:
    index = pyimportance.index(source)
    values = np.full(index.num_samples, np.nan, np.float32)
    values[:40] = np.arange(40)
    with pytest.warns(UserWarning, match="NaN"):
        parts = partition(Scores(values=values), 1, bins=3)
    shards = write_shards(index, parts, tmp_path / "nan")
    assert [(s.score_min, s.score_max) for s in shards.shards] == [(18.0, 39.0), (0.0, 17.0), (None, None)]
    plain = write_shards(index, replace(parts, values=None), tmp_path / "none")
    assert plain.index(0).score is None
    assert {s.score_min for s in plain.shards} == {None}


def test_ids_that_the_source_lacks(source: Path, tmp_path: Path, divide: Divide) -> None:
    text = "partition does not fit the source: 3 of 69 ids are not among the 66 samples; the first is 6[678]"
    with pytest.raises(ArgumentError, match=text):
        write_shards(source, divide(69, 2), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_keys_that_two_tars_share(tmp_path: Path, write_tar: Any, read_tar: Any, divide: Divide) -> None:
    for name in ("a", "b.c"):
        write_tar(tmp_path / f"{name}.tar", [(f"d/{name}.x", b""), ("0.x", name.encode())])
    with pytest.raises(
        ArgumentError,
        match=r"key '0' is in .*/a\.tar \(offset 512\) and in .*/b\.c\.tar \(offset 512\); keys='prefix'",
    ):
        write_shards(tmp_path, divide(4, 1), tmp_path / "out")
    shards = write_shards(tmp_path, divide(4, 1), tmp_path / "out", keys="prefix")
    assert read_tar(shards.path_of(shards.shards[0].path)) == {
        "a/0.x": b"a",
        "a/d/a.x": b"",
        "b.c/0.x": b"b.c",
        "b.c/d/b.c.x": b"",
    }


def test_stems_that_two_tars_share(tmp_path: Path, write_tar: Any, divide: Divide) -> None:
    for folder in ("p", "q"):
        (tmp_path / folder).mkdir()
        write_tar(tmp_path / folder / "a.tar", [("0.x", b"")])
    with pytest.raises(
        ArgumentError, match=r"key 'a/0' is in .*/p/a\.tar .* and in .*/q/a\.tar \(offset 0\)$"
    ):
        write_shards(f"{tmp_path}/{{p,q}}/a.tar", divide(2, 1), tmp_path / "out", keys="prefix")
    only_one = partition(Scores(ids=np.array([1]), values=np.ones(1, np.float32)), 1)
    assert write_shards(f"{tmp_path}/{{p,q}}/a.tar", only_one, tmp_path / "out").num_samples == 1


def test_keys_that_a_reader_would_not_find(tmp_path: Path, write_tar: Any, divide: Divide) -> None:
    index = pyimportance.index(write_tar(tmp_path / "__a__.tar", [("0.x", b"")]))
    with pytest.raises(
        ArgumentError, match=r"key '__a__/0': a reader would not find it again in '__a__/0\.x'"
    ):
        write_shards(index, divide(1, 1), tmp_path / "out", keys="prefix")
    import pyarrow as pa

    dotted = replace(index, keys=pa.array(["a.b"], pa.large_string()))
    with pytest.raises(ArgumentError, match=r"key 'a\.b': a reader would not find it again"):
        write_shards(dotted, divide(1, 1), tmp_path / "out2")


def test_a_source_that_changed(source: Path, tmp_path: Path, divide: Divide) -> None:
    index = pyimportance.index(source)
    changed = source / "data-003.tar"
    size = changed.stat().st_size
    os.truncate(changed, size - 20_000)
    text = rf"data-003\.tar: has {size - 20_000} bytes; it had {size} when it was indexed"
    with pytest.raises(DataError, match=text):
        write_shards(index, divide(index, 1), tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("exchange", ["direct", "spool"])
def test_a_source_that_changes_while_it_is_read(
    exchange: Any, source: Path, tmp_path: Path, divide: Divide
) -> None:
    """A payload is written anew, behind the reader or before it: then nothing is complete."""
    index, changed, out = pyimportance.index(source), source / "data-003.tar", tmp_path / "out"
    parts, data, before = divide(index, 2), changed.read_bytes(), changed.stat().st_mtime_ns

    def change(done: int, total: int) -> None:
        with open(changed, "r+b") as file:
            file.seek(int(index.part_offset[-1]))
            file.write(b"?")

    with pytest.raises(DataError, match=r"data-003\.tar: was changed while it was read"):
        write_shards(index, parts, out, exchange=exchange, progress=change)
    assert not (out / "manifest.json").exists()
    if exchange == "direct":
        with pytest.raises(OutputError, match=r"made from an earlier state of data-003\.tar"):
            write_shards(index, parts, out)
        changed.write_bytes(data)  # as it was: what is finished counts again
        os.utime(changed, ns=(before, before))
    assert write_shards(index, parts, out, exchange=exchange).verify().ok


def test_a_source_that_is_shorter_than_it_says(
    source: Path, tmp_path: Path, divide: Divide, monkeypatch: Any
) -> None:
    """The native reader's own check, for a source cut while it is copied."""
    from pyimportance.shards import copy

    index = pyimportance.index(source)
    monkeypatch.setattr(copy, "open_sources", lambda index, *_, **__: open_files(index.files))
    last = source / "data-003.tar"
    end = int(index.part_offset[-1] + index.part_size[-1])
    os.truncate(last, end - 1)
    key = index.key(index.num_samples - 1)
    with pytest.raises(DataError, match=r"data-003\.tar, member .*: the file ends here") as caught:
        write_shards(index, divide(index, 1), tmp_path / "out")
    assert caught.value.member is not None
    assert caught.value.member.startswith(key)
    assert caught.value.offset == end - 1


def test_options(source: Path, tmp_path: Path, divide: Divide) -> None:
    parts = divide(pyimportance.index(source), 1)
    with pytest.raises(ArgumentError, match="shard_bytes=0: must be at least 1"):
        write_shards(source, parts, tmp_path / "out", shard_bytes=0)
    with pytest.raises(ArgumentError, match="keys='rename': allowed are 'error' and 'prefix'"):
        write_shards(source, parts, tmp_path / "out", keys="rename")  # type: ignore[arg-type]
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file: is a file; give a directory"):
        write_shards(source, parts, tmp_path / "file")
